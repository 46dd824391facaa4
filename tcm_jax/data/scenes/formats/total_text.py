"""Total-Text: one polygon for each word, in text or MATLAB files.

Text (several physical lines can make a record):
    x: [[259 313 389 427 354 302]], y: [[542 462 417 459 507 582]], ornt: [u'c'], transcriptions: [u'PAUL']
MATLAB: a cell array `polygt` (as released first) or `gt` (the newer annotation), a row for each word with the columns
"x:", x [1, n], "y:", y [1, n], text, orientation (c curved, h horizontal, m of any angle, # not to be counted).
https://github.com/cs-chan/Total-Text-Dataset, Groundtruth/Text.
"""

import re
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from tcm_jax.data.scenes.formats.base import AnnotationFormat, Found, Problems, report_error
from tcm_jax.data.scenes.formats.documents import mat_names, mat_variables
from tcm_jax.data.text_files import text_lines

_KEYS = ("polygt", "gt")
_DONT_CARE = "#"
_RECORD = re.compile(
    r"x:\s*\[\[(?P<x>[^\]]*)\]\]\s*,\s*y:\s*\[\[(?P<y>[^\]]*)\]\]\s*,"
    r"\s*ornt:\s*\[(?P<orientation>[^\]]*)\]\s*,\s*transcriptions:\s*\[(?P<text>.*)\]"
)
_EXPECTED = "expected \"x: [[1 2 3 4]], y: [[1 2 3 4]], ornt: [u'c'], transcriptions: [u'word']\""
_QUOTED = re.compile(r"""u?(?P<quote>['"])(?P<text>.*)(?P=quote)""")
_ESCAPE = re.compile(r"\\(?:x([0-9a-fA-F]{2})|u([0-9a-fA-F]{4})|U([0-9a-fA-F]{8})|(.))")


def _recognises(data: bytes) -> bool:
    if data.startswith(b"MATLAB"):
        return not mat_names(data).isdisjoint(_KEYS)
    return re.match(rb"(?:\xef\xbb\xbf)?\s*x:\s*\[\[", data) is not None


def _parse(data: bytes, path: Path, problems: Problems) -> list[Found]:
    rows = _mat_rows if data.startswith(b"MATLAB") else _text_rows
    found = []
    for number, x, y, text, orientation in rows(data, path, problems):
        if len(x) != len(y):
            report_error(problems, f"{path}:{number}", f"{len(x)} x and {len(y)} y; expected as many")
            continue
        ignore = orientation == _DONT_CARE or text in (_DONT_CARE, "")
        found.append((np.stack([x, y], axis=1), text, ignore, f"{path.name}:{number}"))
    return found


# Number of the line or row from 1, x, y, text, orientation.
Row = tuple[int, np.ndarray, np.ndarray, str, str]


def _text_rows(data: bytes, path: Path, problems: Problems) -> Iterator[Row]:
    for number, record in _records(data, path):
        match = _RECORD.fullmatch(record)
        if match is None:
            report_error(problems, f"{path}:{number}", f"{record[:80]!r}; {_EXPECTED}")
            continue
        try:
            x, y = (np.array(match[name].replace(",", " ").split(), np.float32) for name in "xy")
        except ValueError as error:
            report_error(problems, f"{path}:{number}", f"{error}; {_EXPECTED}")
            continue
        yield number, x, y, _unquoted(match["text"]), _unquoted(match["orientation"])


def _records(data: bytes, path: Path) -> Iterator[tuple[int, str]]:
    """Records and the numbers of their first lines: what does not begin with "x:" continues the line before."""
    first = 0
    parts: list[str] = []
    for number, line in text_lines(data, path):
        if line.startswith("x:") and parts:
            yield first, " ".join(parts)
            parts = []
        first = first if parts else number
        parts.append(line)
    if parts:
        yield first, " ".join(parts)


def _unquoted(literal: str) -> str:
    """The text of what Python 2 prints for a text, such as u'CAF\\xc9' or u"JOE'S"; "" of nothing."""
    match = _QUOTED.fullmatch(literal.strip())
    if match is None:
        return literal.strip()
    return _ESCAPE.sub(_unescaped, match["text"]).strip()


def _unescaped(match: re.Match) -> str:
    code = match[1] or match[2] or match[3]
    return chr(int(code, 16)) if code else match[4]


def _mat_rows(data: bytes, path: Path, problems: Problems) -> Iterator[Row]:
    variables = mat_variables(path, _KEYS, data)
    if not variables:
        found = ", ".join(sorted(mat_names(data))) or "nothing"
        report_error(problems, str(path), f"holds {found}; expected the variable 'polygt' or 'gt'")
        return
    for number, cells in enumerate(next(iter(variables.values())), start=1):
        try:
            x, y = (np.asarray(cells[column], np.float32).ravel() for column in (1, 3))
        except (IndexError, TypeError, ValueError):
            report_error(problems, f"{path}:{number}", f'{_shown(cells)}; expected "x:", x, "y:", y, text, orientation')
            continue
        yield number, x, y, _cell_text(cells, 4), _cell_text(cells, 5)


def _cell_text(cells: np.ndarray, column: int) -> str:
    """The text of a cell; "" if it is empty or, as the orientation of some rows, not there."""
    return "".join(map(str, np.ravel(cells[column]))).strip() if len(cells) > column else ""


def _shown(cells: object) -> str:
    return f"a row of {[np.asarray(cell).tolist() for cell in np.atleast_1d(np.asarray(cells, object))]}"[:120]


TOTAL_TEXT = AnnotationFormat("total_text", (".txt", ".mat"), ("poly_gt_", "gt_"), _recognises, _parse)
