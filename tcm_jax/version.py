"""The version of the package, for those below it."""

__version__ = "0.1.0"
