"""The plain format: a JSON object for each photo on a line of its own.

    {"image": "images/a.jpg", "width": 640, "height": 480,
     "instances": [{"polygon": [[x, y], ...], "text": "word", "ignore": false}, ...]}

"text" and "ignore" may be left out; "width" and "height" are not read.
"""

import json
from pathlib import Path
from typing import Any

from tcm_jax.data.scenes.formats.base import (
    Found,
    ListedAnnotations,
    Problems,
    SetAnnotations,
    SetFormat,
    report_error,
)
from tcm_jax.data.scenes.formats.documents import points
from tcm_jax.data.scenes.regions import AnnotationReport
from tcm_jax.data.text_files import read_bytes, text_lines

_EXPECTED = '{"image": "a.jpg", "instances": [{"polygon": [[x, y], ...], "text": "", "ignore": false}, ...]}'


def _read(path: Path, part: str, problems: Problems, report: AnnotationReport) -> SetAnnotations:
    del part, report  # the file has no parts, and all its photos count
    photos, instances = [], []
    for number, line in text_lines(read_bytes(path), path):
        where = f"{path}:{number}"
        try:
            row = json.loads(line)
            photo, listed = _text(row["image"]), list(row["instances"])
        except (KeyError, TypeError, ValueError) as error:
            report_error(problems, where, f"{line[:80]!r} ({error!r}); expected {_EXPECTED}")
            continue
        photos.append(photo)
        instances.append([found for entry in listed if (found := _instance(path, number, entry, problems))])
    return ListedAnnotations(photos, instances)


def _instance(path: Path, number: int, instance: Any, problems: Problems) -> Found | None:
    try:
        ignore = instance.get("ignore", False)
        if not isinstance(ignore, bool):
            raise TypeError(f"{ignore!r} is neither true nor false")
        return points(instance["polygon"]), _text(instance.get("text", "")), ignore, f"{path.name}:{number}"
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        report_error(problems, f"{path}:{number}", f"{str(instance)[:80]!r} ({error!r}); expected {_EXPECTED}")
        return None


def _text(value: Any) -> str:
    if not isinstance(value, str):
        raise TypeError(f"{value!r} is no string")
    return value


def _recognises(head: bytes) -> bool:
    return head.lstrip(b"\xef\xbb\xbf \t\r\n").startswith(b"{") and b'"instances"' in head


JSONL = SetFormat("jsonl", (".jsonl",), _recognises, _read)
