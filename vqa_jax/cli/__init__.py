"""DOCSTRING vqa_jax/cli."""
