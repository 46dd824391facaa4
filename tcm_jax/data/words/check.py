"""What is in a folder of word images, and what is wrong with it: a survey of all records, and a sheet to look
at."""

from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from typing import Protocol, TypeVar

import numpy as np
from PIL import Image, ImageDraw

from tcm_jax.data.words.labels import FilterReport, LabelFilter
from tcm_jax.data.words.sources import ConcatSource
from tcm_jax.images.decoding import ImageError, decode
from tcm_jax.images.lettering import typeset
from tcm_jax.records import SourceError, WordCrop, WordSource

_TINY = 8  # pixels of the shorter side: nothing is left to read
_HUGE = 1500  # pixels of the longer side: rather a photo or a page than a word
_TALL = 2  # height / width: rotated, or written from top to bottom
_SHOWN = 5  # examples in each line of the survey
_CELL_WIDTH, _CELL_HEIGHT, _CAPTION = 220, 72, 20

T = TypeVar("T", covariant=True)


class _Records(Protocol[T]):
    """A source of words or of scenes."""

    def __getitem__(self, index: int) -> T: ...


@dataclass
class Survey:
    """What the records of a source are like; `str()` tells a user.

    Attributes:
        looked_at: number of records.
        usable: records with an image that can be decoded and a label that the filter keeps.
        report: what the label filter made of the labels.
        broken: messages about records without a readable image or label.
        sizes: (height, width) of the images by record name.
        labels: how often each raw label occurs.
        copies: ("name = name of an earlier record with the same image", whether their labels are equal).
    """

    looked_at: int = 0
    usable: int = 0
    report: FilterReport = field(default_factory=FilterReport)
    broken: list[str] = field(default_factory=list)
    sizes: dict[str, tuple[int, int]] = field(default_factory=dict)
    labels: Counter = field(default_factory=Counter)
    copies: list[tuple[str, bool]] = field(default_factory=list)

    def __str__(self) -> str:
        return "\n".join(self._lines())

    def _lines(self) -> Iterator[str]:
        yield f"labels: {self.report}"
        if self.labels:
            frequent = ", ".join(f"{label!r} {count:,}" for label, count in self.labels.most_common(_SHOWN))
            yield f"        {len(self.labels):,} different; most frequent: {frequent}"
            counts = Counter(c for label in self.labels.elements() for c in label if not c.isspace())
            characters = "".join(c for c, _ in counts.most_common())
            yield f"        {len(characters):,} characters, the most frequent first: {characters}"
        if self.sizes:
            heights, widths = np.array(list(self.sizes.values())).T
            for name, values in (("height", heights), ("width", widths)):
                low, median, high = np.percentile(values, (5, 50, 95))
                yield (
                    f"images: {name} {values.min()} .. {values.max()}, median {median:.0f}, "
                    f"90 % within {low:.0f} .. {high:.0f}"
                )
        yield from self._group(f"tiny (under {_TINY} pixels)", lambda h, w: min(h, w) < _TINY)
        yield from self._group(f"huge (over {_HUGE} pixels; whole photos?)", lambda h, w: max(h, w) > _HUGE)
        yield from self._group(f"tall (height over {_TALL} x width; rotated or vertical?)", lambda h, w: h > _TALL * w)
        if self.copies:
            yield f"same image again: {len(self.copies):,}: {some([pair for pair, _ in self.copies])}"
            differing = [pair for pair, equal in self.copies if not equal]
            if differing:
                yield f"same image with another label: {len(differing):,}: {some(differing)}"
        if self.broken:
            yield f"unreadable: {len(self.broken):,} of {self.looked_at:,}"
            yield from (f"  {message}" for message in self.broken[: 2 * _SHOWN])
            if len(self.broken) > 2 * _SHOWN:
                yield f"  and {len(self.broken) - 2 * _SHOWN:,} more"
        yield f"usable: {self.usable:,} of {self.looked_at:,} records"

    def _group(self, title: str, belongs: Callable[[int, int], bool]) -> Iterator[str]:
        names = [name for name, size in self.sizes.items() if belongs(*size)]
        if names:
            yield f"images: {len(names):,} {title}: {some(names)}"


def survey(source: WordSource, label_filter: LabelFilter, indices: Iterable[int]) -> Survey:
    """Reads and decodes the records `indices` of `source`; what is broken is noted and never raised."""
    result = Survey()
    seen: dict[int, tuple[str, str]] = {}
    for index in indices:
        result.looked_at += 1
        try:
            record = source[index]
        except (ImageError, SourceError) as error:
            result.broken.append(str(error))
            continue
        result.labels[record.label] += 1
        label, reason = label_filter(record.label)
        try:
            size = decode(record.image, record.name).shape[:2]
            result.sizes[record.name] = size
            result.usable += label is not None and min(size) >= label_filter.min_image_size
            if label is not None and min(size) < label_filter.min_image_size:
                label, reason = None, f"with an image under {label_filter.min_image_size} pixels"
        except ImageError as error:
            result.broken.append(str(error))
        result.report.add(label_filter, record.label, label, reason)
        content = hash(record.image) if isinstance(record.image, bytes) else hash(record.image.tobytes())
        name, other = seen.setdefault(content, (record.name, record.label))
        if name != record.name:
            result.copies.append((f"{record.name} = {name}", other == record.label))
    return result


def parts(source: WordSource) -> list[WordSource]:
    """The data sets that `source` joins."""
    return source.sources if isinstance(source, ConcatSource) else [source]


def some(names: list[str]) -> str:
    """The first of `names`, for a line of a survey."""
    return ", ".join(names[:_SHOWN]) + (", ..." if len(names) > _SHOWN else "")


def spread(length: int, count: int) -> list[int]:
    """`count` indices (or all, if there are fewer) evenly over 0 .. length - 1."""
    count = min(length, count)
    return [i * length // count for i in range(count)]


def contact_sheet(records: Iterable[WordCrop], columns: int = 4) -> Image.Image:
    """The images of `records`, scaled to their cells, each above its label; a broken image is a red frame."""
    records = list(records)
    height = _CELL_HEIGHT + _CAPTION
    sheet = Image.new("RGB", (columns * _CELL_WIDTH, -(-len(records) // columns) * height), "white")
    pen = ImageDraw.Draw(sheet)
    for i, record in enumerate(records):
        x, y = i % columns * _CELL_WIDTH, i // columns * height
        try:
            image = Image.fromarray(decode(record.image, record.name))
            scale = min((_CELL_WIDTH - 4) / image.width, (_CELL_HEIGHT - 4) / image.height)
            size = max(1, round(image.width * scale)), max(1, round(image.height * scale))
            sheet.paste(image.resize(size), (x + 2, y + 2))
        except ImageError:
            pen.rectangle((x + 2, y + 2, x + _CELL_WIDTH - 3, y + _CELL_HEIGHT - 3), outline="red", width=2)
        text, font = typeset(f"{i + 1}: {record.label[:25]}", 14)
        pen.text((x + 2, y + _CELL_HEIGHT), text, fill="black", font=font)
    return sheet


def readable(source: _Records[T], indices: Iterable[int], on_error: Callable[[str], None]) -> Iterator[T]:
    """The records `indices`; `on_error` hears of those that can't be read, which are left out."""
    for index in indices:
        try:
            yield source[index]
        except (ImageError, SourceError) as error:
            on_error(str(error))
