"""Labelled test sets: labels, metrics, intervals, runs. Light: imports no JAX."""
