"""DOCSTRING vqa_jax/loop."""
