"""CLIP as a scene-text reader: CLIP4STR in JAX and Flax."""

from typing import TYPE_CHECKING

__version__ = "0.1.0"
__all__ = ["Reading", "Recognizer", "__version__"]

if TYPE_CHECKING:
    from tcm_jax.recognizer import Reading, Recognizer


def __getattr__(name: str):
    """Imports the API when it is first used: `import tcm_jax` alone loads neither JAX nor Flax."""
    if name in ("Reading", "Recognizer"):
        from tcm_jax import recognizer

        return getattr(recognizer, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
