"""DOCSTRING data_prep/prepare."""
