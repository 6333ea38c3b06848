"""Other programs' checkpoints in, and ours out."""
