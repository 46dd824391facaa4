"""Tables of scores on images."""

from collections.abc import Mapping, Sequence

from tcm_jax.detection.evaluate import DetectionResult
from tcm_jax.metrics.detection import Score


def scene_table(results: Sequence[DetectionResult]) -> str:
    """A row for each data set, rates in percent; columns of DetEval if the results have it."""
    titles = ["Dataset", "# images", "# texts", "Precision", "Recall", "H-mean", "best H-mean", "at score"]
    deteval = any(result.deteval for result in results)
    if deteval:
        titles += [f"DetEval {rate}" for rate in ("Precision", "Recall", "H-mean")]
    rows = []
    for r in results:
        row = [r.name, str(r.num_photos), str(r.num_truth), *_rates(r.fixed)]
        row += [_percent(r.best.hmean), f"{r.best_threshold:.1f}"]
        rows.append(row + (_rates(r.deteval) if r.deteval else []))
    return _table(titles, rows)


def spotting_table(rows: Sequence[tuple[str, int, str, Score]]) -> str:
    """A row for each data set (name, number of images) and each rule by which words are right; rates in percent."""
    titles = ["Dataset", "# images", "right if", "# words", "Precision", "Recall", "H-mean"]
    cells = [[name, str(images), rule, str(score.num_truth), *_rates(score)] for name, images, rule, score in rows]
    return _table(titles, cells)


def cross_table(rows: Mapping[str, Sequence[DetectionResult]]) -> str:
    """H-means in percent by checkpoint and data set, the best of the score thresholds in parentheses."""
    names = [result.name for result in next(iter(rows.values()))]
    cells = [
        [checkpoint, *(f"{_percent(r.fixed.hmean)} ({_percent(r.best.hmean)})" for r in results)]
        for checkpoint, results in rows.items()
    ]
    return _table(["H-mean (best)", *names], cells)


def _rates(score: Score) -> list[str]:
    return [_percent(rate) for rate in (score.precision, score.recall, score.hmean)]


def _percent(rate: float) -> str:
    return f"{100 * rate:.2f}"


def _table(titles: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Markdown with even columns, the first one to the left and the others to the right."""
    widths = [max(map(len, column)) for column in zip(titles, *rows, strict=True)]

    def line(cells: Sequence[str]) -> str:
        others = (cell.rjust(width) for cell, width in zip(cells[1:], widths[1:], strict=True))
        return f"| {' | '.join([cells[0].ljust(widths[0]), *others])} |"

    rule = "|".join([f":{'-' * (widths[0] + 1)}", *(f"{'-' * (width + 1)}:" for width in widths[1:])])
    return "\n".join([line(titles), f"|{rule}|", *map(line, rows)]) + "\n"
