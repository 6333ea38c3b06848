"""DOCSTRING vqa_jax/training."""
