"""DOCSTRING vqa_jax/devices."""
