"""Small files of the formats with one annotation file for all images, and what is in them."""

import json
from pathlib import Path

import numpy as np
import scipy.io

from tcm_jax.data.scenes.formats.art import ART
from tcm_jax.data.scenes.formats.coco import COCO_TEXT, CURVED_SYNTHTEXT, TEXTOCR
from tcm_jax.data.scenes.formats.synthtext import SYNTHTEXT
from tcm_jax.data.scenes.regions import AnnotationReport

BOX = [1, 1, 9, 1, 9, 5, 1, 5]
CORNERS = [[1, 1], [9, 1], [9, 5], [1, 5]]
FORMATS = [ART, SYNTHTEXT, CURVED_SYNTHTEXT, TEXTOCR, COCO_TEXT]


def write(path: Path, document) -> Path:
    path.write_text(document if isinstance(document, str) else json.dumps(document), "utf-8")
    return path


def read(format, path: Path, part: str = "", problems: list[str] | None = None, report: AnnotationReport | None = None):
    """Photos and their (polygon, text, ignore); the file is recognised by its format and by no other."""
    head = path.read_bytes()[:4096]
    assert [other.name for other in FORMATS if other.recognises(head)] == [format.name]
    annotations = format.read(path, part, problems, report or AnnotationReport())
    return {
        image: [(np.asarray(polygon).tolist(), text, ignore) for polygon, text, ignore, _ in annotations.instances(i)]
        for i, image in enumerate(annotations.images)
    }


def cells(values: list) -> np.ndarray:
    table = np.empty((1, len(values)), object)
    for i, value in enumerate(values):
        table[0, i] = value
    return table


def boxes(*lefts: float) -> np.ndarray:
    """float32 [2, 4, n], as wordBB has it: 8 x 4 pixels from x = left, y = 1."""
    one = np.array([[0, 8, 8, 0], [1, 1, 5, 5]], np.float32)
    return np.stack([np.add(one, [[left], [0]]) for left in lefts], axis=2).astype(np.float32)


def gt_mat(path: Path, images: list[tuple[str, np.ndarray, list[str]]], **other) -> Path:
    names, quads, texts = zip(*images, strict=True)
    variables = {
        "charBB": cells([np.zeros((2, 4, 3))] * len(names)),
        "imnames": cells(list(names)),
        "txt": cells([np.array(text) for text in texts]),
        "wordBB": cells(list(quads)),
    }
    scipy.io.savemat(path, variables | other, do_compression=True)
    return path


def curved(annotations: list[dict], **image) -> dict:
    fields = {"width": 400, "height": 300, "file_name": "0000000.jpg", "id": 60001}
    return {"licenses": [], "images": [fields | image], "annotations": annotations, "categories": []}


# Two straight lines, the lower one from right to left; the inner points of a cubic at a third and two thirds.
STRAIGHT = [0, 0, 30, 0, 60, 0, 90, 0, 90, 20, 60, 20, 30, 20, 0, 20]
HELLO = [ord(letter) - ord(" ") for letter in "Hi ~"] + [96] * 21


def word_on_curves(**other) -> dict:
    return {"image_id": 60001, "id": 3, "bezier_pts": STRAIGHT, "rec": HELLO, "iscrowd": 0, "category_id": 1} | other


def coco_text() -> dict:
    annotation = {"mask": BOX, "class": "machine printed", "bbox": [1, 1, 8, 4], "language": "english", "area": 32.0}
    fields = {"height": 480, "width": 640}
    return {
        "cats": {},
        "anns": {
            "45346": {**annotation, "image_id": 522579, "id": 45346, "utf8_string": "the", "legibility": "legible"},
            "45347": {**annotation, "image_id": 522579, "id": 45347, "legibility": "illegible"},
            "45348": {**annotation, "image_id": 7, "id": 45348, "utf8_string": "", "legibility": "legible"},
        },
        "imgs": {
            "522579": {"id": 522579, "set": "train", "file_name": "COCO_train2014_000000522579.jpg", **fields},
            "8": {"id": 8, "set": "train", "file_name": "COCO_train2014_000000000008.jpg", **fields},
            "7": {"id": 7, "set": "val", "file_name": "COCO_train2014_000000000007.jpg", **fields},
            "9": {"id": 9, "set": "test", "file_name": "COCO_train2014_000000000009.jpg", **fields},
        },
        "imgToAnns": {"522579": [45346, 45347], "7": [45348]},
        "info": {},
    }
