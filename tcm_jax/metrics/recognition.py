"""Word accuracy, edit distance, confidence and length of predictions, as the benchmarks report them.

Source: BaseSystem._eval_step in strhub/models/base.py of the original.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from rapidfuzz.distance import Levenshtein


@dataclass(frozen=True)
class Result:
    """Scores of one data set.

    Args:
        num_samples: number of words.
        accuracy: words that were read without an error, in percent.
        ned: 100 * (1 - mean normalized edit distance).
        confidence: mean confidence in percent.
        label_length: mean length of the predictions (not of the labels) in characters, as in the original.
        undecodable: number of words whose image is not decodable; they count as wrong.
    """

    name: str
    num_samples: int
    accuracy: float
    ned: float
    confidence: float
    label_length: float
    undecodable: int = 0


@dataclass
class WordTotals:
    """Sums over words. Means are computed once, from all of them, so that they don't depend on batches."""

    num_samples: int = 0
    correct: int = 0
    edit_distance: float = 0.0
    confidence: float = 0.0
    label_length: int = 0
    undecodable: int = 0

    def add(self, prediction: str, label: str, confidence: float) -> None:
        """Adds one word; prediction and label are compared as they are."""
        self.num_samples += 1
        self.correct += prediction == label
        self.edit_distance += normalized_edit_distance(prediction, label)
        self.confidence += confidence
        self.label_length += len(prediction)

    def result(self, name: str) -> Result:
        """The scores; ValueError if there are no words."""
        if not (n := self.num_samples):
            raise ValueError(f"{name}: no words were scored")
        accuracy, ned = 100 * self.correct / n, 100 * (1 - self.edit_distance / n)
        return Result(name, n, accuracy, ned, 100 * self.confidence / n, self.label_length / n, self.undecodable)


def normalized_edit_distance(prediction: str, label: str) -> float:
    """Levenshtein distance over the longer length, 0 to 1; 0 if both are empty (ICDAR 2019)."""
    return Levenshtein.distance(prediction, label) / max(len(prediction), len(label), 1)


def combine(results: Sequence[Result], name: str = "Combined") -> Result:
    """Means over the words of all data sets, so that each set is weighted by its size.

    Raises:
        ValueError: no results.
    """
    n = sum(r.num_samples for r in results)
    if n == 0:
        raise ValueError(f"{name}: no results to combine")
    fields = "accuracy", "ned", "confidence", "label_length"
    means = {field: sum(r.num_samples * getattr(r, field) for r in results) / n for field in fields}
    return Result(name, n, **means, undecodable=sum(r.undecodable for r in results))


def format_table(results: Sequence[Result]) -> str:
    """The table that PARSeq and CLIP4STR print: a row for each data set, and their `combine`."""
    width = max(len("Combined"), *(len(r.name) for r in results))
    titles = ["# samples", "Accuracy", "1 - NED", "Confidence", "Label Length"]

    def row(r: Result) -> str:
        values = [r.num_samples, *(f"{v:.2f}" for v in (r.accuracy, r.ned, r.confidence, r.label_length))]
        cells = (f"{value:>{len(title)}}" for value, title in zip(values, titles, strict=True))
        return f"| {r.name:<{width}} | {' | '.join(cells)} |"

    lines = [f"| {'Dataset':<{width}} | {' | '.join(titles)} |"]
    lines += [f"|:{'-' * width}:|" + "|".join("-" * (len(t) + 1) + ":" for t in titles) + "|"]
    lines += [row(r) for r in results]
    lines += [f"|-{'-' * width}-|" + "|".join("-" * (len(t) + 2) for t in titles) + "|"]
    return "\n".join([*lines, row(combine(results))]) + "\n"
