"""Precision, recall and their harmonic mean of detected polygons, by the protocols that papers report.

- `hmean_iou`: MMOCR 0.4's, which TCM reports; `threshold_search`: its best score threshold of seven.
- `rrc_iou`: the Robust Reading Competition's for ICDAR 2015.

DetEval is in `metrics.deteval`.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import shapely

# Multiples of 0.1 as MMOCR computes them: 6 * 0.1 is a little more than 0.6, and a score of 0.6 is below it.
SCORE_THRESHOLDS = tuple(i * 0.1 for i in range(3, 10))


@dataclass(frozen=True)
class ImagePolygons:
    """Ground truth and predictions of one image; a polygon is an array [n, 2] of x and y, n at least 3.

    Args:
        truth: text that has to be found; ignored: regions where predictions count neither way.
        predictions: polygons; scores: one for each of them, None if no threshold will be asked for.
        name: for messages.

    Raises:
        ValueError: a polygon has another shape or values that are not finite; scores that are NaN or of
            another number than the predictions.
    """

    truth: Sequence[np.ndarray]
    ignored: Sequence[np.ndarray]
    predictions: Sequence[np.ndarray]
    scores: Sequence[float] | None = None
    name: str = "image"

    def __post_init__(self):
        for kind in ("truth", "ignored", "predictions"):
            for i, polygon in enumerate(getattr(self, kind)):
                points = np.asarray(polygon, float)
                if points.ndim != 2 or points.shape[1] != 2 or len(points) < 3:
                    raise ValueError(f"{self.name}: {kind}[{i}] has shape {points.shape}; expected (3 or more, 2)")
                if not np.isfinite(points).all():
                    raise ValueError(f"{self.name}: {kind}[{i}] has coordinates that are not finite")
        if self.scores is not None:
            if len(self.scores) != len(self.predictions):
                raise ValueError(f"{self.name}: {len(self.scores)} scores of {len(self.predictions)} predictions")
            if np.isnan(np.asarray(self.scores, float)).any():
                raise ValueError(f"{self.name}: a score is NaN")


@dataclass(frozen=True)
class Score:
    """Counts and rates of one image or of many; rates are in 0..1.

    Args:
        num_truth, num_predictions: polygons that count, without what is ignored.
        matched_truth, matched_predictions: of these, the matched; DetEval counts 0.8 for one in a split or merge.
    """

    num_truth: int
    num_predictions: int
    matched_truth: float
    matched_predictions: float
    precision: float
    recall: float
    hmean: float

    @classmethod
    def of(
        cls, num_truth: int, num_predictions: int, matched_truth: float, matched_predictions: float, *, empty: float
    ) -> "Score":
        """`empty` is the recall without ground truth, and the precision if there are no predictions either."""
        recall = matched_truth / num_truth if num_truth else empty
        precision = matched_predictions / num_predictions if num_predictions else 0.0 if num_truth else empty
        hmean = 2.0 * precision * recall / (precision + recall) if precision + recall else 0.0
        return cls(num_truth, num_predictions, matched_truth, matched_predictions, precision, recall, hmean)

    @property
    def counts(self) -> tuple[int, int, float, float]:
        """The arguments of `of`."""
        return self.num_truth, self.num_predictions, self.matched_truth, self.matched_predictions


def combine(scores: Sequence[Score], *, empty: float) -> Score:
    """The score of all images together, from their summed counts."""
    sums = (sum(values) for values in zip(*(score.counts for score in scores), strict=True))
    return Score.of(*(sums if scores else (0, 0, 0, 0)), empty=empty)


@dataclass(frozen=True)
class Evaluation:
    """Scores of all images together, from their summed counts, and of each one in the order given."""

    total: Score
    images: tuple[Score, ...]


@dataclass(frozen=True)
class ThresholdSearch:
    """Evaluations by score threshold, in the order of the search."""

    evaluations: Mapping[float, Evaluation]

    @property
    def best_threshold(self) -> float:
        """The first of those with the largest hmean."""
        return max(self.evaluations, key=lambda threshold: self.evaluations[threshold].total.hmean)

    @property
    def best(self) -> Evaluation:
        return self.evaluations[self.best_threshold]


def hmean_iou(
    images: Sequence[ImagePolygons],
    iou_threshold: float = 0.5,
    ignore_threshold: float = 0.5,
    min_score: float | None = None,
) -> Evaluation:
    """MMOCR's hmean-iou (mmocr/core/evaluation/hmean_iou.py, version 0.4).

    In the order of the ground truth each polygon takes the first free prediction with a larger IoU than
    `iou_threshold`. A prediction is ignored if more than `ignore_threshold` of its area lies in an ignored region.
    Polygons that cross themselves are repaired (a buffer of width 0). Without ground truth the recall is 1,
    and the precision 1 or, if there are predictions, 0.

    Args:
        min_score: only predictions with at least this score count; None: all of them.

    Raises:
        ValueError: `min_score` is given and an image has no scores.
    """
    tables = geometry(images, ignore_threshold)
    kept = [None if min_score is None else _scores(image) >= min_score for image in images]
    return _match(tables, iou_threshold, kept, empty_total=1.0)


def threshold_search(
    images: Sequence[ImagePolygons],
    thresholds: Sequence[float] = SCORE_THRESHOLDS,
    floor: float = 0.3,
    iou_threshold: float = 0.5,
    ignore_threshold: float = 0.5,
) -> ThresholdSearch:
    """`hmean_iou` at several score thresholds (mmocr/core/evaluation/hmean.py, version 0.4).

    Predictions with scores above `floor`, and of at least the threshold, count. MMOCR reports the best of the
    seven, which is a choice made on the test set; report a fixed threshold too.

    Raises:
        ValueError: no thresholds; an image has no scores.
    """
    if not thresholds:
        raise ValueError("no score thresholds to search")
    tables = geometry(images, ignore_threshold)
    scores = [_scores(image) for image in images]

    def evaluate(threshold: float) -> Evaluation:
        kept = [(s > floor) & (s >= threshold) for s in scores]
        return _match(tables, iou_threshold, kept, empty_total=1.0)

    return ThresholdSearch({threshold: evaluate(threshold) for threshold in thresholds})


def rrc_iou(images: Sequence[ImagePolygons], iou_threshold: float = 0.5, ignore_threshold: float = 0.5) -> Evaluation:
    """The localization protocol of ICDAR 2015 (rrc_evaluation_funcs and script of challenge 4, task 1).

    As `hmean_iou`, but polygons that cross themselves are dropped, ground truth as well as predictions, and
    the rates of a whole set without ground truth are 0.
    """
    return _match(geometry(images, ignore_threshold, drop_invalid=True), iou_threshold, [None] * len(images), 0.0)


@dataclass(frozen=True)
class Table:
    """What matching needs of an image: `iou` [truth, predictions], and which predictions are `ignored`."""

    iou: np.ndarray
    ignored: np.ndarray


def geometry(images: Sequence[ImagePolygons], ignore_threshold: float, drop_invalid: bool = False) -> list[Table]:
    """Table of each image. `drop_invalid` leaves out polygons that cross themselves; else they are repaired."""
    tables = []
    for image in images:
        polygons = [shapely_polygons(p) for p in (image.truth, image.ignored, image.predictions)]
        if drop_invalid:
            polygons = [p[shapely.is_valid(p)] for p in polygons]
        areas = shapely.area(polygons[2])  # before the repair, which changes them
        truth, ignored, predictions = map(_repaired, polygons)

        iou = np.zeros((len(truth), len(predictions)))
        for t, p in touching(truth, predictions):
            # The union itself, not the sum of areas less the intersection: a pair may have an IoU of just 0.5.
            union = predictions[p].union(truth[t]).area
            iou[t, p] = predictions[p].intersection(truth[t]).area / union if union else 0.0
        share = np.zeros((len(ignored), len(predictions)))
        for i, p in touching(ignored, predictions):
            share[i, p] = predictions[p].intersection(ignored[i]).area / areas[p] if areas[p] else 0.0
        tables.append(Table(iou, np.any(share > ignore_threshold, axis=0)))
    return tables


def shapely_polygons(arrays: Sequence[np.ndarray]) -> np.ndarray:
    """Shapely's polygons, an array of objects [len(arrays)]."""
    return np.array([shapely.Polygon(points) for points in arrays], object)


