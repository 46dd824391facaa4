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
        num_samples: words that were scored.
        accuracy: words read without an error, in percent.
        ned: 100 * (1 - mean normalized edit distance).
        confidence: mean confidence in percent.
        label_length: mean length of the predictions (not of the labels) in characters, as in the original.
        undecodable: words among `num_samples` whose image can't be decoded; they count as wrong.
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
    """Sums over words; means are taken once, at the end, so that they don't depend on batches."""

    num_samples: int = 0
    correct: int = 0
    edit_distance: float = 0.0
    confidence: float = 0.0
    label_length: int = 0
    undecodable: int = 0

    def add(self, prediction: str, label: str, confidence: float) -> None:
        """Counts one word; prediction and label are compared as they are."""
        self.num_samples += 1
        self.correct += prediction == label
        self.edit_distance += normalized_edit_distance(prediction, label)
        self.confidence += confidence
        self.label_length += len(prediction)

    def result(self, name: str) -> Result:
        """Raises ValueError if nothing was counted."""
        n = self.num_samples
        if n == 0:
            raise ValueError(f"{name}: no words were scored")
        return Result(
            name,
            n,
            100 * self.correct / n,
            100 * (1 - self.edit_distance / n),
            100 * self.confidence / n,
            self.label_length / n,
            self.undecodable,
        )


def normalized_edit_distance(prediction: str, label: str) -> float:
    """Levenshtein distance over the longer length, 0 to 1; 0 if both are empty (ICDAR 2019)."""
    return Levenshtein.distance(prediction, label) / max(len(prediction), len(label), 1)


def combine(results: Sequence[Result], name: str = "Combined") -> Result:
    """Means over the words of all data sets, so that each set counts by its size.

    Raises:
        ValueError: no results.
    """
    n = sum(r.num_samples for r in results)
    if n == 0:
        raise ValueError(f"{name}: no results to combine")

    def mean(field: str) -> float:
        return sum(r.num_samples * getattr(r, field) for r in results) / n

    return Result(
        name,
        n,
        mean("accuracy"),
        mean("ned"),
        mean("confidence"),
        mean("label_length"),
        sum(r.undecodable for r in results),
    )


def format_table(results: Sequence[Result]) -> str:
    """The table that PARSeq and CLIP4STR print: a row for each data set, then all together."""
    combined = combine(results)
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
    return "\n".join([*lines, row(combined)]) + "\n"
