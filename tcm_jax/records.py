"""What data sources are made of: crops of words and annotated images, and why a source can't be read."""

import logging
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol, TypeVar

import numpy as np

_MAX_LOGGED = 10  # names in a message


class SourceError(ValueError):
    """A data source can't be read; the message names the file, line or key and what was expected."""


@dataclass(frozen=True)
class WordCrop:
    """The crop of one word and its text.

    Attributes:
        image: the bytes of an image file, or uint8 RGB [h, w, 3].
        label: the text as the source holds it, not cleaned.
        name: where the record is, for messages: "train/real:000000017" or "labels.tsv:12 img/a.jpg".
    """

    image: bytes | np.ndarray
    label: str
    name: str


@dataclass(frozen=True)
class TextRegion:
    """One text instance of an image: a word or a line, as its data set has it.

    Attributes:
        polygon: float32 [n, 2], n >= 3, x and y in pixels of the image as it is stored (EXIF orientation ignored);
            it may leave the image and it may cross itself.
        text: "" where the data set has none.
        ignore: the data set does not ask to find it ("don't care").
    """

    polygon: np.ndarray
    text: str = ""
    ignore: bool = False


@dataclass(frozen=True)
class AnnotatedImage:
    """An image and its text instances.

    Attributes:
        image: the bytes of an image file, or uint8 RGB [h, w, 3].
        regions: its text instances; none is an image without text.
        name: where the record is, for messages: "icdar2015/imgs/img_7.jpg".
    """

    image: bytes | np.ndarray
    regions: tuple[TextRegion, ...]
    name: str


Record = TypeVar("Record", WordCrop, AnnotatedImage)
AnyRecord = TypeVar("AnyRecord", covariant=True)


class Source(Protocol[AnyRecord]):
    """A random-access sequence of records; it can be pickled, and used after a fork or in a spawned process.

    `source[i]` raises `ImageError` if record i has no image (a missing file or key) and `SourceError` if its label or
    annotation can't be read. Where a source has a `report`, its text says what was read and what was left out.
    """

    name: str

    def __len__(self) -> int: ...

    def __getitem__(self, index: int) -> AnyRecord: ...


class WordSource(Source[WordCrop], Protocol):
    """A source of crops."""

    def labels(self) -> Iterator[str]:
        """All labels in order, where possible without reading the images."""


class AnnotatedImageSource(Source[AnnotatedImage], Protocol):
    """A source of annotated images."""

    def regions(self, index: int) -> tuple[TextRegion, ...]:
        """The regions of `source[index]`, without reading the image."""

    def image_name(self, index: int) -> str:
        """The name of `source[index]`, without reading the image."""


def warn_undecodable(source: str, names: Sequence[str], counted: str) -> None:
    """Logs the number of images of `source` that can't be decoded, if any, the first names and how they count."""
    if names:
        more = ", ..." if len(names) > _MAX_LOGGED else ""
        shown = ", ".join(names[:_MAX_LOGGED]) + more
        logging.warning(f"{source}: {len(names):,} images can't be decoded and count as {counted}: {shown}")
