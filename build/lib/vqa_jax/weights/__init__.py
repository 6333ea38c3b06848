"""Rule tables that map foreign checkpoints to our parameter tree and back."""
