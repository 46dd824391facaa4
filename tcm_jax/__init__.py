"""CLIP as a reader and a detector of scene text: CLIP4STR and TCM in JAX and Flax."""

from typing import TYPE_CHECKING

__version__ = "0.1.0"
__all__ = [
    "Detections",
    "Detector",
    "Reading",
    "Recognizer",
    "SpottedPhoto",
    "SpottedWord",
    "Spotter",
    "__version__",
]

if TYPE_CHECKING:
    from tcm_jax.detector import Detections, Detector
    from tcm_jax.recognizer import Reading, Recognizer
    from tcm_jax.spotter import Spotter
    from tcm_jax.spotting.results import SpottedPhoto, SpottedWord

_MODULES = {
    "Detections": "detector",
    "Detector": "detector",
    "Reading": "recognizer",
    "Recognizer": "recognizer",
    "SpottedPhoto": "spotting.results",
    "SpottedWord": "spotting.results",
    "Spotter": "spotter",
}


def __getattr__(name: str):
    """Imports the API when it is first used: `import tcm_jax` alone loads neither JAX nor Flax."""
    if name in _MODULES:
        import importlib

        return getattr(importlib.import_module(f"tcm_jax.{_MODULES[name]}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
