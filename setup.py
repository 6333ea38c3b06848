"""Which folders are installed, and under which names; everything else stands in pyproject.toml."""

from setuptools import find_packages, setup

setup(
    packages=[*find_packages(include=["vqa_jax*", "data_prep*"]), "vqa_jax.configs"],
    package_dir={"vqa_jax.configs": "configs"},
)
