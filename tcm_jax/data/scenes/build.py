"""From the entries of a config to scenes: the same entries as those of words, see `tcm_jax.data.words.build`.

An entry is {"path": PATH, "format": ..., "images": ..., "annotations": ...} (see `open_scenes`) or
{"synthetic": {arguments of SyntheticScenes}}.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from tcm_jax.data.scenes.sources import open_scenes
from tcm_jax.data.words.build import Entry
from tcm_jax.files import as_path
from tcm_jax.records import AnnotatedImage, AnnotatedImageSource, SourceError, TextRegion
from tcm_jax.render.scenes import SyntheticScenes


@dataclass(frozen=True)
class DetectionEntry(Entry):
    """An `Entry` of scenes.

    Args:
        path: folder of one split, or its label file.
        synthetic: arguments of `SyntheticScenes`.
        format: of the annotations, "auto" to recognise it.
        images, annotations: folders below `path`, where they have to be told apart.
    """

    format: str = "auto"
    images: str = ""
    annotations: str = ""


class AnnotatedImageSubset:
    """Some of the scenes of `source`.

    Args:
        index: their numbers.
        name: "" for that of the source.
    """

    def __init__(self, source: AnnotatedImageSource, index: Sequence[int] | np.ndarray, name: str = ""):
        self.source = source
        self.index = np.asarray(index, np.int64)
        self.name = name or source.name

    def __len__(self) -> int:
        return len(self.index)

    def __getitem__(self, index: int) -> AnnotatedImage:
        return self.source[int(self.index[index])]

    def regions(self, index: int) -> tuple[TextRegion, ...]:
        return self.source.regions(int(self.index[index]))

    def image_name(self, index: int) -> str:
        return self.source.image_name(int(self.index[index]))

    @property
    def report(self) -> str:
        return f"{len(self):,} of {getattr(self.source, 'report', f'{len(self.source):,} photos')}"


def hold_out(source: AnnotatedImageSource, every: int, held_out: bool, name: str = "") -> AnnotatedImageSubset:
    """Only the held-out scenes, number `every`, 2 * `every` and so on counted from 1; or only the others."""
    return AnnotatedImageSubset(source, [i for i in range(len(source)) if ((i + 1) % every == 0) == held_out], name)


def training_scenes(entry: DetectionEntry, root: str | Path = "") -> AnnotatedImageSource:
    """The scenes of an entry to train on.

    Args:
        root: where relative paths start.

    Raises:
        SourceError: there is nothing usable at the path, or an argument is wrong; the message names the entry.
    """
    return _chosen(entry, root, held_out=False)


def evaluation_scenes(entry: DetectionEntry, root: str | Path = "") -> AnnotatedImageSource:
    """The scenes of an entry to evaluate on: the held-out ones, at most `max_samples`, spread evenly."""
    source = _chosen(entry, root, held_out=True)
    step = -(-len(source) // entry.max_samples) if entry.max_samples else 1
    return AnnotatedImageSubset(source, range(0, len(source), step), entry.name)


def _chosen(entry: DetectionEntry, root: str | Path, held_out: bool) -> AnnotatedImageSource:
    try:
        source = _open(entry, root)
    except (OSError, TypeError, ValueError) as error:
        raise SourceError(f"{entry.where}: {error}") from error
    if entry.hold_out:
        source = hold_out(source, entry.hold_out, held_out)
    if len(source) == 0:
        raise SourceError(f"{entry.where}: {source.name} has no usable photo; {getattr(source, 'report', '')}")
    return source


def _open(entry: DetectionEntry, root: str | Path) -> AnnotatedImageSource:
    if entry.synthetic:
        arguments: dict[str, Any] = dict(entry.synthetic)
        return SyntheticScenes(**arguments)
    path = as_path(root, entry.path)
    if entry.split:
        return _open_split(path, entry.split)
    return open_scenes(path, entry.format, entry.images, entry.annotations)


def _open_split(path: Path, split: str) -> AnnotatedImageSource:
    from tcm_jax.data.tfds import TfdsScenes, open_tfds  # an extra, and slow to import

    source = open_tfds(path, split)
    if not isinstance(source, TfdsScenes):
        raise SourceError(f"{path} holds words; expected scenes")
    return source
