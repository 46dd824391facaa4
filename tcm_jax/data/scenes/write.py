"""Writes annotated images as a folder of the format "jsonl"."""

import io
import itertools
import json
import re
from collections.abc import Iterable
from pathlib import Path

from PIL import Image

from tcm_jax.data.scenes.regions import region_to_json
from tcm_jax.files import atomic_folder
from tcm_jax.images.decoding import encoded, image_size
from tcm_jax.records import AnnotatedImage

LABELS = "labels.jsonl"
_SUFFIX = re.compile(r"\.(jpe?g|png|webp|bmp|gif|tiff?|ppm)$", re.I)


def write_annotated_folder(records: Iterable[AnnotatedImage], path: str | Path) -> int:
    """Writes `records` as the new folder `path` of images/ and a labels.jsonl; returns their number.

    A line of labels.jsonl is {"image", "width", "height", "instances": [{"polygon": [[x, y], ...], "text", "ignore"}]}.
    The folder appears when it is complete. Images keep their names, with a number where another has the same, and
    their bytes; arrays are stored as PNG.

    Raises:
        FileExistsError: `path` exists.
        ImageError: an image is no image file.
    """
    taken: set[str] = set()
    with atomic_folder(path, last=LABELS) as folder:
        (folder / "images").mkdir()
        with open(folder / LABELS, "w", encoding="utf-8") as labels:
            for record in records:
                height, width = image_size(record.image, record.name)
                image = encoded(record.image)
                name = f"images/{_free_name(record.name, image, taken)}"
                (folder / name).write_bytes(image)
                instances = [region_to_json(region) for region in record.regions]
                row = {"image": name, "width": width, "height": height, "instances": instances}
                labels.write(json.dumps(row, ensure_ascii=False) + "\n")
    return len(taken)


def _free_name(name: str, image: bytes, taken: set[str]) -> str:
    """The file name in a record's name, with the suffix of its format if it has none and a number if it is `taken`."""
    file = re.sub(r"[^\w.-]+", "_", name.rsplit("/", 1)[-1])
    found = _SUFFIX.search(file)
    suffix = found[0] if found else "." + str(Image.open(io.BytesIO(image)).format).lower()
    stem = file.removesuffix(suffix) or "photo"
    stems = itertools.chain([stem], (f"{stem}-{number}" for number in itertools.count(2)))
    free = next(stem for stem in stems if stem.lower() not in taken)  # lower: some file systems ignore case
    taken.add(free.lower())
    return free + suffix
