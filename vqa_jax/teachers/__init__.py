"""DOCSTRING vqa_jax/teachers."""
