"""ArT, and NightTime-ArT, whose images are some of ArT's: one JSON file, a polygon for each word or line.

    {"gt_1726": [{"transcription": "word", "points": [[x, y], ...], "language": "Latin", "illegibility": false}]}

The key is the name of the image without ".jpg". https://rrc.cvc.uab.es/?ch=14.
"""

import functools
from pathlib import Path
from typing import Any

from tcm_jax.data.scenes.formats.base import Problems, SetFormat, begins, parse_instances
from tcm_jax.data.scenes.formats.documents import field, json_object, points
from tcm_jax.data.scenes.formats.packed import PackedAnnotations
from tcm_jax.data.scenes.regions import AnnotationReport, Instance
from tcm_jax.records import SourceError

_EXPECTED = '{"transcription": "word", "points": [[x, y], ...], "illegibility": false}'


def _read(path: Path, part: str, problems: Problems, report: AnnotationReport) -> PackedAnnotations:
    document = json_object(path)
    for key, entries in document.items():
        if not isinstance(entries, list):
            raise SourceError(f"{path}: {key!r} is a {type(entries).__name__}; expected a list of text instances")
    places = {key: [(f": {key}:{i}", entry) for i, entry in enumerate(entries, 1)] for key, entries in document.items()}
    return PackedAnnotations(
        (f"{key}.jpg", parse_instances(path, entries, _instance, _EXPECTED, problems))
        for key, entries in places.items()
    )


def _instance(entry: dict[str, Any]) -> Instance:
    text = field(entry, "transcription", str)
    return points(entry, "points"), text, text == "###" or bool(entry.get("illegibility"))


ART = SetFormat("art", (".json",), functools.partial(begins, pattern=rb'\{\s*"gt_\d+"\s*:\s*\['), _read)
