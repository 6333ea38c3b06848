"""DOCSTRING data_prep/scenes."""
