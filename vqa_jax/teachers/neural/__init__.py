"""DOCSTRING vqa_jax/teachers/neural."""
