"""DOCSTRING data_prep/selection."""
