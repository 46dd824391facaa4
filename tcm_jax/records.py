"""What data sources are made of: words and scenes, and the error that says why a source can't be read."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Protocol

import numpy as np


class SourceError(ValueError):
    """A data source can't be read; the message names the file, line or key and what was expected."""


@dataclass(frozen=True)
class WordCrop:
    """One word image and its text.

    Attributes:
        image: the bytes of an image file, or uint8 RGB [h, w, 3].
        label: the text as the source holds it, not cleaned.
        name: tells a human where the record is, e.g. "train/real:000000017" or "labels.tsv:12 img/a.jpg".
    """

    image: bytes | np.ndarray
    label: str
    name: str


@dataclass(frozen=True)
class TextRegion:
    """One text instance of a photo: a word or a line, as its data set has it.

    Attributes:
        polygon: float32 [n, 2], n >= 3, x and y in pixels of the photo as it is stored (EXIF orientation ignored);
            it may leave the photo and it may cross itself.
        text: "" where the data set has none.
        ignore: the data set does not ask to find it ("don't care").
    """

    polygon: np.ndarray
    text: str = ""
    ignore: bool = False


@dataclass(frozen=True)
class AnnotatedImage:
    """One photo and its text.

    Attributes:
        image: the bytes of an image file, or uint8 RGB [h, w, 3].
        regions: its text instances; none is a photo without text.
        name: tells a human where the record is, e.g. "icdar2015/imgs/img_7.jpg".
    """

    image: bytes | np.ndarray
    regions: tuple[TextRegion, ...]
    name: str


class WordSource(Protocol):
    """A random-access sequence of words.

    `source[i]` raises `ImageError` if record i has no image (a missing file or key) and `SourceError` if its
    label can't be read. `labels()` yields all labels in order, where possible without reading the images. A
    source can be pickled, and used after a fork or in a spawned process.
    """

    name: str

    def __len__(self) -> int: ...

    def __getitem__(self, index: int) -> WordCrop: ...

    def labels(self) -> Iterator[str]: ...


class AnnotatedImageSource(Protocol):
    """A random-access sequence of scenes; errors and pickling as of `WordSource`.

    `regions(i)` is `source[i].regions` without reading the photo, and `scene_name(i)` its name.
    """

    name: str

    def __len__(self) -> int: ...

    def __getitem__(self, index: int) -> AnnotatedImage: ...

    def regions(self, index: int) -> tuple[TextRegion, ...]: ...

    def scene_name(self, index: int) -> str: ...
