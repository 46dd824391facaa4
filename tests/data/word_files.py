"""Small word images and data sets, made by the tests of tcm_jax/data."""

import io
import os
import sys
from pathlib import Path

import lmdb
import numpy as np
from PIL import Image

from tcm_jax.commands.data import main
from tcm_jax.records import WordCrop


def jpeg(number: int, width: int = 20, height: int = 10) -> bytes:
    """An image whose gray level tells its number."""
    file = io.BytesIO()
    Image.new("RGB", (width, height), (number * 5 % 256,) * 3).save(file, "JPEG", quality=95)
    return file.getvalue()


def records(count: int, broken: tuple[int, ...] = ()) -> list[WordCrop]:
    """`count` records "w0", "w1" ...; the images of `broken` end early."""
    return [WordCrop(jpeg(i)[: -300 if i in broken else None], f"w{i}", f"made:{i}") for i in range(count)]


class ListSource:
    """A source of records in memory."""

    kind = "list"

    def __init__(self, records: list[WordCrop], name: str = "made"):
        self.records = records
        self.name = name

    def __len__(self) -> int:
        return len(self.records)

    def __getitem__(self, index: int) -> WordCrop:
        return self.records[index]

    def labels(self):
        return (record.label for record in self.records)


def folder(path: Path, label_file: str, content: str | bytes, images: tuple[str, ...] = ("a.jpg", "b.jpg")) -> Path:
    """A folder with `images` and one label file."""
    for number, name in enumerate(images):
        (path / name).parent.mkdir(parents=True, exist_ok=True)
        (path / name).write_bytes(jpeg(number))
    (path / label_file).write_bytes(content if isinstance(content, bytes) else content.encode())
    return path


def raw_lmdb(path: Path, entries: dict[str, bytes]) -> Path:
    """An LMDB with exactly these entries."""
    os.makedirs(path)
    with lmdb.open(str(path), map_size=1 << 20) as environment, environment.begin(write=True) as transaction:
        for key, value in entries.items():
            transaction.put(key.encode(), value)
    return path


def run_data(*arguments) -> int:
    """The exit code of `python -m tcm_jax.data`; what ends it is printed, as Python does."""
    try:
        return main([str(argument) for argument in arguments])
    except SystemExit as end:
        print(end.code, file=sys.stderr)
        return 1


def run(capsys, *arguments) -> tuple[int, str]:
    """Exit code and printed text of `python -m tcm_jax.data`."""
    code = run_data(*arguments)
    printed = capsys.readouterr()
    return code, printed.out + printed.err


def gray(batch_image: np.ndarray) -> int:
    """The number of a `jpeg` from its (resized) pixels."""
    return round(float(batch_image.mean()) / 5)
