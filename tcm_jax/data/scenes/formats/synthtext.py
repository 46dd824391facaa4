"""SynthText: gt.mat for 858,750 rendered images with a quadrilateral for each word.

Cell arrays with a cell for each image: `imnames`, `wordBB` [2, 4, words] (x and y of the corners clockwise from the
text's upper left; [2, 4] for a single word), `txt` (rows of characters padded with blanks; a row is a block of text
with words and line breaks). `charBB`, by far the largest, is not read. A. Gupta et al., "Synthetic Data for Text
Localisation in Natural Images", readme of the data set.
"""

from collections.abc import Iterator
from pathlib import Path

import numpy as np

from tcm_jax.data.scenes.formats.base import Problems, SetFormat, report_error
from tcm_jax.data.scenes.formats.documents import mat_names, mat_variables
from tcm_jax.data.scenes.formats.packed import PackedAnnotations
from tcm_jax.data.scenes.regions import AnnotationReport, Instance
from tcm_jax.records import SourceError

_VARIABLES = ("imnames", "wordBB", "txt")

# Images that the released TCM configurations leave out.
_FAULTY = {*(f"67/fruits_129_{number}.jpg" for number in (18, 40, 74, 95)), "194/window_19_96.jpg"}


def _recognises(head: bytes) -> bool:
    # The file has 4 variables in any order, and its beginning has only the name of the first one.
    return not mat_names(head).isdisjoint((*_VARIABLES, "charBB"))


def _read(path: Path, part: str, problems: Problems, report: AnnotationReport) -> PackedAnnotations:
    variables = mat_variables(path, _VARIABLES)
    if missing := [name for name in _VARIABLES if name not in variables]:
        raise SourceError(f"{path} has no variable {missing[0]!r}; expected imnames, wordBB and txt")
    columns = [variables[name].ravel() for name in _VARIABLES]
    if len({len(column) for column in columns}) > 1:
        counts = ", ".join(f"{len(column):,} {name}" for name, column in zip(_VARIABLES, columns, strict=True))
        raise SourceError(f"{path} has {counts}; expected one of each for an image")
    return PackedAnnotations(_annotated(path, columns, problems, report))


def _annotated(
    path: Path, columns: list[np.ndarray], problems: Problems, report: AnnotationReport
) -> Iterator[tuple[str, list[Instance]]]:
    for number, (name, boxes, rows) in enumerate(zip(*columns, strict=True), start=1):
        image = "".join(map(str, np.ravel(name))).strip()
        words, quads = " ".join(map(str, np.ravel(rows))).split(), _quads(boxes)
        if not image or quads is None:
            problem = f"{image!r} with wordBB {list(np.shape(boxes))}; expected a name and [2, 4, n]"
            report_error(problems, f"{path}: image {number}", problem)
        elif image in _FAULTY:
            report.drop("known to be faulty", image)
        elif len(words) != len(quads):
            report.drop("with unequal numbers of words and boxes", f"{image}: {len(words)}, {len(quads)}")
        else:
            yield image, [(quad, word, False) for quad, word in zip(quads, words, strict=True)]


def _quads(boxes: np.ndarray) -> np.ndarray | None:
    """float32 [n, 4, 2] from [2, 4, n], or from [2, 4], as MATLAB drops a last dimension of 1; None if malformed."""
    if np.size(boxes) == 0:
        return np.empty((0, 4, 2), np.float32)
    if np.shape(boxes)[:2] != (2, 4) or boxes.ndim > 3 or boxes.dtype.kind not in "iuf":
        return None
    return boxes.reshape(2, 4, -1).transpose(2, 1, 0).astype(np.float32)


SYNTHTEXT = SetFormat("synthtext", (".mat",), _recognises, _read)
