"""DOCSTRING vqa_jax/media."""
