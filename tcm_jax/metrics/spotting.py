"""Precision, recall and their harmonic mean of words that are detected and read.

A prediction is matched by its polygon only, and the match is correct if its text is, by one of three rules. Source of
the rules, all of which ignore letter case: the Robust Reading Competition's script for ICDAR 2015, challenge 4, task 4
(script.py and rrc_evaluation_funcs.py).
"""

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from tcm_jax.metrics.detection import Evaluation, ImagePolygons, Score, match, overlaps

_PUNCTUATION = "'!?.:,*\"()·[]/"
_WORD = re.compile(r"[a-zA-ZÀ-ƿǄ-ɿΆ-Ͽ-]{3,}")


@dataclass(frozen=True)
class ImageWords:
    """Words of one image, and what was read.

    Args:
        polygons: ground truth, ignored regions and predictions.
        truth, predictions: their texts, in the same order.

    Raises:
        ValueError: another number of texts than of polygons.
    """

    polygons: ImagePolygons
    truth: Sequence[str]
    predictions: Sequence[str]

    def __post_init__(self) -> None:
        for kind in ("truth", "predictions"):
            texts, polygons = getattr(self, kind), getattr(self.polygons, kind)
            if len(texts) != len(polygons):
                raise ValueError(f"{self.polygons.name}: {len(texts)} texts of {len(polygons)} polygons in {kind}")


@dataclass(frozen=True)
class MatchRule:
    """When a text is read correctly.

    Args:
        title: for tables.
        expected: the text to be read, from the ground truth's; None: the word is ignored, with its prediction.
        equal: compares the expected and the predicted text, both in upper case unless case is to be compared.
    """

    title: str
    expected: Callable[[str], str | None]
    equal: Callable[[str, str], bool]


def _equal_but_for_marks(expected: str, predicted: str) -> bool:
    """Equality, where a punctuation mark at the start and at the end may be missing."""
    starts, ends = ({0, int(bool(expected) and expected[i] in _PUNCTUATION)} for i in (0, -1))
    return any(predicted == expected[start : len(expected) - end] for start in starts for end in ends)


def _dictionary_word(text: str) -> str | None:
    """`text` without 's and surrounding punctuation; None unless three or more letters and hyphens are left.

    As in the script, × and ÷ are not letters, although their code points lie among those of letters.
    """
    text = re.sub(r"'[sS]$", "", text).strip("-")
    text = "".join(" " if c in _PUNCTUATION else c for c in text).strip()
    return text if _WORD.fullmatch(text) and not {"×", "÷"} & set(text) else None


RULES = {
    "equal": MatchRule("text equal", lambda text: text, str.__eq__),
    "end_to_end": MatchRule("end-to-end (RRC)", lambda text: text, _equal_but_for_marks),
    "word_spotting": MatchRule("word spotting (RRC)", _dictionary_word, str.__eq__),
}


def spotting(
    images: Sequence[ImageWords],
    rule: MatchRule,
    iou_threshold: float = 0.5,
    ignore_threshold: float = 0.5,
    cased: bool = False,
) -> Evaluation:
    """Scores of what was read; matched and ignored predictions are those of `metrics.detection.hmean_iou`.

    The rates of a data set without words are 0, as in the script.

    Args:
        cased: letter case is compared.
    """
    case: Callable[[str], str] = str if cased else str.upper
    scores = []
    for image in images:
        expected = [rule.expected(text) for text in image.truth]
        words = [i for i, text in enumerate(expected) if text is not None]
        others = [polygon for polygon, text in zip(image.polygons.truth, expected, strict=True) if text is None]
        truth = [image.polygons.truth[i] for i in words]
        polygons = replace(image.polygons, truth=truth, ignored=[*image.polygons.ignored, *others])
        (table,) = overlaps([polygons], ignore_threshold)
        matches = match(table, iou_threshold, ~table.ignored)
        correct = sum(rule.equal(case(expected[words[t]] or ""), case(image.predictions[p])) for t, p in matches)
        scores.append(Score.of(len(words), int((~table.ignored).sum()), correct, correct, empty=1.0))
    return Evaluation.of(scores, empty=0.0)
