"""What is in a data set and what is wrong with it: the part of a survey that crops and annotated images share."""

from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

import numpy as np

from tcm_jax.data.sources import some
from tcm_jax.images.decoding import ImageError, decode
from tcm_jax.records import Record, Source, SourceError, WordCrop

_SHOWN = 5  # frequent texts in a line of a survey
_SHOWN_ERRORS = 10


@dataclass
class Survey:
    """What the records of a source are like; `str()` is the report.

    Attributes:
        inspected, usable: numbers of records.
        broken: messages about records without a readable image or annotation.
        sizes: (height, width) in pixels of the images that can be decoded.
        places: names of what is odd, by what it is.
    """

    inspected: int = 0
    usable: int = 0
    broken: list[str] = field(default_factory=list)
    sizes: list[tuple[int, int]] = field(default_factory=list)
    places: dict[str, list[str]] = field(default_factory=dict)

    def note(self, what: str, where: str) -> None:
        """Adds a place."""
        self.places.setdefault(what, []).append(where)

    def read(self, source: Source[Record], indices: Iterable[int]) -> Iterator[tuple[Record, tuple[int, int] | None]]:
        """The records `indices` and the sizes of their images, None if an image can't be decoded.

        Broken records are left out, and noted like images that occur twice.
        """
        seen: dict[int, tuple[str, str]] = {}
        for index in indices:
            self.inspected += 1
            try:
                record = source[index]
            except (ImageError, SourceError) as error:
                self.broken.append(str(error))
                continue
            size = None
            try:
                size = decode(record.image, record.name).shape[:2]
                self.sizes.append(size)
            except ImageError as error:
                self.broken.append(str(error))
            content = hash(record.image if isinstance(record.image, bytes) else record.image.tobytes())
            label = record.label if isinstance(record, WordCrop) else ""
            first, first_label = seen.setdefault(content, (record.name, label))
            if first != record.name:
                self.note("image: same as another", f"{record.name} = {first}")
                if label != first_label:
                    self.note("image: same as another, with another label", f"{record.name} = {first}")
            yield record, size

    def details(self) -> Iterator[str]:
        """The lines of the report on labels or annotations."""
        yield from ()

    def __str__(self) -> str:
        lines = []
        if self.sizes:
            heights, widths = np.array(self.sizes).T
            lines = [f"images: height {distribution(heights)}", f"        width {distribution(widths)}"]
        lines += self.details()
        lines += [f"{what}: {len(where):,}: {some(where)}" for what, where in sorted(self.places.items())]
        if self.broken:
            lines.append(f"unreadable: {len(self.broken):,} of {self.inspected:,}")
            lines += [f"  {message}" for message in self.broken[:_SHOWN_ERRORS]]
            if len(self.broken) > _SHOWN_ERRORS:
                lines.append(f"  and {len(self.broken) - _SHOWN_ERRORS:,} more")
        return "\n".join([*lines, f"usable: {self.usable:,} of {self.inspected:,} records"])


def distribution(values: np.ndarray | list[float]) -> str:
    """Extremes, median and the middle 90 % of some numbers."""
    lowest, low, median, high, highest = np.percentile(values, (0, 5, 50, 95, 100))
    return f"{lowest:.0f} .. {highest:.0f}, median {median:.0f}, 90 % within {low:.0f} .. {high:.0f}"


def most_common(texts: Counter[str]) -> str:
    """The most frequent texts with their counts: "'EXIT' 2, '3' 1"."""
    return ", ".join(f"{text!r} {count:,}" for text, count in texts.most_common(_SHOWN))
