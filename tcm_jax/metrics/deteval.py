"""DetEval for polygons, with its splits and merges, as the authors of Total-Text published it."""

from collections.abc import Sequence

import numpy as np
import shapely

from tcm_jax.metrics.detection import Evaluation, ImagePolygons, Score, shapely_polygons, touching


def total_text_deteval(
    images: Sequence[ImagePolygons],
    recall_threshold: float = 0.7,
    precision_threshold: float = 0.6,
    penalty: float = 0.8,
    min_parts: int = 2,
) -> Evaluation:
    """DetEval for polygons (Evaluation_Protocol/Python_scripts/Deteval.py of Total-Text, with polygon_fast).

    Shares of areas are rounded to 1/100. First a ground truth and a prediction match if only they cover each other.
    Then a ground truth that is split into several predictions, and a prediction that merges several ground truths,
    match with `penalty` each. The script reads integer coordinates: round the predictions to get its numbers.

    Args:
        recall_threshold (tr), precision_threshold (tp): minimum shares of ground truth and of prediction.
        penalty (fsc_k): credit of a polygon of a split or merge.
        min_parts (k): number of polygons that must overlap before a split or merge is considered.
    """
    scores = []
    for image in images:
        sigma, tau = _shares(image)
        credits = _credits(sigma, tau, recall_threshold, precision_threshold, penalty, min_parts)
        num_truth, num_predictions = sigma.shape
        scores.append(Score.of(num_truth, num_predictions, *credits, empty=0.0))
    return Evaluation.of(scores, empty=0.0)


def _shares(image: ImagePolygons) -> tuple[np.ndarray, np.ndarray]:
    """Intersections as shares of the ground truth (sigma) and of the prediction (tau), both [truth, predictions].

    Predictions in ignored regions are left out. Shares of polygons without area are 0.
    """
    raw = [shapely_polygons(p) for p in (image.truth, image.ignored, image.predictions)]
    truth_areas, _, areas = (shapely.area(p) for p in raw)
    truth, ignored, predictions = (shapely.buffer(p, 0) for p in raw)

    kept = np.ones(len(predictions), bool)
    for i, p in touching(ignored, predictions):
        kept[p] &= predictions[p].intersection(ignored[i]).area / (areas[p] + 1.0) <= 0.5  # + 1 as in the script
    sigma, tau = np.zeros((2, len(truth), len(predictions)))
    for t, p in touching(truth, predictions):
        common = predictions[p].intersection(truth[t]).area
        if truth_areas[t] and areas[p]:
            sigma[t, p] = np.round(common / truth_areas[t], 2)
            tau[t, p] = np.round(common / areas[p], 2)
    return sigma[:, kept], tau[:, kept]


def _credits(
    sigma: np.ndarray, tau: np.ndarray, tr: float, tp: float, penalty: float, min_parts: int
) -> tuple[float, float]:
    """Sums of the credits of the ground truth and of the predictions, by their shares [truth, predictions]."""
    truth_free, free = (np.ones(n, bool) for n in sigma.shape)
    credit = 0.0
    recalled, precise = sigma > tr, tau > tp
    for t in range(len(sigma)):
        by_sigma, by_tau = np.flatnonzero(recalled[t]), np.flatnonzero(precise[t])
        # The script does not require that both are the same prediction.
        if len(by_sigma) == len(by_tau) == 1 and recalled[:, by_sigma].sum() == precise[:, by_tau].sum() == 1:
            credit += 1.0
            truth_free[t] = free[by_sigma] = False

    def one_to_many(
        shares: np.ndarray,
        inside: np.ndarray,
        both: np.ndarray,
        min_sum: float,
        free: np.ndarray,
        part_free: np.ndarray,
    ) -> tuple[float, float]:
        """Credits of polygons that consist of several others, and of these parts; updates the two `free`.

        Args:
            shares: of the polygons that the parts cover, [polygons, parts].
            inside: which parts lie in which polygons, of the same shape; both: pairs that match one to one.
            min_sum: minimum sum of shares.
        """
        credit = part_credit = 0.0
        for i in np.flatnonzero(free & ((shares > 0).sum(1) >= min_parts)):
            parts = np.flatnonzero(inside[i] & part_free)
            if len(parts) == 1:
                matched, earned = both[i, parts[0]], 1.0
            else:
                matched, earned = shares[i, parts].sum() >= min_sum, penalty
            if matched:
                credit += earned
                part_credit += len(parts) * earned
                free[i] = part_free[parts] = False
        return credit, part_credit

    both = (sigma >= tr) & (tau >= tp)
    # The parts of a merge are compared with tp in the script, although their shares are sigma.
    split = one_to_many(sigma, tau >= tp, both, tr, truth_free, free)
    merged = one_to_many(tau.T, tp <= sigma.T, both.T, tp, free, truth_free)
    return credit + split[0] + merged[1], credit + split[1] + merged[0]
