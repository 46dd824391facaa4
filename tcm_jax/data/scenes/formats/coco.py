"""Data sets annotated in forms of COCO's JSON: CurvedSynText150k, TextOCR and COCO-Text v2."""

from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import numpy as np

from tcm_jax.data.scenes.formats.base import Problems, SetFormat, begins, parse_instances, report_error
from tcm_jax.data.scenes.formats.documents import field, json_object, points
from tcm_jax.data.scenes.formats.packed import PackedAnnotations
from tcm_jax.data.scenes.regions import AnnotationReport, Instance
from tcm_jax.records import SourceError

_CURVE_POINTS = 8  # on each of the two curves: off by at most about a fiftieth of the height of the arc
_PAD, _UNKNOWN = 96, 95


def _curved(annotation: dict[str, Any]) -> Instance:
    """CurvedSynText150k: `bezier_pts`, 16 numbers, and `rec`, indices of characters."""
    control = points(annotation, "bezier_pts")
    if len(control) != 8:
        raise ValueError(f"'bezier_pts' has {2 * len(control)} numbers; expected 16")
    return _between_curves(control), _decode(field(annotation, "rec")), bool(annotation.get("iscrowd"))


def _between_curves(control: np.ndarray) -> np.ndarray:
    """The polygon between two cubic Bezier curves, from their control points [8, 2].

    The first runs along the top of the text from its beginning to its end, the second along the bottom back.
    """
    t = np.linspace(0, 1, _CURVE_POINTS)[:, None]
    weights = np.hstack([(1 - t) ** 3, 3 * t * (1 - t) ** 2, 3 * t**2 * (1 - t), t**3])
    return np.concatenate([weights @ control[:4], weights @ control[4:]]).astype(np.float32)


def _decode(indices: list[int]) -> str:
    """The text of `rec`: 0 to 94 are the ASCII characters from the blank on, 95 is any other, 96 pads the end."""
    text = ""
    for index in indices:
        if index == _PAD:
            break
        if not 0 <= index <= _PAD:
            raise ValueError(f"'rec' has {index}; expected 0 to {_PAD}")
        text += "\N{REPLACEMENT CHARACTER}" if index == _UNKNOWN else chr(ord(" ") + index)
    return text


def _textocr(annotation: dict[str, Any]) -> Instance:
    """TextOCR: `points`, x and y in turn; "." is text that is illegible or not English."""
    text = field(annotation, "utf8_string", str)
    return points(annotation, "points"), text, text == "."


def _coco_text(annotation: dict[str, Any]) -> Instance:
    """COCO-Text v2: `mask`, x and y in turn; only legible text counts. Illegible text has no `utf8_string`."""
    text = field(annotation, "utf8_string", str, "")
    return points(annotation, "mask"), text, field(annotation, "legibility") != "legible"


def _read_curved(path: Path, part: str, problems: Problems, report: AnnotationReport) -> PackedAnnotations:
    images, annotations = _objects(path, "images", "annotations", list)
    return _gather(path, images, annotations, _curved, "'bezier_pts' and 'rec'", problems)


def _read_textocr(path: Path, part: str, problems: Problems, report: AnnotationReport) -> PackedAnnotations:
    images, annotations = (objects.values() for objects in _objects(path, "imgs", "anns", dict))
    gathered = _gather(path, images, annotations, _textocr, "'points' and 'utf8_string'", problems)
    # The file has "train/a.jpg", also for the validation set; the images are distributed as "train_images/a.jpg".
    gathered.images = [image.rpartition("/")[2] for image in gathered.images]
    return gathered


def _read_coco_text(path: Path, part: str, problems: Problems, report: AnnotationReport) -> PackedAnnotations:
    images, annotations = _objects(path, "imgs", "anns", dict)
    chosen = {key: image for key, image in images.items() if image.get("set") == part}
    others = set(images) - set(chosen)
    own = [annotation for annotation in annotations.values() if str(annotation.get("image_id")) not in others]
    if not own:
        # The annotations of the set "test" were never published; without them all its text would count as absent.
        raise SourceError(f"{path} has no annotation for its {len(chosen):,} images of {part!r}; expected some")
    return _gather(path, chosen.values(), own, _coco_text, "'mask' and 'legibility'", problems)


def _objects(path: Path, images: str, annotations: str, kind: type) -> list[Any]:
    """The values of two keys of a JSON file: lists or dicts of objects."""
    document = json_object(path)
    for name in (images, annotations):
        value = document.get(name)
        entries = value.values() if isinstance(value, dict) else value
        if not isinstance(value, kind) or not all(isinstance(entry, dict) for entry in entries or ()):
            what = f"{name!r} is a {type(value).__name__}" if name in document else f"there is no {name!r}"
            raise SourceError(f"{path}: {what}; expected a {kind.__name__} of objects")
    return [document[images], document[annotations]]


def _gather(
    path: Path,
    images: Iterable[dict[str, Any]],
    annotations: Iterable[dict[str, Any]],
    parse: Callable[[dict[str, Any]], Instance],
    expected: str,
    problems: Problems,
) -> PackedAnnotations:
    """The annotations by image.

    They are assigned by their `image_id`; the index of TextOCR and COCO-Text, named `imgToAnns` or `img2Anns`, is not
    needed. Ids are compared as strings, since the keys of a JSON object are no numbers.
    """
    by_image: dict[str, tuple[str, list[tuple[str, dict[str, Any]]]]] = {}
    for image in images:
        name = image.get("file_name", image.get("filename"))
        if "id" in image and isinstance(name, str):
            by_image[str(image["id"])] = name, []
        else:
            report_error(problems, f"{path}", f"{str(image)[:80]}; expected an image with 'id' and 'file_name'")
    for annotation in annotations:
        place, owner = f": annotation {annotation.get('id')}", annotation.get("image_id")
        if str(owner) in by_image:
            by_image[str(owner)][1].append((place, annotation))
        else:
            report_error(problems, f"{path}{place}", f"'image_id' is {owner!r}; no such image")
    return PackedAnnotations(
        (name, parse_instances(path, entries, parse, expected, problems)) for name, entries in by_image.values()
    )


def _has(head: bytes, *fields: str) -> bool:
    """Whether `head` is the beginning of a JSON object and contains all `fields`."""
    return begins(head, rb"\{") and all(f'"{name}"'.encode() in head for name in fields)


def _recognises_curved(head: bytes) -> bool:
    # The annotations may come after more images than the beginning of the file has.
    return _has(head, "images", "file_name") or _has(head, "bezier_pts")


def _recognises_textocr(head: bytes) -> bool:
    return _has(head, "points", "utf8_string") or (_has(head, "imgs", "set") and b"COCO_" not in head)


def _recognises_coco_text(head: bytes) -> bool:
    return _has(head, "mask", "legibility") or (_has(head, "imgs", "set") and b"COCO_" in head)


CURVED_SYNTHTEXT = SetFormat("curved_synthtext", (".json",), _recognises_curved, _read_curved)
TEXTOCR = SetFormat("textocr", (".json",), _recognises_textocr, _read_textocr)
COCO_TEXT = SetFormat("coco_text", (".json",), _recognises_coco_text, _read_coco_text, ("train", "val", "test"))
