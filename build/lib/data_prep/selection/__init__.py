"""Low-level metrics, and a selection that matches their histograms."""
