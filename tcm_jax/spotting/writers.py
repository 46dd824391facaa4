"""Files of what was read in images, in the format that the file's name ends in.

.json            one document: {"schema_version": 1, "photos": [...]}, each as `SpottedImage.to_dict`
.jsonl           one such image on each line
.txt             the lines of words; with several images each below its name
.hocr .html .xml hOCR 1.2, for viewers and PDF tools
.zip             as the Robust Reading Competition takes it, see `rrc`
.jpg .png        the image with its words, if there is only one
"""

import contextlib
import json
import zipfile
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from tcm_jax.files import atomic_file, check_writable
from tcm_jax.images import overlay
from tcm_jax.spotting import hocr, rrc
from tcm_jax.spotting.results import SCHEMA_VERSION, SpottedImage

Add = Callable[[SpottedImage], None]
Read = Callable[[SpottedImage], np.ndarray]  # the pixels of an image, uint8 RGB [h, w, 3]


def check_output(path: Path, names: Sequence[str], option: str = "--output") -> None:
    """Tells before the work what would go wrong after it.

    Args:
        path: the file to write.
        names: of the images.
        option: what the user calls it.

    Raises:
        ValueError: no format has this ending, or these images don't fit into one such file.
        OSError: the folder isn't there or can't be written.
    """
    ending = path.suffix.lower()
    if ending not in ENDINGS:
        raise ValueError(f"{option} {path}: unknown ending {ending!r}; expected one of {', '.join(ENDINGS)}")
    if ending in overlay.IMAGE_FORMATS and len(names) > 1:
        raise ValueError(f"{option} {path} holds one picture, and there are {len(names):,} images; try --out FOLDER")
    if ending == ".zip":
        entries: dict[str, str] = {}
        for name in names:
            if (other := entries.setdefault(rrc.entry(name), name)) != name:
                raise ValueError(f"{option} {path}: {other} and {name} would both be {rrc.entry(name)} in it")
    check_writable(path, option)


@contextlib.contextmanager
def writer(path: Path, names: Sequence[str], read: Read) -> Iterator[Add]:
    """Yields the function that adds an image to a file, which appears when it is complete; no image is kept.

    Args:
        path: the file; its ending is the format.
        names: of the images that are to come; some may stay away.
        read: gives the pixels of an image, for formats that are pictures.

    Raises:
        ValueError, OSError: see `check_output`.
    """
    check_output(path, names)
    ending = path.suffix.lower()
    if ending in overlay.IMAGE_FORMATS:
        yield lambda image: overlay.save(image.draw(read(image)), path)
        return
    with atomic_file(path, "wb" if ending == ".zip" else "w") as file, _WRITERS[ending](file, len(names)) as add:
        yield add


@contextlib.contextmanager
def _json(file: Any, count: int) -> Iterator[Add]:
    separator = ""

    def add(image: SpottedImage) -> None:
        nonlocal separator
        file.write(f"{separator}\n{json.dumps(image.to_dict(), ensure_ascii=False)}")
        separator = ","

    file.write(f'{{"schema_version": {SCHEMA_VERSION}, "photos": [')
    yield add
    file.write("\n]}\n")


@contextlib.contextmanager
def _jsonl(file: Any, count: int) -> Iterator[Add]:
    yield lambda image: file.write(json.dumps(image.to_dict(), ensure_ascii=False) + "\n")


@contextlib.contextmanager
def _text(file: Any, count: int) -> Iterator[Add]:
    first = True

    def add(image: SpottedImage) -> None:
        nonlocal first
        if count > 1:
            file.write(f"{'' if first else chr(10)}== {image.name} ==\n")
        file.write(image.text + "\n" if image.words else "")
        first = False

    yield add


@contextlib.contextmanager
def _hocr(file: Any, count: int) -> Iterator[Add]:
    pages = 0

    def add(image: SpottedImage) -> None:
        nonlocal pages
        file.write(hocr.page(image, pages))
        pages += 1

    file.write(hocr.HEAD)
    yield add
    file.write(hocr.FOOT)


@contextlib.contextmanager
def _submission(file: Any, count: int) -> Iterator[Add]:
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:

        def add(image: SpottedImage) -> None:
            lines = [rrc.line(word.polygon, word.text) for word in image.words]
            # An entry with a fixed date, so that equal results are equal files.
            archive.writestr(zipfile.ZipInfo(rrc.entry(image.name)), "".join(lines), zipfile.ZIP_DEFLATED)

        yield add


_WRITERS: dict[str, Callable[[Any, int], contextlib.AbstractContextManager[Add]]] = {
    ".json": _json,
    ".jsonl": _jsonl,
    ".txt": _text,
    ".hocr": _hocr,
    ".html": _hocr,
    ".xml": _hocr,
    ".zip": _submission,
}
ENDINGS = (*_WRITERS, *overlay.IMAGE_FORMATS)
