"""Formats with a text file for each photo and one line for each text instance: ICDAR2013 and 2015, MLT, MSRA-TD500.

Sources: the task pages of rrc.cvc.uab.es (ch=2, 4, 8, 15), the page of MSRA-TD500 at tc11.cvc.uab.es, and
tools/data/textdet/td_tr_converter.py of TCM for TD500 with nine columns.
"""

import functools
import re
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

from tcm_jax.data.scenes.formats.base import AnnotationFormat, Found, Problems, report_error
from tcm_jax.data.text_files import text_lines
from tcm_jax.records import SourceError

IGNORED = "###"  # the transcription of what an ICDAR set does not ask to find
_SCRIPTS = "Arabic Latin Chinese Japanese Korean Bangla Hindi Symbols Mixed None".split()
_SHOWN = 80  # characters of a malformed line

# Points, text and ignore of one line; ValueError if the line is malformed.
LineParser = Callable[[str], tuple[np.ndarray, str, bool]]


def numbers(tokens: Sequence[str], count: int) -> np.ndarray:
    """`count` numbers, float64; ValueError if these are more or fewer, or one is none."""
    if len(tokens) != count:
        raise ValueError(f"{len(tokens)} numbers instead of {count}")
    return np.array([float(token) for token in tokens])


def corners(left: float, top: float, right: float, bottom: float) -> np.ndarray:
    """The box as a polygon, [4, 2], clockwise from its upper left corner."""
    return np.array([[left, top], [right, top], [right, bottom], [left, bottom]])


def line_parser(parse_line: LineParser, expected: str) -> Callable[[bytes, Path, Problems], list[Found]]:
    """The `AnnotationFormat.parse` of a format with one instance on each line; `expected` tells a user how it looks."""
    return functools.partial(_parse_lines, parse_line, expected)


def most_lines(parse_line: LineParser, data: bytes) -> bool:
    """Whether `parse_line` accepts more than half of the lines of a file."""
    try:
        lines = list(text_lines(data, Path()))
    except SourceError:
        return False
    return 2 * sum(_accepts(parse_line, line) for _, line in lines) > len(lines)


def _parse_lines(parse_line: LineParser, expected: str, data: bytes, path: Path, problems: Problems) -> list[Found]:
    found = []
    for number, line in text_lines(data, path):
        try:
            points, text, ignore = parse_line(line)
        except ValueError as error:
            report_error(problems, f"{path}:{number}", f"{line[:_SHOWN]!r} ({error}); expected {expected}")
        else:
            found.append((points, text, ignore, f"{path.name}:{number}"))
    return found


def _accepts(parse_line: LineParser, line: str) -> bool:
    try:
        parse_line(line)
    except ValueError:
        return False
    return True


def _icdar2013(line: str) -> tuple[np.ndarray, str, bool]:
    """`158 128 411 181 "Footpath"` in the training set, `38, 43, 920, 215, "Tiredness"` in the test set."""
    box, quote, quoted = line.partition('"')
    if not quote or not quoted.endswith('"'):
        raise ValueError("no text in quotes")
    left, top, right, bottom = numbers(box.replace(",", " ").split(), 4)
    text = re.sub(r'\\(["\\])', r"\1", quoted[:-1])
    return corners(left, top, right, bottom), text, text == IGNORED


def _icdar2015(line: str) -> tuple[np.ndarray, str, bool]:
    """`x1,y1,...,x4,y4,text`: the text may have commas, and quotes are part of it."""
    fields = line.split(",", 8)
    if len(fields) < 9:
        raise ValueError(f"{len(fields)} fields instead of 9")
    return numbers(fields[:8], 8).reshape(4, 2), fields[8], fields[8] == IGNORED


def _mlt(line: str) -> tuple[np.ndarray, str, bool]:
    """`x1,y1,...,x4,y4,script,text`: the text may have commas."""
    fields = line.split(",", 9)
    if len(fields) < 10:
        raise ValueError(f"{len(fields)} fields instead of 10")
    return numbers(fields[:8], 8).reshape(4, 2), fields[9], fields[9] == IGNORED


def _mlt_for_sure(line: str) -> tuple[np.ndarray, str, bool]:
    """Not a line of ICDAR2015 with a comma in its text: the script is one of those that MLT17 and 19 have."""
    parsed = _mlt(line)
    if line.split(",", 9)[8] not in _SCRIPTS:
        raise ValueError("another script")
    return parsed


def _td500(line: str) -> tuple[np.ndarray, str, bool]:
    """`index difficult x y w h angle` of the data set, or `x1,y1,...,x4,y4,difficult` as DB and TCM write it.

    In the first form the box with the corner (x, y) is turned by `angle` radians around its centre, from the x axis
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
    turn = np.array([[cos, sin], [-sin, cos]])  # row vectors times this
    return (corners(x, y, x + width, y + height) - centre) @ turn + centre, "", difficult == "1"


def _format(name: str, parse_line: LineParser, expected: str, for_sure: LineParser | None = None) -> AnnotationFormat:
    return AnnotationFormat(
        name,
        suffixes=(".gt", ".txt"),
        prefixes=("gt_",),
        recognises=functools.partial(most_lines, for_sure or parse_line),
        parse=line_parser(parse_line, expected),
    )


ICDAR2013 = _format("icdar2013", _icdar2013, 'left, top, right, bottom, "text"')
ICDAR2015 = _format("icdar2015", _icdar2015, "x1,y1,x2,y2,x3,y3,x4,y4,text")
MLT = _format("mlt", _mlt, "x1,y1,x2,y2,x3,y3,x4,y4,script,text", _mlt_for_sure)
TD500 = _format("td500", _td500, "'index difficult x y w h angle' or x1,y1,x2,y2,x3,y3,x4,y4,difficult")
