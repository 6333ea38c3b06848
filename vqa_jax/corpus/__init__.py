"""DOCSTRING vqa_jax/corpus."""
