"""Finds the packages and installs the converters, which lie beside tcm_jax, in it; all else is in pyproject.toml."""

from setuptools import find_namespace_packages, setup

setup(
    packages=[*find_namespace_packages(include=["tcm_jax*"]), "tcm_jax.convert"],
    package_dir={"tcm_jax.convert": "convert"},
)
