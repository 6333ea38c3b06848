"""DOCSTRING vqa_jax/jobs."""
