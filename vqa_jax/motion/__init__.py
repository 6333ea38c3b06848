"""DOCSTRING vqa_jax/motion."""
