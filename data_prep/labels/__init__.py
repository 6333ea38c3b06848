"""DOCSTRING data_prep/labels."""
