"""What every resumable job is made of: whole files, shared ranges, one publication."""
