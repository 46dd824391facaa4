"""Precision, recall and their harmonic mean of words that are found and read.

A prediction is matched by its polygon alone, and the match counts if the text is right, by one of three rules.
Source of the rules, letter case aside in all of them: the Robust Reading Competition's script for ICDAR 2015,
challenge 4, task 4 (script.py and rrc_evaluation_funcs.py).
"""

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from tcm_jax.metrics.detection import Evaluation, ImagePolygons, Score, combine, geometry, pairs

_PUNCTUATION = "'!?.:,*\"()·[]/"
_WORD = re.compile(r"[a-zA-ZÀ-ƿǄ-ɿΆ-Ͽ-]{3,}")


@dataclass(frozen=True)
class ImageWords:
    """Words and readings of one image.

    Args:
        polygons: of the words that have to be found, of ignored regions, and of the readings.
        truth, predictions: the texts of the first and of the last, in the same order.

    Raises:
        ValueError: another number of texts than of polygons.
    """

    polygons: ImagePolygons
    truth: Sequence[str]
    predictions: Sequence[str]

    def __post_init__(self):
        for kind in ("truth", "predictions"):
            texts, polygons = getattr(self, kind), getattr(self.polygons, kind)
            if len(texts) != len(polygons):
                raise ValueError(f"{self.polygons.name}: {len(texts)} texts of {len(polygons)} polygons in {kind}")


@dataclass(frozen=True)
class MatchRule:
    """When a reading is right.

    Args:
        title: for tables.
        wanted: what has to be read where a text stands; None: the word doesn't count, nor does what is read there.
        equal: of what has to be read and of what was read, both in upper case unless case counts.
    """

    title: str
    wanted: Callable[[str], str | None]
    equal: Callable[[str, str], bool]


def _without_a_mark(wanted: str, read: str) -> bool:
    """Equal, perhaps without the punctuation mark at the start, at the end, or at both."""
    starts, ends = ({0, int(bool(wanted) and wanted[i] in _PUNCTUATION)} for i in (0, -1))
    return any(read == wanted[start : len(wanted) - end] for start in starts for end in ends)


def _dictionary_word(text: str) -> str | None:
    """Without 's and punctuation around it, if it then has at least three letters and nothing but letters and hyphens.

    As in the script, × and ÷ are none of the letters, although they stand among them.
    """
    text = re.sub(r"'[sS]$", "", text).strip("-")
    text = "".join(" " if c in _PUNCTUATION else c for c in text).strip()
    return text if _WORD.fullmatch(text) and not {"×", "÷"} & set(text) else None


RULES = {
    "equal": MatchRule("text equal", lambda text: text, str.__eq__),
    "end_to_end": MatchRule("end-to-end (RRC)", lambda text: text, _without_a_mark),
    "word_spotting": MatchRule("word spotting (RRC)", _dictionary_word, str.__eq__),
}


def spotting(
    images: Sequence[ImageWords],
    rule: MatchRule,
    iou_threshold: float = 0.5,
    ignore_threshold: float = 0.5,
    cased: bool = False,
) -> Evaluation:
    """Scores of readings; matches and what is ignored as of `metrics.detection.hmean_iou`.

    The rates of a whole set without words are 0, as in the script.

    Args:
        cased: letter case counts.
    """
    case: Callable[[str], str] = str if cased else str.upper
    scores = []
    for image in images:
        wanted = [rule.wanted(text) for text in image.truth]
        words = [i for i, text in enumerate(wanted) if text is not None]
        others = [polygon for polygon, text in zip(image.polygons.truth, wanted, strict=True) if text is None]
        truth = [image.polygons.truth[i] for i in words]
        polygons = replace(image.polygons, truth=truth, ignored=[*image.polygons.ignored, *others])
        (table,) = geometry([polygons], ignore_threshold)
        counted = ~table.ignored
        matches = pairs(table, iou_threshold, counted)
        right = sum(rule.equal(case(wanted[words[t]] or ""), case(image.predictions[p])) for t, p in matches)
        scores.append(Score.of(len(words), int(counted.sum()), right, right, empty=1.0))
    return Evaluation(combine(scores, empty=0.0), tuple(scores))
