"""Reads a corpus back and checks it."""
