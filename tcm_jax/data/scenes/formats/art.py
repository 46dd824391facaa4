"""ArT, and NightTime-ArT, whose photos are some of ArT's: one JSON file, a polygon for each word or line.

    {"gt_1726": [{"transcription": "word", "points": [[x, y], ...], "language": "Latin", "illegibility": false}]}

The key is the name of the photo without ".jpg". https://rrc.cvc.uab.es/?ch=14.
"""

import re
from collections.abc import Iterator
from pathlib import Path

from tcm_jax.data.scenes.formats.base import Problems, SetAnnotations, SetFormat, report_error
from tcm_jax.data.scenes.formats.documents import json_object, points
from tcm_jax.data.scenes.formats.packed import Instance, PackedAnnotations
from tcm_jax.data.scenes.regions import AnnotationReport
from tcm_jax.records import SourceError

_EXPECTED = 'expected {"transcription": "word", "points": [[x, y], ...], "illegibility": false}'


def _recognises(head: bytes) -> bool:
    return re.match(rb'(?:\xef\xbb\xbf)?\s*\{\s*"gt_\d+"\s*:\s*\[', head) is not None


def _read(path: Path, part: str, problems: Problems, report: AnnotationReport) -> SetAnnotations:
    document = json_object(path)
    for key, entries in document.items():
        if not isinstance(entries, list):
            raise SourceError(f"{path}: {key!r} is a {type(entries).__name__}; expected a list of text instances")
    return PackedAnnotations(
        (f"{key}.jpg", _instances(path, key, entries, problems)) for key, entries in document.items()
    )


def _instances(path: Path, key: str, entries: list, problems: Problems) -> Iterator[Instance]:
    for number, entry in enumerate(entries, start=1):
        where = f"{path}: {key}:{number}"
        if not isinstance(entry, dict) or not isinstance(entry.get("transcription"), str) or "points" not in entry:
            report_error(problems, where, f"{str(entry)[:80]}; {_EXPECTED}")
            continue
        try:
            polygon = points(entry["points"])
        except ValueError as error:
            report_error(problems, where, f"'points' {error}")
            continue
        text = entry["transcription"]
        yield polygon, text, text == "###" or bool(entry.get("illegibility"))


ART = SetFormat("art", (".json",), _recognises, _read)
