"""What a data source is made of: records, and the error that says why a source can't be read."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Protocol

import numpy as np


class SourceError(ValueError):
    """A data source can't be read; the message names the file, line or key and what was expected."""


@dataclass(frozen=True)
class Record:
    """One word image and its text.

    Attributes:
        image: the bytes of an image file, or uint8 RGB [h, w, 3].
        label: the text as the source holds it, not cleaned.
        name: tells a human where the record is, e.g. "train/real:000000017" or "labels.tsv:12 img/a.jpg".
    """

    image: bytes | np.ndarray
    label: str
    name: str


class Source(Protocol):
    """A random-access sequence of records.

    `source[i]` raises `ImageError` if record i has no image (a missing file or key) and `SourceError` if its
    label can't be read. `labels()` yields all labels in order, where possible without reading the images. A
    source can be pickled, and used after a fork or in a spawned process.
    """

    name: str

    def __len__(self) -> int: ...

    def __getitem__(self, index: int) -> Record: ...

    def labels(self) -> Iterator[str]: ...
