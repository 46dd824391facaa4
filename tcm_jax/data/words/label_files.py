"""Folders of word images with a label file: tab-separated, csv, jsonl, json, or the ICDAR word format."""

import csv
import io
import json
import os
import re
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import NamedTuple

from PIL import Image

from tcm_jax.files import as_path, atomic_folder, local_copy
from tcm_jax.images.decoding import ImageError, encoded
from tcm_jax.records import SourceError, WordCrop

SUFFIXES = (".tsv", ".txt", ".csv", ".jsonl", ".json")
_IMAGE_FOLDERS = ("", "images", "image", "imgs", "img")
_IMAGE_COLUMNS = ("image", "filename", "file_name", "file", "path", "image_path", "img_path", "img")
_LABEL_COLUMNS = ("text", "label", "words", "word", "transcription", "value")
# 'word_1.png, "PROPER"', 'a/b.jpg word': an image name, a separator, the rest of the line.
_LINE = re.compile(r"(?P<image>.+?\.(?:jpe?g|png|webp|bmp|gif|tiff?|ppm))(?P<separator>\s*[,\s]\s*)(?P<label>.*)", re.I)

Report = Callable[[int, str], None]  # line number, what is wrong


class Row(NamedTuple):
    line: int
    image: str
    label: str


class LabelFileSource:
    """Random access to the images that a label file lists, by paths relative to the file's folder.

    The format follows from the content and the suffix:
    - .tsv: `image<TAB>text`; .csv: `image,text` with the usual quoting. A first line of column names is
      recognised.
    - .txt: `image<TAB>text`, `image text`, or `image, "text"` with `\\"` for a quote (ICDAR).
    - .jsonl: one object per line; .json: `{"image": "text"}` or a list of objects. Keys as the
      columns, for example `{"image": "a.jpg", "text": "word"}`.
    Images may also lie in a subfolder `images` that the file does not name. A byte order mark is ignored.

    Args:
        path: the label file.
        name: how the file is called in record names.
        problems: a list to add unusable lines to; without it the first one is an error.

    Raises:
        SourceError: the file can't be read, or lists nothing.
    """

    kind = "label file"

    def __init__(self, path: str | Path, name: str | None = None, problems: list[str] | None = None):
        self.path = local_words(path)
        self.name = name or self.path.name
        found: list[str] = []
        self.rows = read_rows(self.path, lambda line, problem: found.append(f"{self.path}:{line}: {problem}"))
        if found and problems is None:
            more = f" (and {len(found) - 1:,} more lines)" if len(found) > 1 else ""
            raise SourceError(found[0] + more)
        if problems is not None:
            problems.extend(found)
        if not self.rows:
            raise SourceError(f"{self.path} lists no images; expected lines like 'images/1.jpg<TAB>text'")
        self._folder = _image_folder(self.path.parent, self.rows)

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, index: int) -> WordCrop:
        row = self.rows[range(len(self))[index]]  # IndexError out of range
        name = f"{self.name}:{row.line} {row.image}"
        try:
            image = (self._folder / row.image).read_bytes()
        except OSError as error:
            raise ImageError(name, f"can't read {self._folder / row.image}: {error.strerror}") from error
        return WordCrop(image, row.label, name)

    def labels(self) -> Iterator[str]:
        return (row.label for row in self.rows)


def local_words(path: str | os.PathLike) -> Path:
    """Words at `path` as `local_copy` gives them: a label file comes with the images in its folder."""
    return local_copy(path, with_folder=as_path(path).suffix.lower() in SUFFIXES)


def has_images(path: Path) -> bool:
    """Whether `path` is a label file: one of its first rows names an existing image."""
    try:
        rows = read_rows(path, lambda line, problem: None, limit=20)
    except SourceError:
        return False
    folder = _image_folder(path.parent, rows)
    return any((folder / row.image).is_file() for row in rows)


def read_rows(path: Path, report: Report, limit: int | None = None) -> list[Row]:
    """The rows of a label file, at most about `limit`; `report` hears of every line that is none."""
    text = _read_text(path, limit)
    # Not str.splitlines, which also breaks at characters that can stand in a label.
    lines = [line.rstrip("\r") for line in text.split("\n")]
    match path.suffix.lower():
        case ".json":
            rows = _json_rows(path, text, report)
        case ".jsonl":
            rows = _jsonl_rows(lines, report)
        case ".csv":
            reader = csv.reader(io.StringIO(text, newline=""))
            rows = _column_rows(((reader.line_num, fields) for fields in reader), report)
        case ".tsv":
            rows = _column_rows(((i, line.split("\t") if line else []) for i, line in enumerate(lines, 1)), report)
        case _:
            rows = _text_rows(lines, report)
    try:
        return list(rows)
    except csv.Error as error:
        raise SourceError(f"{path} is not a readable table: {error}") from error


