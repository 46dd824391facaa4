"""Sources of annotated images from the entries of a config, see `tcm_jax.data.entries`.

An entry is {"path": PATH, "format": ..., "images": ..., "annotations": ...} (see `open_annotated_images`) or
{"synthetic": {arguments of SyntheticScenes}}.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from tcm_jax.data.entries import Entry, open_entry
from tcm_jax.data.scenes.sources import open_annotated_images
from tcm_jax.data.sources import at_most, check_not_empty, select_held_out, summary
from tcm_jax.records import AnnotatedImage, AnnotatedImageSource, TextRegion


@dataclass(frozen=True)
class DetectionEntry(Entry):
    """An `Entry` of annotated images.

    Args:
        path: folder of one split, or its annotation file.
        synthetic: arguments of `SyntheticScenes`.
        format: of the annotations, "auto" to recognise it.
        images, annotations: folders below `path`, where they are ambiguous.
    """

    format: str = "auto"
    images: str = ""
    annotations: str = ""


class AnnotatedImageSubset:
    """Some of the images of `source`; an `AnnotatedImageSource`.

    Args:
        index: their numbers.
        name: "" for that of the source.
    """

    def __init__(self, source: AnnotatedImageSource, index: Sequence[int] | np.ndarray, name: str = "") -> None:
        self.source = source
        self.index = np.asarray(index, np.int64)
        self.name = name or source.name

    def __len__(self) -> int:
        return len(self.index)

    def __getitem__(self, index: int) -> AnnotatedImage:
        return self.source[int(self.index[index])]

    def regions(self, index: int) -> tuple[TextRegion, ...]:
        """The regions of image `index`, without reading the image."""
        return self.source.regions(int(self.index[index]))

    def image_name(self, index: int) -> str:
        """The name of image `index`, without reading it."""
        return self.source.image_name(int(self.index[index]))

    @property
    def report(self) -> str:
        """What was read and what was left out."""
        return f"{len(self):,} of {summary(self.source)}"


def hold_out(source: AnnotatedImageSource, every: int, held_out: bool, name: str = "") -> AnnotatedImageSubset:
    """The held-out images, numbers `every`, 2 * `every` and so on counted from 1; or the others."""
    return AnnotatedImageSubset(source, select_held_out(np.arange(len(source)), every, held_out), name)


def training_images(entry: DetectionEntry, root: str | Path = "") -> AnnotatedImageSource:
    """The images of an entry to train on; relative paths start at `root`.

    Raises:
        SourceError: there is nothing usable at the path, or an argument is wrong; the message names the entry.
    """
    return _open(entry, root, held_out=False)


def evaluation_images(entry: DetectionEntry, root: str | Path = "") -> AnnotatedImageSource:
    """The images of an entry to evaluate on: the held-out ones, at most `max_samples`, spread evenly.

    Raises:
        SourceError: as `training_images`.
    """
    source = _open(entry, root, held_out=True)
    return AnnotatedImageSubset(source, at_most(np.arange(len(source)), entry.max_samples), entry.name)


def _open(entry: DetectionEntry, root: str | Path, held_out: bool) -> AnnotatedImageSource:
    def render(**arguments: Any) -> AnnotatedImageSource:
        from tcm_jax.render.scenes import SyntheticScenes  # only where a config asks for it

        return SyntheticScenes(**arguments)

    def open_path(path: Path) -> AnnotatedImageSource:
        return open_annotated_images(path, entry.format, entry.images, entry.annotations)

    source = open_entry(entry, root, "scenes", render, open_path)
    if entry.hold_out:
        source = hold_out(source, entry.hold_out, held_out)
    check_not_empty(source, f"{entry.where}: ")
    return source
