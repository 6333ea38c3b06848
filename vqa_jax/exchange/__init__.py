"""DOCSTRING vqa_jax/exchange."""
