"""Precision, recall and their harmonic mean of detected polygons, by the protocols that papers report.

- `hmean_iou`: that of MMOCR 0.4, which TCM reports; `threshold_search`: its best score threshold of seven.
- `rrc_iou`: that of the Robust Reading Competition for ICDAR 2015.

DetEval is in `metrics.deteval`.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import shapely

# Multiples of 0.1 as MMOCR computes them: 6 * 0.1 is a little more than 0.6, and a score of 0.6 is below it.
SCORE_THRESHOLDS = tuple(i * 0.1 for i in range(3, 10))


@dataclass(frozen=True)
class ImagePolygons:
    """Ground truth and predictions of one image; a polygon is an array [n, 2] of x and y, n at least 3.

    Args:
        truth: text to be found.
        ignored: regions in which predictions are not counted.
        predictions: detected polygons.
        scores: one for each prediction; None if no score threshold is used.
        name: for messages.

    Raises:
        ValueError: a polygon of another shape or with values that are not finite; a score that is NaN; another number
            of scores than of predictions.
    """

    truth: Sequence[np.ndarray]
    ignored: Sequence[np.ndarray]
    predictions: Sequence[np.ndarray]
    scores: Sequence[float] | None = None
    name: str = "image"

    def __post_init__(self) -> None:
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
        num_truth, num_predictions: number of polygons without those that are ignored.
        matched_truth, matched_predictions: number of matched polygons; DetEval counts 0.8 for one in a split or merge.
        hmean: harmonic mean of precision and recall, the F-score.
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
        """The score of counts; `empty`: recall without ground truth, precision if there are no predictions either."""
        recall = matched_truth / num_truth if num_truth else empty
        precision = matched_predictions / num_predictions if num_predictions else 0.0 if num_truth else empty
        hmean = 2.0 * precision * recall / (precision + recall) if precision + recall else 0.0
        return cls(num_truth, num_predictions, matched_truth, matched_predictions, precision, recall, hmean)

    @property
    def counts(self) -> tuple[int, int, float, float]:
        """The arguments of `of`."""
        return self.num_truth, self.num_predictions, self.matched_truth, self.matched_predictions


def combine(scores: Sequence[Score], *, empty: float) -> Score:
    """The score of the summed counts; `empty` as of `Score.of`."""
    sums = (sum(values) for values in zip(*(score.counts for score in scores), strict=True))
    return Score.of(*(sums if scores else (0, 0, 0, 0)), empty=empty)


@dataclass(frozen=True)
class Evaluation:
    """Score of a data set, from the summed counts of its images, and the scores of the images in their order."""

    total: Score
    images: tuple[Score, ...]

    @classmethod
    def of(cls, images: Sequence[Score], *, empty: float) -> "Evaluation":
        """From the scores of the images; `empty` is that of the total."""
        return cls(combine(images, empty=empty), tuple(images))


@dataclass(frozen=True)
class ThresholdSearch:
    """Evaluations by score threshold, in the order of the search."""

    evaluations: Mapping[float, Evaluation]

    @property
    def best_threshold(self) -> float:
        """The threshold with the largest hmean, the first of several."""
        return max(self.evaluations, key=lambda threshold: self.evaluations[threshold].total.hmean)

    @property
    def best(self) -> Evaluation:
        """The evaluation at `best_threshold`."""
        return self.evaluations[self.best_threshold]


def hmean_iou(
    images: Sequence[ImagePolygons],
    iou_threshold: float = 0.5,
    ignore_threshold: float = 0.5,
    min_score: float | None = None,
) -> Evaluation:
    """MMOCR's hmean-iou (mmocr/core/evaluation/hmean_iou.py, version 0.4).

    In the order of the ground truth each polygon takes the first free prediction with an IoU above `iou_threshold`. A
    prediction is ignored if more than `ignore_threshold` of its area lies in an ignored region. Self-intersecting
    polygons are repaired (a buffer of width 0). Without ground truth the recall is 1, and the precision 1 or, if there
    are predictions, 0.

    Args:
        min_score: minimum score of predictions that are counted; None: all are.

    Raises:
        ValueError: `min_score` is given and an image has no scores.
    """
    kept = [None if min_score is None else _scores(image) >= min_score for image in images]
    return _evaluate(overlaps(images, ignore_threshold), iou_threshold, kept, empty=1.0)


def threshold_search(
    images: Sequence[ImagePolygons],
    thresholds: Sequence[float] = SCORE_THRESHOLDS,
    floor: float = 0.3,
    iou_threshold: float = 0.5,
    ignore_threshold: float = 0.5,
) -> ThresholdSearch:
    """`hmean_iou` at several score thresholds (mmocr/core/evaluation/hmean.py, version 0.4).

    Predictions with scores above `floor`, and of at least the threshold, are counted. MMOCR reports the best of seven
    thresholds, which is a choice made on the test set; report a fixed threshold too.

    Raises:
        ValueError: no thresholds; an image has no scores.
    """
    if not thresholds:
        raise ValueError("no score thresholds to search")
    tables, scores = overlaps(images, ignore_threshold), [_scores(image) for image in images]
    kept = {threshold: [(s > floor) & (s >= threshold) for s in scores] for threshold in thresholds}
    return ThresholdSearch({t: _evaluate(tables, iou_threshold, keep, empty=1.0) for t, keep in kept.items()})


def rrc_iou(images: Sequence[ImagePolygons], iou_threshold: float = 0.5, ignore_threshold: float = 0.5) -> Evaluation:
    """The localization protocol of ICDAR 2015 (rrc_evaluation_funcs and script of challenge 4, task 1).

    As `hmean_iou`, but self-intersecting polygons are dropped, ground truth as well as predictions, and the rates of a
    data set without ground truth are 0.
    """
    tables = overlaps(images, ignore_threshold, drop_invalid=True)
    return _evaluate(tables, iou_threshold, [None] * len(images), empty=0.0)


class Overlaps(NamedTuple):
    """What matching needs of an image: `iou` [truth, predictions], and which predictions are `ignored`, bool."""

    iou: np.ndarray
    ignored: np.ndarray


def overlaps(images: Sequence[ImagePolygons], ignore_threshold: float, drop_invalid: bool = False) -> list[Overlaps]:
    """Overlaps of each image; self-intersecting polygons are dropped by `drop_invalid`, else repaired."""
    tables = []
    for image in images:
        polygons = [shapely_polygons(p) for p in (image.truth, image.ignored, image.predictions)]
        if drop_invalid:
            polygons = [p[shapely.is_valid(p)] for p in polygons]
        areas = shapely.area(polygons[2])  # before the repair, which changes them
        truth, ignored, predictions = map(_repaired, polygons)

        iou = np.zeros((len(truth), len(predictions)))
        for t, p in touching(truth, predictions):
            # The union itself, not the sum of areas minus the intersection: a pair may have an IoU of exactly 0.5.
            union = predictions[p].union(truth[t]).area
            iou[t, p] = predictions[p].intersection(truth[t]).area / union if union else 0.0
        share = np.zeros((len(ignored), len(predictions)))
        for i, p in touching(ignored, predictions):
            share[i, p] = predictions[p].intersection(ignored[i]).area / areas[p] if areas[p] else 0.0
        tables.append(Overlaps(iou, np.any(share > ignore_threshold, axis=0)))
    return tables


def shapely_polygons(arrays: Sequence[np.ndarray]) -> np.ndarray:
    """Arrays [n, 2] of points as shapely's polygons, an array of objects [len(arrays)]."""
    return np.array([shapely.Polygon(points) for points in arrays], object)


