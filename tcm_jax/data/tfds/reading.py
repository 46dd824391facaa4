"""Data sets that TFDS has built, read back as sources of annotated images and of crops."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow_datasets as tfds

from tcm_jax.files import local_copy
from tcm_jax.records import AnnotatedImage, SourceError, TextRegion, WordCrop

_INFO = "dataset_info.json"


class _TfdsSource:
    """Random access to a split of a data set of TFDS, whose images stay files."""

    kind = "TFDS"

    def __init__(self, path: str | Path, split: str) -> None:
        self._arguments = str(path), split
        builder = tfds.builder_from_directory(path)
        try:
            self._examples = builder.as_data_source(split=split, decoders={"image": tfds.decode.SkipDecoding()})
        except (KeyError, ValueError, NotImplementedError) as error:
            raise SourceError(f"{path}: {error}") from error
        self.name = f"{builder.info.config_name or builder.name}/{split}"

    def __len__(self) -> int:
        return len(self._examples)

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), self._arguments

    def _example(self, index: int) -> dict[str, Any]:
        return self._examples[range(len(self))[index]]  # IndexError out of range


class TfdsScenes(_TfdsSource):
    """The images of a split built by `SceneText`; an `AnnotatedImageSource`."""

    holds = "scenes"

    def __getitem__(self, index: int) -> AnnotatedImage:
        example = self._example(index)
        return AnnotatedImage(example["image"], _regions(example), example["name"].decode())

    def regions(self, index: int) -> tuple[TextRegion, ...]:
        """The regions of an image."""
        return self[index].regions

    def image_name(self, index: int) -> str:
        """The name of an image."""
        return self[index].name


class TfdsWords(_TfdsSource):
    """The crops of a split built by `WordImages`; a `WordSource`."""

    holds = "words"

    def __getitem__(self, index: int) -> WordCrop:
        example = self._example(index)
        name = f"{self.name}:{index:09d} {example['name'].decode()}"
        return WordCrop(example["image"], example["label"].decode(), name)

    def labels(self) -> Iterator[str]:
        """All labels in order; the images are read too, as the format stores each record in one piece."""
        return (self[index].label for index in range(len(self)))


def open_tfds(path: str | Path, split: str) -> TfdsScenes | TfdsWords:
    """A split of a data set that `build_tfds` has built.

    Args:
        path: the folder of the data set, such as "tfds/scene_text/icdar2015", or of its version, ".../1.0.0".
        split: a name, or a part such as "train[:90%]".

    Raises:
        SourceError: there is no such data set or split, or it holds neither scenes nor words.
    """
    folder = _version(local_copy(path))
    features = set(tfds.builder_from_directory(folder).info.features or ())
    if {"image", "name", "points", "regions"} <= features:
        return TfdsScenes(folder, split)
    if {"image", "name", "label"} <= features:
        return TfdsWords(folder, split)
    raise SourceError(f"{folder} has the features {sorted(features)}; expected a data set of build_tfds")


def _version(path: Path) -> Path:
    if (path / _INFO).is_file():
        return path
    found = sorted(info.parent for info in path.glob(f"*/{_INFO}"))
    if len(found) == 1:
        return found[0]
    listed = ", ".join(folder.name for folder in found)
    raise SourceError(f"{path} holds {f'the versions {listed}' if found else 'no data set of TFDS'}; give one's folder")


def _regions(example: dict[str, Any]) -> tuple[TextRegion, ...]:
    regions = example["regions"]
    polygons = np.split(example["points"], np.cumsum(np.asarray(regions["num_points"], int)))  # and what remains: none
    return tuple(
        TextRegion(polygon, text.decode(), bool(ignore))
        for polygon, text, ignore in zip(polygons, regions["text"], regions["ignore"], strict=False)
    )
