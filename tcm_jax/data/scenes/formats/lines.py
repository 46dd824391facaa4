"""Formats with a text file for each image and one line for each text instance: ICDAR2013 and 2015, MLT, MSRA-TD500.

Sources: the task pages of rrc.cvc.uab.es (ch=2, 4, 8, 15), the page of MSRA-TD500 at tc11.cvc.uab.es, and
tools/data/textdet/td_tr_converter.py of TCM for TD500 with nine columns.
"""

import functools
import re
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

from tcm_jax.data.scenes.formats.base import AnnotationFormat, Problems, parse_instances
from tcm_jax.data.scenes.regions import Annotation, Instance
from tcm_jax.data.text_files import text_lines
from tcm_jax.records import SourceError

IGNORED = "###"  # the transcription of text that is to be ignored
# Of MLT17 and MLT19.
_SCRIPTS = ["Arabic", "Latin", "Chinese", "Japanese", "Korean", "Bangla", "Hindi", "Symbols", "Mixed", "None"]

LineParser = Callable[[str], Instance]  # raises ValueError if the line is malformed


def numbers(tokens: Sequence[str], count: int) -> np.ndarray:
    """`count` numbers, float64 [count]; ValueError if there are more or fewer, or one is no number."""
    if len(tokens) != count:
        raise ValueError(f"{len(tokens)} numbers instead of {count}")
    return np.array([float(token) for token in tokens])


def corners(left: float, top: float, right: float, bottom: float) -> np.ndarray:
    """The corners of a box, [4, 2], clockwise from the upper left one."""
    return np.array([[left, top], [right, top], [right, bottom], [left, bottom]])


def parse_lines(parse_line: LineParser, expected: str, data: bytes, path: Path, problems: Problems) -> list[Annotation]:
    """Parses an annotation file with one text instance on each line; `expected` shows how a line looks."""
    entries = ((f":{number}", line) for number, line in text_lines(data, path))
    return list(parse_instances(path, entries, parse_line, expected, problems))


def most_lines(parse_line: LineParser, data: bytes) -> bool:
    """Whether `parse_line` accepts more than half of the lines of a file."""
    rejected: list[str] = []
    try:
        return len(parse_lines(parse_line, "", data, Path(), rejected)) > len(rejected)
    except SourceError:
        return False


def _icdar2013(line: str) -> Instance:
    """`158 128 411 181 "Footpath"` in the training set, `38, 43, 920, 215, "Tiredness"` in the test set."""
    box, quote, quoted = line.partition('"')
    if not quote or not quoted.endswith('"'):
        raise ValueError("no text in quotes")
    left, top, right, bottom = numbers(box.replace(",", " ").split(), 4)
    text = re.sub(r'\\(["\\])', r"\1", quoted[:-1])
    return corners(left, top, right, bottom), text, text == IGNORED


def _quadrilateral(line: str, columns: int = 9, scripts: Sequence[str] = ()) -> Instance:
    """`x1,y1,...,x4,y4,text`, in MLT `x1,y1,...,x4,y4,script,text`: the text may have commas and quotes.

    `scripts`, if given, are the accepted ones; they distinguish MLT from ICDAR2015 with a comma in the text.
    """
    fields = line.split(",", columns - 1)
    if len(fields) < columns:
        raise ValueError(f"{len(fields)} fields instead of {columns}")
    if scripts and fields[-2] not in scripts:
        raise ValueError(f"unknown script {fields[-2]!r}")
    return numbers(fields[:8], 8).reshape(4, 2), fields[-1], fields[-1] == IGNORED


def _td500(line: str) -> Instance:
    """`index difficult x y w h angle` of the data set, or `x1,y1,...,x4,y4,difficult` as DB and TCM write it.

    In the first form the box with the corner (x, y) is rotated by `angle` radians around its centre, from the x axis
    towards the y axis, which points down.
    """
    fields = line.split(",") if "," in line else line.split()
    if len(fields) not in (7, 9):
        raise ValueError(f"{len(fields)} fields instead of 7 or 9")
    difficult = fields[1] if len(fields) == 7 else fields[8].strip()
    if difficult not in ("0", "1"):
        raise ValueError(f"difficulty {difficult!r} is neither 0 nor 1")
    if len(fields) == 9:
        return numbers(fields[:8], 8).reshape(4, 2), "", difficult == "1"
    x, y, width, height, angle = numbers(fields[2:], 5)
    centre = np.array([x + width / 2, y + height / 2])
    cos, sin = np.cos(angle), np.sin(angle)
    rotation = np.array([[cos, sin], [-sin, cos]])  # of row vectors
    return (corners(x, y, x + width, y + height) - centre) @ rotation + centre, "", difficult == "1"


def _format(name: str, parse_line: LineParser, expected: str, sure: LineParser | None = None) -> AnnotationFormat:
    """`sure` accepts only lines that are of no other format."""
    recognises = functools.partial(most_lines, sure or parse_line)
    parse = functools.partial(parse_lines, parse_line, expected)
    return AnnotationFormat(name, (".gt", ".txt"), ("gt_",), recognises, parse)


ICDAR2013 = _format("icdar2013", _icdar2013, 'left, top, right, bottom, "text"')
ICDAR2015 = _format("icdar2015", _quadrilateral, "x1,y1,x2,y2,x3,y3,x4,y4,text")
MLT = _format(
    "mlt",
    functools.partial(_quadrilateral, columns=10),
    "x1,y1,x2,y2,x3,y3,x4,y4,script,text",
    sure=functools.partial(_quadrilateral, columns=10, scripts=_SCRIPTS),
)
TD500 = _format("td500", _td500, "'index difficult x y w h angle' or x1,y1,x2,y2,x3,y3,x4,y4,difficult")