def _repaired(polygons: np.ndarray) -> np.ndarray:
    """The polygons, with self-intersecting ones replaced by their repair, which may be several or none."""
    return np.array([p if p.is_valid else p.buffer(0) for p in polygons], object)


def touching(a: np.ndarray, b: np.ndarray) -> Iterator[tuple[int, int]]:
    """Indices into `a` and `b` of the pairs of polygons whose bounding boxes intersect; others have no overlap."""
    return zip(*shapely.STRtree(b).query(a), strict=True)


def _scores(image: ImagePolygons) -> np.ndarray:
    if image.scores is None:
        raise ValueError(f"{image.name} has no scores to compare with a threshold")
    return np.asarray(image.scores, float)


def _evaluate(
    tables: Sequence[Overlaps], iou_threshold: float, kept: Sequence[np.ndarray | None], *, empty: float
) -> Evaluation:
    """One-to-one matching of the predictions that are `kept`, None for all; `empty` is that of the total."""
    scores = []
    for table, keep in zip(tables, kept, strict=True):
        counted = ~table.ignored if keep is None else ~table.ignored & keep
        matched = len(match(table, iou_threshold, counted))
        scores.append(Score.of(len(table.iou), int(counted.sum()), matched, matched, empty=1.0))
    return Evaluation.of(scores, empty=empty)


def match(table: Overlaps, iou_threshold: float, counted: np.ndarray) -> list[tuple[int, int]]:
    """One-to-one matches (truth, prediction); each truth, in order, takes the first free prediction above the IoU.

    Args:
        counted: predictions that may be matched, bool [predictions].
    """
    free, matches = counted.copy(), []
    for truth, row in enumerate(table.iou > iou_threshold):
        candidates = np.flatnonzero(row & free)
        if len(candidates):
            free[candidates[0]] = False
            matches.append((truth, int(candidates[0])))
    return matches
