"""Sets annotated in forms of COCO's JSON: CurvedSynText150k, TextOCR and COCO-Text v2."""

import re
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

from tcm_jax.data.scenes.formats.base import Problems, SetAnnotations, SetFormat, report_error
from tcm_jax.data.scenes.formats.documents import json_object, points
from tcm_jax.data.scenes.formats.packed import Instance, PackedAnnotations
from tcm_jax.data.scenes.regions import AnnotationReport
from tcm_jax.records import SourceError

# A text instance from an annotation; KeyError if it lacks a field, ValueError that says what is wrong with one.
Convert = Callable[[dict], Instance]

_CURVE_POINTS = 8  # on each of the two curves: off by at most about a fiftieth of the height of the arc
_PAD, _UNKNOWN = 96, 95


def _curved(annotation: dict) -> Instance:
    """CurvedSynText150k: `bezier_pts`, 16 numbers, and `rec`, indices of letters."""
    control = points(annotation["bezier_pts"])
    if len(control) != 8:
        raise ValueError(f"'bezier_pts' has {2 * len(control)} numbers; expected 16")
    return _between_curves(control), _letters(annotation["rec"]), bool(annotation.get("iscrowd"))


def _between_curves(control: np.ndarray) -> np.ndarray:
    """The polygon between two cubic Bezier curves, from their control points [8, 2].

    The first runs along the top of the text from its beginning to its end, the second along the bottom back.
    """
    t = np.linspace(0, 1, _CURVE_POINTS)[:, None]
    weights = np.hstack([(1 - t) ** 3, 3 * t * (1 - t) ** 2, 3 * t**2 * (1 - t), t**3])
    return np.concatenate([weights @ control[:4], weights @ control[4:]]).astype(np.float32)


def _letters(indices: list[int]) -> str:
    """The text of `rec`: 0 to 94 are the characters of ASCII from the blank on, 95 is any other, 96 fills the end."""
    text = ""
    for index in indices:
        if index == _PAD:
            break
        if not 0 <= index <= _PAD:
            raise ValueError(f"'rec' has {index}; expected 0 to {_PAD}")
        text += "\N{REPLACEMENT CHARACTER}" if index == _UNKNOWN else chr(ord(" ") + index)
    return text


def _textocr(annotation: dict) -> Instance:
    """TextOCR: `points`, x and y in turn; "." is text that can't be read or is not English."""
    text = annotation["utf8_string"]
    return points(annotation["points"]), text, text == "."


def _coco_text(annotation: dict) -> Instance:
    """COCO-Text v2: `mask`, x and y in turn; only legible text counts. Illegible text has no `utf8_string`."""
    return points(annotation["mask"]), annotation.get("utf8_string", ""), annotation["legibility"] != "legible"


def _read_curved(path: Path, part: str, problems: Problems, report: AnnotationReport) -> SetAnnotations:
    document = json_object(path)
    images, annotations = (_field(document, path, name, list) for name in ("images", "annotations"))
    return _gather(path, images, annotations, _curved, problems)


def _read_textocr(path: Path, part: str, problems: Problems, report: AnnotationReport) -> SetAnnotations:
    document = json_object(path)
    images, annotations = (_field(document, path, name, dict).values() for name in ("imgs", "anns"))
    gathered = _gather(path, images, annotations, _textocr, problems)
    # The file names "train/a.jpg", also in the validation set; the photos come as "train_images/a.jpg".
    gathered.photos = [photo.rpartition("/")[2] for photo in gathered.photos]
    return gathered


def _read_coco_text(path: Path, part: str, problems: Problems, report: AnnotationReport) -> SetAnnotations:
    document = json_object(path)
    images, annotations = (_field(document, path, name, dict) for name in ("imgs", "anns"))
    chosen = {key: image for key, image in images.items() if image.get("set") == part}
    others = set(images) - set(chosen)
    own = [annotation for annotation in annotations.values() if str(annotation.get("image_id")) not in others]
    if not own:
        # The annotations of the set "test" were never published: without them all its text would count as absent.
        raise SourceError(f"{path} has no annotation for its {len(chosen):,} photos of {part!r}; expected some")
    return _gather(path, chosen.values(), own, _coco_text, problems)


def _field(document: dict, path: Path, name: str, kind: type) -> Any:
    value = document.get(name)
    entries = value.values() if isinstance(value, dict) else value
    if not isinstance(value, kind) or not all(isinstance(entry, dict) for entry in entries or ()):
        what = f"{name!r} is a {type(value).__name__}" if name in document else f"there is no {name!r}"
        raise SourceError(f"{path}: {what}; expected a {kind.__name__} of objects")
    return value


def _gather(
    path: Path, images: Iterable[dict], annotations: Iterable[dict], convert: Convert, problems: Problems
) -> PackedAnnotations:
    """The annotations by photo.

    They are assigned by their `image_id`; the index of TextOCR and COCO-Text, which some call `imgToAnns` and some
    `img2Anns`, is not needed. Ids are compared as text: the keys of a JSON object are no numbers.
    """
    of_image: dict[str, list[dict]] = {}
    names = {}
    for image in images:
        name = image.get("file_name", image.get("filename"))
        if "id" not in image or not isinstance(name, str):
            report_error(problems, f"{path}", f"{str(image)[:80]}; expected a photo with 'id' and 'file_name'")
            continue
        names[str(image["id"])] = name
        of_image[str(image["id"])] = []
    for annotation in annotations:
        if str(annotation.get("image_id")) in of_image:
            of_image[str(annotation["image_id"])].append(annotation)
        else:
            report_error(
                problems, _where(path, annotation), f"'image_id' is {annotation.get('image_id')!r}; no such photo"
            )
    return PackedAnnotations(
        (names[key], _instances(path, entries, convert, problems)) for key, entries in of_image.items()
    )


def _instances(path: Path, annotations: list[dict], convert: Convert, problems: Problems) -> Iterator[Instance]:
    for annotation in annotations:
        try:
            instance = convert(annotation)
            if not isinstance(instance[1], str):
                raise ValueError(f"the text is {instance[1]!r}; expected a string")
        except KeyError as error:
            report_error(problems, _where(path, annotation), f"has no {error}; found {', '.join(annotation)}")
        except (ValueError, TypeError) as error:
            report_error(problems, _where(path, annotation), str(error))
        else:
            yield instance


def _where(path: Path, annotation: dict) -> str:
    return f"{path}: annotation {annotation.get('id')}"


def _begins(head: bytes, *fields: str) -> bool:
    """Whether `head` is the beginning of a JSON object and has all `fields` in it."""
    return re.match(rb"(?:\xef\xbb\xbf)?\s*\{", head) is not None and all(
        f'"{name}"'.encode() in head for name in fields
    )


def _recognises_curved(head: bytes) -> bool:
    # The annotations stand behind more photos than the beginning of the file shows.
    return _begins(head, "images", "file_name") or _begins(head, "bezier_pts")


def _recognises_textocr(head: bytes) -> bool:
    return _begins(head, "points", "utf8_string") or (_begins(head, "imgs", "set") and b"COCO_" not in head)


def _recognises_coco_text(head: bytes) -> bool:
    return _begins(head, "mask", "legibility") or (_begins(head, "imgs", "set") and b"COCO_" in head)


CURVED_SYNTHTEXT = SetFormat("curved_synthtext", (".json",), _recognises_curved, _read_curved)
TEXTOCR = SetFormat("textocr", (".json",), _recognises_textocr, _read_textocr)
COCO_TEXT = SetFormat("coco_text", (".json",), _recognises_coco_text, _read_coco_text, ("train", "val", "test"))
