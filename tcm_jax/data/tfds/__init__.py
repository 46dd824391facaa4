"""Data sets in the form of TensorFlow Datasets, built from manual downloads and read back without TensorFlow.

    build_tfds("scene_text/icdar2015", "downloads/icdar2015", "tfds")
    scenes = open_tfds("tfds/scene_text/icdar2015", "train")

`SceneText` and `WordImages` are TFDS builders as others are; importing them makes `tfds.builder("scene_text/art")`
known. `layouts` lists the files of a manual folder.
"""

try:
    import importlib_resources  # noqa: F401  # TFDS uses it without declaring it
    import tensorflow_datasets  # noqa: F401
except ImportError as error:
    raise ImportError(f"{error}; install it with: pip install 'tcm_jax[tfds]'") from error

from tcm_jax.data.tfds.builders import SceneText, WordImages, build_tfds
from tcm_jax.data.tfds.reading import TfdsScenes, TfdsWords, open_tfds

__all__ = ["SceneText", "TfdsScenes", "TfdsWords", "WordImages", "build_tfds", "open_tfds"]
