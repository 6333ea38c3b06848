"""Training: sampling, batches, loss, optimizer, step, checkpoints, the run."""
