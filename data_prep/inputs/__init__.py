"""DOCSTRING data_prep/inputs."""
