"""What a format of scene annotations is: one file for each photo, or one file for a whole set."""

import abc
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from tcm_jax.data.scenes.regions import AnnotationReport, collect
from tcm_jax.records import SourceError

# One annotated text instance as `regions.collect` takes it: polygon [n, 2], text, ignore, where it stands
# ("gt_img_1.txt:3").
Found = tuple[np.ndarray, str, bool, str]
Problems = list[str] | None


@dataclass(frozen=True)
class AnnotationFormat:
    """A format with one annotation file for each photo.

    The annotation file of a photo is called as the photo, "img_1.txt" or "img_1.jpg.txt" for "img_1.jpg", where
    one of `prefixes` may stand before it.

    Attributes:
        name: as a user writes it.
        suffixes: of annotation files, in lower case.
        prefixes: of annotation files' names, such as "gt_".
        recognises: whether the bytes of one annotation file, which are not only white space, are of this format.
        parse: `(data, path, problems)` gives the text instances of one annotation file; what is malformed is told
            by `report_error`.
    """

    name: str
    suffixes: tuple[str, ...]
    prefixes: tuple[str, ...]
    recognises: Callable[[bytes], bool]
    parse: Callable[[bytes, Path, Problems], list[Found]]


class SetAnnotations(abc.ABC):
    """The contents of one file that annotates many photos. It can be pickled.

    Attributes:
        photos: the photos' files, relative to the folder of photos, "/" between folders.
    """

    photos: Sequence[str]

    @abc.abstractmethod
    def found(self, index: int) -> Iterable[Found]:
        """The text instances of `photos[index]`, also those that can't be used."""

    def count(self, indices: Iterable[int], report: AnnotationReport) -> None:
        """Counts the photos `indices` and their regions in `report`, as `collect` does."""
        for index in indices:
            collect(self.found(index), report)


class ListedAnnotations(SetAnnotations):
    """Annotations that are held as they are."""

    def __init__(self, photos: Sequence[str], instances: Sequence[Sequence[Found]]):
        self.photos = photos
        self._instances = instances

    def found(self, index: int) -> Sequence[Found]:
        return self._instances[index]


@dataclass(frozen=True)
class SetFormat:
    """A format with one file for all photos of a set.

    Attributes:
        name: as a user writes it.
        suffixes: of the file, in lower case.
        recognises: whether a file that begins with these bytes (4,096, or the whole file) is of this format.
        read: `(path, part, problems, report)` gives the annotations. `part` is one of `parts`, or "" if there are
            none. Malformed entries are told by `report_error`; photos that are left out are counted in `report`;
            `SourceError` if the file as a whole can't be read.
        parts: names of the parts of which one file has several ("train", "val"); a user writes "coco_text:val".
    """

    name: str
    suffixes: tuple[str, ...]
    recognises: Callable[[bytes], bool]
    read: Callable[[Path, str, Problems, AnnotationReport], SetAnnotations]
    parts: tuple[str, ...] = ()


Format = AnnotationFormat | SetFormat


def report_error(problems: Problems, where: str, problem: str) -> None:
    """Tells that something is malformed: adds it to `problems`, or raises `SourceError` if that is None."""
    message = f"{where}: {problem}"
    if problems is None:
        raise SourceError(message)
    problems.append(message)
