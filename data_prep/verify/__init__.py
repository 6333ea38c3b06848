"""DOCSTRING data_prep/verify."""
