"""SCUT-CTW1500: polygons of 14 points, in an xml file for each training photo and a text file for each test photo.

No instance is marked as ignored, also not those with the text "###" (since 2020 all Chinese lines): the published
numbers count them as text to find (tools/data/textdet/ctw1500_converter.py of TCM and of mmocr 0.x).

Source: data/README.md of Yuliang-Liu/Curve-Text-Detector.
"""

import functools
import xml.etree.ElementTree as ElementTree
from pathlib import Path

import numpy as np

from tcm_jax.data.scenes.formats.base import AnnotationFormat, Found, Problems, report_error
from tcm_jax.data.scenes.formats.lines import line_parser, most_lines, numbers
from tcm_jax.records import SourceError

_POINTS = 14


def _line(line: str) -> tuple[np.ndarray, str, bool]:
    """`x1,y1,...,x14,y14,####text` of the test set, or 32 integers of the first release, which has no texts.

    Those are the box left, top, right, bottom and 14 points relative to its upper left corner.
    """
    fields = line.split(",", 2 * _POINTS)
    rest = fields[2 * _POINTS :]
    if rest and rest[0].startswith("####"):
        return numbers(fields[: 2 * _POINTS], 2 * _POINTS).reshape(_POINTS, 2), rest[0][4:], False
    values = numbers(line.split(","), 4 + 2 * _POINTS)
    return values[4:].reshape(_POINTS, 2) + values[:2], "", False


_parse_text = line_parser(_line, "x1,y1,...,x14,y14,####text or the 32 integers of the first release")


def _parse(data: bytes, path: Path, problems: Problems) -> list[Found]:
    return _parse_xml(data, path, problems) if _is_xml(data) else _parse_text(data, path, problems)


def _parse_xml(data: bytes, path: Path, problems: Problems) -> list[Found]:
    """`<box ...><label>OLATHE</label><segs>131,58,208,49,...</segs>...</box>` at any depth."""
    try:
        root = ElementTree.fromstring(data)
    except ElementTree.ParseError as error:
        raise SourceError(f"{path}:{error.position[0]}: not XML ({error})") from error
    found = []
    for number, box in enumerate(root.iter("box"), start=1):
        points = box.findtext("segs", "").strip()
        try:
            polygon = numbers(points.split(","), 2 * _POINTS).reshape(_POINTS, 2)
        except ValueError as error:
            report_error(
                problems, f"{path}: box {number}", f"<segs>{points[:80]}</segs> ({error}); expected 28 integers"
            )
        else:
            found.append((polygon, (box.findtext("label") or "").strip(), False, f"{path.name} box {number}"))
    return found


def _is_xml(data: bytes) -> bool:
    return data.removeprefix(b"\xef\xbb\xbf").lstrip().startswith(b"<")


def _recognises(data: bytes) -> bool:
    return b"<segs>" in data if _is_xml(data) else _most_lines(data)


_most_lines = functools.partial(most_lines, _line)

# The annotation of test photo 1001.jpg is called 0001001.txt, that of training photo 0200.jpg 0200.xml.
CTW1500 = AnnotationFormat("ctw1500", (".xml", ".txt"), ("000",), _recognises, _parse)
