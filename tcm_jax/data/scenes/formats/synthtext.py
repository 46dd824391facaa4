"""SynthText: gt.mat for 858,750 rendered photos with a quadrilateral for each word.

Cell arrays with a cell for each photo: `imnames`, `wordBB` [2, 4, words] (x and y of the corners clockwise from the
text's upper left; [2, 4] for a single word), `txt` (rows of characters padded with blanks; a row is a block of text
with words and line breaks). `charBB`, by far the largest, is not read. A. Gupta et al., "Synthetic Data for Text
Localisation in Natural Images", readme of the data set.
"""

from collections.abc import Iterator
from pathlib import Path

import numpy as np

from tcm_jax.data.scenes.formats.base import Problems, SetAnnotations, SetFormat, report_error
from tcm_jax.data.scenes.formats.documents import mat_names, mat_variables
from tcm_jax.data.scenes.formats.packed import Instance, PackedAnnotations
from tcm_jax.data.scenes.regions import AnnotationReport
from tcm_jax.records import SourceError

_VARIABLES = ("imnames", "wordBB", "txt")

# Photos that the released TCM configurations leave out.
_FAULTY = frozenset(
    f"{name}.jpg"
    for name in ("67/fruits_129_40", "67/fruits_129_18", "67/fruits_129_74", "67/fruits_129_95", "194/window_19_96")
)


def _recognises(head: bytes) -> bool:
    # The file has 4 variables in no certain order, and only the first one's name is in its beginning.
    return not mat_names(head).isdisjoint((*_VARIABLES, "charBB"))


def _read(path: Path, part: str, problems: Problems, report: AnnotationReport) -> SetAnnotations:
    variables = mat_variables(path, _VARIABLES)
    if missing := [name for name in _VARIABLES if name not in variables]:
        raise SourceError(f"{path} has no variable {missing[0]!r}; expected imnames, wordBB and txt")
    columns = [variables[name].ravel() for name in _VARIABLES]
    if len({len(column) for column in columns}) > 1:
        counts = ", ".join(f"{len(column):,} {name}" for name, column in zip(_VARIABLES, columns, strict=True))
        raise SourceError(f"{path} has {counts}; expected one of each for a photo")
    return PackedAnnotations(_photos(path, columns, problems, report))


def _photos(
    path: Path, columns: list[np.ndarray], problems: Problems, report: AnnotationReport
) -> Iterator[tuple[str, list[Instance]]]:
    for number, (name, boxes, rows) in enumerate(zip(*columns, strict=True), start=1):
        photo = "".join(map(str, np.ravel(name))).strip()
        quads = _quads(boxes)
        if not photo or quads is None:
            shape = list(np.shape(boxes))
            report_error(
                problems, f"{path}: photo {number}", f"{photo!r} with wordBB {shape}; expected a name and [2, 4, n]"
            )
            continue
        words = " ".join(map(str, np.ravel(rows))).split()
        if photo in _FAULTY:
            report.drop("known to be faulty", photo)
        elif len(words) != len(quads):
            report.drop("with unequal numbers of words and boxes", f"{photo}: {len(words)}, {len(quads)}")
        else:
            yield photo, [(quad, word, False) for quad, word in zip(quads, words, strict=True)]


def _quads(boxes: np.ndarray) -> np.ndarray | None:
    """float32 [n, 4, 2] from [2, 4, n], or from [2, 4], as MATLAB drops a last dimension of 1."""
    if np.size(boxes) == 0:
        return np.empty((0, 4, 2), np.float32)
    if np.shape(boxes)[:2] != (2, 4) or boxes.ndim > 3 or boxes.dtype.kind not in "iuf":
        return None
    return boxes.reshape(2, 4, -1).transpose(2, 1, 0).astype(np.float32)


SYNTHTEXT = SetFormat("synthtext", (".mat",), _recognises, _read)
