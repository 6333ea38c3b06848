"""Pair labels written into a prepared corpus."""
