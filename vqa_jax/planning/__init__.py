"""DOCSTRING vqa_jax/planning."""
