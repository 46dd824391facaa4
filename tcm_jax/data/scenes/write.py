"""Photos with their text instances, written as a folder that the format "jsonl" reads."""

import io
import json
import re
from collections.abc import Iterable
from pathlib import Path

from PIL import Image

from tcm_jax.data.scenes.regions import instance
from tcm_jax.files import atomic_folder
from tcm_jax.images.decoding import encoded, image_size
from tcm_jax.records import AnnotatedImage

LABELS = "labels.jsonl"
_IMAGES = "images"
_SUFFIX = re.compile(r"\.(jpe?g|png|webp|bmp|gif|tiff?|ppm)$", re.I)


def write_scene_folder(records: Iterable[AnnotatedImage], path: str | Path) -> int:
    """Writes `records` as the new folder `path` of images/ and a labels.jsonl; returns their number.

    A line of labels.jsonl is {"image", "width", "height", "instances": [{"polygon": [[x, y], ...], "text", "ignore"}]}.
    The folder appears when it is complete. Photos keep their names, with a number where another has the same, and
    their bytes; those given as arrays are stored as PNG.

    Raises:
        FileExistsError: `path` exists.
        ImageError: a photo is no image file.
    """
    taken: set[str] = set()
    with atomic_folder(path, last=LABELS) as folder:
        (folder / _IMAGES).mkdir()
        with open(folder / LABELS, "w", encoding="utf-8") as labels:
            for record in records:
                height, width = image_size(record.image, record.name)
                image = encoded(record.image)
                name = f"{_IMAGES}/{_free_name(record.name, image, taken)}"
                (folder / name).write_bytes(image)
                instances = [instance(region) for region in record.regions]
                row = {"image": name, "width": width, "height": height, "instances": instances}
                labels.write(json.dumps(row, ensure_ascii=False) + "\n")
    return len(taken)


def _free_name(name: str, image: bytes, taken: set[str]) -> str:
    """The file name in a record's name, with a suffix if it has none: one that `taken`, to which it is added, lacks."""
    file = re.sub(r"[^\w.-]+", "_", name.rsplit("/", 1)[-1])
    found = _SUFFIX.search(file)
    suffix = found[0] if found else "." + str(Image.open(io.BytesIO(image)).format).lower()
    stem = free = file.removesuffix(suffix) or "photo"
    number = 1
    while free.lower() in taken:  # lower: some file systems don't tell A from a
        number += 1
        free = f"{stem}-{number}"
    taken.add(free.lower())
    return free + suffix
