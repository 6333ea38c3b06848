"""DOCSTRING vqa_jax/pairs."""
