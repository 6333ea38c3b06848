"""Offline preparation: files in, video, motion and pair shards out."""
