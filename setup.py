"""All of the package is declared in pyproject.toml, except that the converters, which lie beside it, come with it."""

from setuptools import find_namespace_packages, setup

setup(
    packages=[*find_namespace_packages(include=["tcm_jax*"]), "tcm_jax.convert"],
    package_dir={"tcm_jax.convert": "convert"},
)
