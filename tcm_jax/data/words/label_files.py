"""Folders of crops with a label file: tab-separated, csv, jsonl, json, or the ICDAR word format."""

import csv
import io
import json
import os
import re
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

from PIL import Image

from tcm_jax.data.text_files import decode_utf8, read_bytes
from tcm_jax.files import as_path, atomic_folder, local_copy
from tcm_jax.images.decoding import ImageError, encoded
from tcm_jax.records import SourceError, WordCrop

SUFFIXES = (".tsv", ".txt", ".csv", ".jsonl", ".json")
_HEAD = 16_384  # bytes by which a label file is recognised
_IMAGE_FOLDERS = ("", "images", "image", "imgs", "img")
_COLUMNS = (  # names of the column of images, and of that of texts
    ("image", "filename", "file_name", "file", "path", "image_path", "img_path", "img"),
    ("text", "label", "words", "word", "transcription", "value"),
)
# 'word_1.png, "PROPER"', 'a/b.jpg word': an image name, a separator, the rest of the line.
_LINE = re.compile(r"(?P<image>.+?\.(?:jpe?g|png|webp|bmp|gif|tiff?|ppm))(?P<separator>\s*[,\s]\s*)(?P<label>.*)", re.I)

Report = Callable[[int, str], None]  # line number, what is wrong


class Row(NamedTuple):
    """A crop that a label file lists: number of the line, path of the image, label."""

    line: int
    image: str
    label: str


class LabelFileSource:
    """Random access to the images that a label file lists, by paths relative to the file's folder; a `WordSource`.

    The format follows from the content and the suffix:
    - .tsv: `image<TAB>text`; .csv: `image,text` with the usual quoting. A first line of column names is
      recognised.
    - .txt: `image<TAB>text`, `image text`, or `image, "text"` with `\\"` for a quote (ICDAR).
    - .jsonl: one object per line; .json: `{"image": "text"}` or a list of objects. Keys as the
      columns, for example `{"image": "a.jpg", "text": "word"}`.
    Images may also lie in a subfolder `images` that the file does not name. A byte order mark is ignored.

    Args:
        path: the label file.
        name: of the file, in record names; default: its own.
        problems: a list to add unusable lines to; without it the first one is an error.

    Raises:
        SourceError: the file can't be read, or lists nothing.
    """

    kind = "label file"

    def __init__(self, path: str | Path, name: str = "", problems: list[str] | None = None) -> None:
        self.path = local_words(path)
        self.name = name or self.path.name
        found: list[str] = []
        self.rows = read_rows(self.path, lambda line, problem: found.append(f"{self.path}:{line}: {problem}"))
        if problems is not None:
            problems.extend(found)
        elif found:
            raise SourceError(found[0] + (f" (and {len(found) - 1:,} more lines)" if len(found) > 1 else ""))
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
        """All labels in order."""
        return (row.label for row in self.rows)


def local_words(path: str | os.PathLike) -> Path:
    """Words at `path` as `local_copy` gives them: a label file comes with the images in its folder."""
    return local_copy(path, with_folder=as_path(path).suffix.lower() in SUFFIXES)


def has_images(path: Path) -> bool:
    """Whether `path` is a label file: one of its first rows names an existing image."""
    try:
        rows = read_rows(path, lambda line, problem: None, _HEAD)
    except SourceError:
        return False
    folder = _image_folder(path.parent, rows)
    return any((folder / row.image).is_file() for row in rows)


def read_rows(path: Path, report: Report, limit: int = -1) -> list[Row]:
    """The rows of a label file, or of the complete lines in its first `limit` bytes.

    `report` is called with every line that is no row.

    Raises:
        SourceError: the file can't be read, or is not UTF-8, no JSON or no table.
    """
    suffix = path.suffix.lower()
    data = read_bytes(path, -1 if suffix == ".json" else limit)
    if len(data) == limit:
        data = data[: data.rfind(b"\n") + 1]
    text = decode_utf8(data, path)
    # Not str.splitlines, which also breaks at characters that can stand in a label.
    lines = [(number, line.rstrip("\r")) for number, line in enumerate(text.split("\n"), start=1)]
    filled = [(number, line) for number, line in lines if line.strip()]
    try:
        match suffix:
            case ".json":
                return list(_object_rows(_json_objects(path, text), report))
            case ".jsonl":
                return list(_object_rows(_jsonl_objects(filled, report), report))
            case ".csv":
                reader = csv.reader(io.StringIO(text, newline=""))
                return list(_column_rows(((reader.line_num, fields) for fields in reader if fields), report))
            case ".tsv":
                return list(_column_rows(((number, line.split("\t")) for number, line in lines if line), report))
            case _:
                return list(_text_rows(filled, report))
    except csv.Error as error:
        raise SourceError(f"{path} is not a readable table: {error}") from error


def _text_rows(lines: Iterable[tuple[int, str]], report: Report) -> Iterator[Row]:
    for number, line in lines:
        image, tab, label = line.partition("\t")
        if tab:
            yield Row(number, image, label)
        elif match := _LINE.fullmatch(line):
            label = match["label"]
            if "," in match["separator"] and len(label) > 1 and label[0] == label[-1] == '"':
                label = label[1:-1].replace('\\"', '"')
            yield Row(number, match["image"], label)
        else:
            report(number, f"{line[:80]!r}; expected 'image<TAB>text', 'image text' or 'image, \"text\"'")


def _column_rows(table: Iterable[tuple[int, list[str]]], report: Report) -> Iterator[Row]:
    """The rows of a table of line numbers and fields, with or without a first line of column names."""
    image_column, label_column, width = 0, 1, 2
    for count, (line, fields) in enumerate(table):
        names = [name.strip().lower() for name in fields] if count == 0 else []
        image, label = (next((names.index(name) for name in known if name in names), None) for known in _COLUMNS)
        if image is not None and label is not None:
            image_column, label_column, width = image, label, len(fields)
        elif len(fields) != width:
            hint = "; a text with the separator in it must be quoted" if len(fields) > width else ""
            report(line, f"{len(fields)} fields {fields[:4]}; expected {width}{hint}")
        else:
            yield Row(line, fields[image_column], fields[label_column])


def _jsonl_objects(lines: Iterable[tuple[int, str]], report: Report) -> Iterator[tuple[int, Any]]:
    for number, line in lines:
        try:
            row = json.loads(line)
        except ValueError as error:
            report(number, f"not JSON ({error}): {line[:80]!r}")
        else:
            yield number, row


def _json_objects(path: Path, text: str) -> Iterable[tuple[int, Any]]:
    """The entries of one JSON document; their "line" is the position, from 1."""
    try:
        document = json.loads(text)
    except ValueError as error:
        raise SourceError(f"{path} is not JSON: {error}") from error
    if isinstance(document, dict):
        document = [{"image": image, "text": label} for image, label in document.items()]
    if not isinstance(document, list):
        raise SourceError(f'{path} holds {type(document).__name__}; expected {{"image": "text"}} or a list of objects')
    return enumerate(document, start=1)


def _object_rows(objects: Iterable[tuple[int, Any]], report: Report) -> Iterator[Row]:
    for number, row in objects:
        values = row if isinstance(row, dict) else {}
        image, label = (next((values[key] for key in known if key in values), None) for known in _COLUMNS)
        if isinstance(image, str) and isinstance(label, str):
            yield Row(number, image, label)
        else:
            found = f"object with {list(row)[:8]}" if isinstance(row, dict) else json.dumps(row)[:80]
            report(number, f'{found}; expected strings for image and text, {{"image": "a.jpg", "text": "word"}}')


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
