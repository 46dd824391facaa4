"""SCUT-CTW1500: polygons of 14 points, in an xml file for each training image and a text file for each test image.

No instance is ignored, not even one with the text "###" (since 2020 all Chinese lines): the published numbers count
them as text to find (tools/data/textdet/ctw1500_converter.py of TCM and of mmocr 0.x).

Source: data/README.md of Yuliang-Liu/Curve-Text-Detector.
"""

import xml.etree.ElementTree as ElementTree
from pathlib import Path

from tcm_jax.data.scenes.formats.base import AnnotationFormat, Problems, begins, parse_instances
from tcm_jax.data.scenes.formats.lines import most_lines, numbers, parse_lines
from tcm_jax.data.scenes.regions import Annotation, Instance
from tcm_jax.records import SourceError

_POINTS = 14
_LINES = "x1,y1,...,x14,y14,####text or the 32 integers of the first release"


def _line(line: str) -> Instance:
    """`x1,y1,...,x14,y14,####text` of the test set, or 32 integers of the first release, which has no texts.

    Those are the box left, top, right, bottom and 14 points relative to its upper left corner.
    """
    fields = line.split(",", 2 * _POINTS)
    rest = fields[2 * _POINTS :]
    if rest and rest[0].startswith("####"):
        return numbers(fields[: 2 * _POINTS], 2 * _POINTS).reshape(_POINTS, 2), rest[0][4:], False
    values = numbers(line.split(","), 4 + 2 * _POINTS)
    return values[4:].reshape(_POINTS, 2) + values[:2], "", False


def _box(fields: dict[str, str]) -> Instance:
    """`<box ...><label>OLATHE</label><segs>131,58,208,49,...</segs>...</box>`, which may be at any depth."""
    return numbers(fields["segs"].split(","), 2 * _POINTS).reshape(_POINTS, 2), fields.get("label", ""), False


def _parse(data: bytes, path: Path, problems: Problems) -> list[Annotation]:
    if not begins(data, b"<"):
        return parse_lines(_line, _LINES, data, path, problems)
    try:
        root = ElementTree.fromstring(data)
    except ElementTree.ParseError as error:
        raise SourceError(f"{path}:{error.position[0]}: not XML ({error})") from error
    boxes = [{child.tag: (child.text or "").strip() for child in box} for box in root.iter("box")]
    entries = [(f": box {number}", box) for number, box in enumerate(boxes, start=1)]
    return list(parse_instances(path, entries, _box, "<segs> with 28 integers", problems))


def _recognises(data: bytes) -> bool:
    return b"<segs>" in data if begins(data, b"<") else most_lines(_line, data)


# The annotation file of test image 1001.jpg is 0001001.txt, that of training image 0200.jpg is 0200.xml.
CTW1500 = AnnotationFormat("ctw1500", (".xml", ".txt"), ("000",), _recognises, _parse)