def _read_text(path: Path, limit: int | None) -> str:
    try:
        with open(path, "rb") as file:
            # Only complete lines, so that a table can be recognised without reading all of it.
            data = b"".join(
                file.readlines() if limit is None or path.suffix == ".json" else file.readlines(200 * limit)
            )
        return data.decode("utf-8-sig")
    except OSError as error:
        raise SourceError(f"{path} can't be read: {error.strerror}") from error
    except UnicodeDecodeError as error:
        line = data[: error.start].count(b"\n") + 1
        raise SourceError(
            f"{path}:{line}: byte 0x{data[error.start]:02x} is not UTF-8; save the file as UTF-8"
        ) from error


def _text_rows(lines: list[str], report: Report) -> Iterator[Row]:
    for number, line in enumerate(lines, start=1):
        if not line.strip():
            continue
        image, tab, label = line.partition("\t")
        if not tab:
            match = _LINE.fullmatch(line)
            if match is None:
                report(number, f"{line[:80]!r}; expected 'image<TAB>text', 'image text' or 'image, \"text\"'")
                continue
            image, label = match["image"], match["label"]
            if "," in match["separator"] and len(label) > 1 and label[0] == label[-1] == '"':
                label = label[1:-1].replace('\\"', '"')
        yield Row(number, image, label)


def _column_rows(table: Iterable[tuple[int, list[str]]], report: Report) -> Iterator[Row]:
    """The rows of a table of line numbers and fields, with or without a first line of column names."""
    image_column, label_column, width = 0, 1, 2
    first = True
    for line, fields in table:
        if not fields:
            continue
        names = [name.strip().lower() for name in fields]
        image, label = _find(names, _IMAGE_COLUMNS), _find(names, _LABEL_COLUMNS)
        if first and image is not None and label is not None:
            image_column, label_column, width = image, label, len(fields)
        elif len(fields) != width:
            hint = "; a text with the separator in it must be quoted" if len(fields) > width else ""
            report(line, f"{len(fields)} fields {fields[:4]}; expected {width}{hint}")
        else:
            yield Row(line, fields[image_column], fields[label_column])
        first = False


def _jsonl_rows(lines: list[str], report: Report) -> Iterator[Row]:
    for number, line in enumerate(lines, start=1):
        if not line.strip():
            continue
        try:
            row = json.loads(line)
        except ValueError as error:
            report(number, f"not JSON ({error}): {line[:80]!r}")
            continue
        yield from _object_row(number, row, report)


def _json_rows(path: Path, text: str, report: Report) -> Iterator[Row]:
    """Rows of one JSON document; their "line" is the position of the entry, from 1."""
    try:
        document = json.loads(text)
    except ValueError as error:
        raise SourceError(f"{path} is not JSON: {error}") from error
    if isinstance(document, dict):
        document = [{"image": image, "text": label} for image, label in document.items()]
    if not isinstance(document, list):
        raise SourceError(f'{path} holds {type(document).__name__}; expected {{"image": "text"}} or a list of objects')
    for number, row in enumerate(document, start=1):
        yield from _object_row(number, row, report)


def _object_row(number: int, row, report: Report) -> Iterator[Row]:
    if isinstance(row, dict):
        image = next((row[key] for key in _IMAGE_COLUMNS if key in row), None)
        label = next((row[key] for key in _LABEL_COLUMNS if key in row), None)
        if isinstance(image, str) and isinstance(label, str):
            yield Row(number, image, label)
            return
    found = f"object with {list(row)[:8]}" if isinstance(row, dict) else json.dumps(row)[:80]
    report(number, f'{found}; expected strings for image and text, {{"image": "a.jpg", "text": "word"}}')


def _find(names: list[str], wanted: tuple[str, ...]) -> int | None:
    return next((names.index(name) for name in wanted if name in names), None)


def _image_folder(root: Path, rows: list[Row]) -> Path:
    """The folder that the paths of `rows` start from."""
    for folder in _IMAGE_FOLDERS:
        if any(os.path.isfile(root / folder / row.image) for row in rows[:20]):
            return root / folder
    return root


def write_label_folder(records: Iterable[WordCrop], path: str | Path) -> int:
    """Writes `records` as the new folder `path` of images and a labels.tsv; returns their number.

    The folder appears when it is complete. Images given as arrays are stored as PNG.

    Raises:
        FileExistsError: `path` exists.
        ValueError: a label has a tab or a line break.
    """
    lines = []
    with atomic_folder(path, last="labels.tsv") as folder:
        (folder / "images").mkdir()
        for number, record in enumerate(records, start=1):
            if set("\t\r\n") & set(record.label):
                raise ValueError(f"{record.name}: the label {record.label!r} has a tab or a line break")
            image = encoded(record.image)
            suffix = str(Image.open(io.BytesIO(image)).format).lower()
            name = f"images/{number:06d}.{suffix}"
            (folder / name).write_bytes(image)
            lines.append(f"{name}\t{record.label}\n")
        (folder / "labels.tsv").write_text("".join(lines), "utf-8")
    return len(lines)
