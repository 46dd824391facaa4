"""The plain format: a JSON object for each image on a line of its own.

    {"image": "images/a.jpg", "width": 640, "height": 480,
     "instances": [{"polygon": [[x, y], ...], "text": "word", "ignore": false}, ...]}

"text" and "ignore" may be left out; "width" and "height" are not read.
"""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from tcm_jax.data.scenes.formats.base import Problems, SetFormat, begins, parse_instances, report_error
from tcm_jax.data.scenes.formats.documents import field, points
from tcm_jax.data.scenes.formats.packed import PackedAnnotations
from tcm_jax.data.scenes.regions import Annotation, AnnotationReport, Instance
from tcm_jax.data.text_files import read_bytes, text_lines

_EXPECTED = '{"image": "a.jpg", "instances": [{"polygon": [[x, y], ...], "text": "", "ignore": false}, ...]}'


def _read(path: Path, part: str, problems: Problems, report: AnnotationReport) -> PackedAnnotations:
    return PackedAnnotations(_rows(path, problems), keep_places=True)


def _rows(path: Path, problems: Problems) -> Iterator[tuple[str, Iterator[Annotation]]]:
    for number, line in text_lines(read_bytes(path), path):
        try:
            row = json.loads(line)
            image, instances = field(row, "image", str), field(row, "instances", list)
        except (TypeError, ValueError) as error:
            report_error(problems, f"{path}:{number}", f"{line[:80]!r} ({error}); expected {_EXPECTED}")
        else:
            entries = [(f":{number}", instance) for instance in instances]
            yield image, parse_instances(path, entries, _instance, _EXPECTED, problems)


def _instance(entry: dict[str, Any]) -> Instance:
    return points(entry, "polygon"), field(entry, "text", str, ""), field(entry, "ignore", bool, False)


def _recognises(head: bytes) -> bool:
    return begins(head, rb"\{") and b'"instances"' in head


JSONL = SetFormat("jsonl", (".jsonl",), _recognises, _read)
