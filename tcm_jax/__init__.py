"""CLIP as a reader and a detector of scene text: CLIP4STR and TCM in JAX and Flax."""

from typing import TYPE_CHECKING, Any

from tcm_jax.version import __version__

__all__ = [
    "Detections",
    "Detector",
    "Reading",
    "Recognizer",
    "SpottedImage",
    "SpottedWord",
    "Spotter",
    "__version__",
]

if TYPE_CHECKING:
    from tcm_jax.detection.detector import Detections, Detector
    from tcm_jax.recognition.recognizer import Reading, Recognizer
    from tcm_jax.spotting.results import SpottedImage, SpottedWord
    from tcm_jax.spotting.spotter import Spotter

_MODULES = {
    "Detections": "detection.detector",
    "Detector": "detection.detector",
    "Reading": "recognition.recognizer",
    "Recognizer": "recognition.recognizer",
    "SpottedImage": "spotting.results",
    "SpottedWord": "spotting.results",
    "Spotter": "spotting.spotter",
}


def __getattr__(name: str) -> Any:
    """Imports the API when it is first used: `import tcm_jax` alone loads neither JAX nor Flax."""
    if name == "SpottedPhoto":  # its name until 0.1
        name = "SpottedImage"
    if name in _MODULES:
        import importlib

        return getattr(importlib.import_module(f"tcm_jax.{_MODULES[name]}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
