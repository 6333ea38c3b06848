"""DOCSTRING vqa_jax/benchmarks."""
