"""What is in a set of crops, and what is wrong with it: a survey of images and labels, and a contact sheet."""

from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

from PIL import Image, ImageDraw

from tcm_jax.data.check import Survey, most_common
from tcm_jax.data.words.labels import FilterReport, LabelFilter
from tcm_jax.images.decoding import ImageError, decode
from tcm_jax.images.lettering import choose_font
from tcm_jax.records import WordCrop, WordSource

_TINY = 8  # pixels of the shorter side: nothing is left to read
_HUGE = 1500  # pixels of the longer side: rather a page than a word
_TALL = 2  # height / width: rotated, or written from top to bottom
_CELL_WIDTH, _CELL_HEIGHT, _CAPTION = 220, 72, 20


@dataclass
class WordSurvey(Survey):
    """What the crops of a source are like; `usable` are those with a readable image and a label that the filter keeps.

    Attributes:
        report: what the label filter made of the labels.
        labels: how often each raw label occurs.
    """

    report: FilterReport = field(default_factory=FilterReport)
    labels: Counter[str] = field(default_factory=Counter)

    def details(self) -> Iterator[str]:
        """The lines of the report on labels."""
        yield f"labels: {self.report}"
        if self.labels:
            yield f"        {len(self.labels):,} different; most frequent: {most_common(self.labels)}"
            counts = Counter(c for label in self.labels.elements() for c in label if not c.isspace())
            characters = "".join(c for c, _ in counts.most_common())
            yield f"        {len(characters):,} characters, the most frequent first: {characters}"


def survey(source: WordSource, label_filter: LabelFilter, indices: Iterable[int]) -> WordSurvey:
    """Reads and decodes the records `indices` of `source`; what is broken is noted and never raised."""
    result = WordSurvey()
    for record, size in result.read(source, indices):
        result.labels[record.label] += 1
        label, reason = label_filter(record.label)
        if size is not None:
            height, width = size
            for what, is_so in (
                (f"tiny (under {_TINY} pixels)", min(size) < _TINY),
                (f"huge (over {_HUGE} pixels; not cropped?)", max(size) > _HUGE),
                (f"tall (height over {_TALL} x width; rotated or vertical?)", height > _TALL * width),
            ):
                if is_so:
                    result.note(f"image: {what}", record.name)
            reason = reason or label_filter.size_problem(size)
            result.usable += reason is None
        result.report.add(label_filter, record.label, label, reason)
    return result


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
        text, font = choose_font(f"{i + 1}: {record.label[:25]}", 14)
        pen.text((x + 2, y + _CELL_HEIGHT), text, fill="black", font=font)
    return sheet
