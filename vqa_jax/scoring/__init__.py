"""DOCSTRING vqa_jax/scoring."""