def _repaired(polygons: np.ndarray) -> np.ndarray:
    """The polygons; in place of those that cross themselves what GEOS makes of them, perhaps several or none."""
    return np.array([p if p.is_valid else p.buffer(0) for p in polygons], object)


def touching(a: np.ndarray, b: np.ndarray) -> Iterator[tuple[int, int]]:
    """Indices into `a` and `b` of the polygons whose bounding boxes meet; all others have nothing in common."""
    return zip(*shapely.STRtree(b).query(a), strict=True)


def _scores(image: ImagePolygons) -> np.ndarray:
    if image.scores is None:
        raise ValueError(f"{image.name} has no scores to compare with a threshold")
    return np.asarray(image.scores, float)


def _match(
    tables: Sequence[Table], iou_threshold: float, kept: Sequence[np.ndarray | None], empty_total: float
) -> Evaluation:
    """Greedy one-to-one matching of the predictions that are `kept` (None: all)."""
    scores = []
    for table, keep in zip(tables, kept, strict=True):
        counted = ~table.ignored if keep is None else ~table.ignored & keep
        matches = len(pairs(table, iou_threshold, counted))
        scores.append(Score.of(len(table.iou), int(counted.sum()), matches, matches, empty=1.0))
    return Evaluation(combine(scores, empty=empty_total), tuple(scores))


def pairs(table: Table, iou_threshold: float, counted: np.ndarray) -> list[tuple[int, int]]:
    """(truth, prediction) one to one: in its order each ground truth takes the first free prediction with a larger IoU.

    Args:
        counted: bool [predictions], those that may be taken.
    """
    free, found = counted.copy(), []
    for truth, row in enumerate(table.iou > iou_threshold):
        candidates = np.flatnonzero(row & free)
        if len(candidates):
            free[candidates[0]] = False
            found.append((truth, int(candidates[0])))
    return found
