"""What the steps of a run will cost, before they start."""
