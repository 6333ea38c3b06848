"""Scoring as a step of other systems' pipelines: Ray Data and Apache Beam."""
