"""Total-Text: one polygon for each word, in text or MATLAB files.

Text (a record may span several lines):
    x: [[259 313 389 427 354 302]], y: [[542 462 417 459 507 582]], ornt: [u'c'], transcriptions: [u'PAUL']
MATLAB: a cell array `polygt` (as released first) or `gt` (the newer annotation), a row for each word with the columns
"x:", x [1, n], "y:", y [1, n], text, orientation (c curved, h horizontal, m of any angle, # not to be counted).
https://github.com/cs-chan/Total-Text-Dataset, Groundtruth/Text.
"""

import re
from collections.abc import Iterable
from pathlib import Path

import numpy as np

from tcm_jax.data.scenes.formats.base import AnnotationFormat, Problems, begins, parse_instances, report_error
from tcm_jax.data.scenes.formats.documents import mat_names, mat_variables
from tcm_jax.data.scenes.regions import Annotation, Instance
from tcm_jax.data.text_files import text_lines

_KEYS = ("polygt", "gt")
_DONT_CARE = "#"
_RECORD = re.compile(
    r"x:\s*\[\[(?P<x>[^\]]*)\]\]\s*,\s*y:\s*\[\[(?P<y>[^\]]*)\]\]\s*,"
    r"\s*ornt:\s*\[(?P<orientation>[^\]]*)\]\s*,\s*transcriptions:\s*\[(?P<text>.*)\]"
)
_TEXT_ROW = "\"x: [[1 2 3 4]], y: [[1 2 3 4]], ornt: [u'c'], transcriptions: [u'word']\""
_MAT_ROW = '"x:", x, "y:", y, text, orientation'
_QUOTED = re.compile(r"""u?(?P<quote>['"])(?P<text>.*)(?P=quote)""")
_ESCAPE = re.compile(r"\\(?:x([0-9a-fA-F]{2})|u([0-9a-fA-F]{4})|U([0-9a-fA-F]{8})|(.))")


def _recognises(data: bytes) -> bool:
    return not mat_names(data).isdisjoint(_KEYS) or begins(data, rb"x:\s*\[\[")


def _parse(data: bytes, path: Path, problems: Problems) -> list[Annotation]:
    if data.startswith(b"MATLAB"):
        rows = [(f":{number}", row) for number, row in _mat_rows(data, path, problems)]
        return list(parse_instances(path, rows, _mat_instance, _MAT_ROW, problems))
    records = [(f":{number}", record) for number, record in _records(data, path)]
    return list(parse_instances(path, records, _text_instance, _TEXT_ROW, problems))


def _instance(x: np.ndarray, y: np.ndarray, text: str, orientation: str) -> Instance:
    if len(x) != len(y):
        raise ValueError(f"{len(x)} x and {len(y)} y")
    return np.stack([x, y], axis=1), text, orientation == _DONT_CARE or text in (_DONT_CARE, "")


def _text_instance(record: str) -> Instance:
    match = _RECORD.fullmatch(record)
    if match is None:
        raise ValueError("another form")
    x, y = (np.array(match[name].replace(",", " ").split(), np.float32) for name in "xy")
    return _instance(x, y, _unquoted(match["text"]), _unquoted(match["orientation"]))


def _records(data: bytes, path: Path) -> list[tuple[int, str]]:
    """Records with the numbers of their first lines; a line that does not begin with "x:" continues the one before."""
    records: list[tuple[int, str]] = []
    for number, line in text_lines(data, path):
        if records and not line.startswith("x:"):
            number, first = records.pop()
            line = f"{first} {line}"
        records.append((number, line))
    return records


def _unquoted(literal: str) -> str:
    """The text of a Python 2 literal, such as u'CAF\\xc9' or u"JOE'S"; other text is kept."""
    match = _QUOTED.fullmatch(literal.strip())
    if match is None:
        return literal.strip()
    return _ESCAPE.sub(_unescaped, match["text"]).strip()


def _unescaped(match: re.Match) -> str:
    code = match[1] or match[2] or match[3]
    return chr(int(code, 16)) if code else match[4]


def _mat_rows(data: bytes, path: Path, problems: Problems) -> Iterable[tuple[int, np.ndarray]]:
    variables = mat_variables(path, _KEYS, data)
    if not variables:
        found = ", ".join(sorted(mat_names(data))) or "nothing"
        report_error(problems, str(path), f"holds {found}; expected the variable 'polygt' or 'gt'")
    return enumerate(next(iter(variables.values()), ()), start=1)


def _mat_instance(cells: np.ndarray) -> Instance:
    x, y = (np.asarray(cells[column], np.float32).ravel() for column in (1, 3))
    return _instance(x, y, _cell_text(cells, 4), _cell_text(cells, 5))


def _cell_text(cells: np.ndarray, column: int) -> str:
    """The text of a cell; "" if it is empty or missing, as the orientation of some rows."""
    return "".join(map(str, np.ravel(cells[column]))).strip() if len(cells) > column else ""


TOTAL_TEXT = AnnotationFormat("total_text", (".txt", ".mat"), ("poly_gt_", "gt_"), _recognises, _parse)
