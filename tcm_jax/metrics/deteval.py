"""DetEval for polygons, with its splits and merges, as the authors of Total-Text published it."""

from collections.abc import Sequence

import numpy as np
import shapely

from tcm_jax.metrics.detection import Evaluation, ImagePolygons, Score, combine, shapely_polygons, touching


def total_text_deteval(
    images: Sequence[ImagePolygons],
    recall_threshold: float = 0.7,
    precision_threshold: float = 0.6,
    penalty: float = 0.8,
    min_parts: int = 2,
) -> Evaluation:
    """DetEval for polygons (Evaluation_Protocol/Python_scripts/Deteval.py of Total-Text, with polygon_fast).

    Shares of areas are rounded to 1/100. A ground truth and a prediction match if they alone cover each other;
    then a ground truth that is split over several predictions, and a prediction that merges several ground
    truths, match for `penalty` each. The script reads whole pixels: round the predictions to get its numbers.

    Args:
        recall_threshold (tr), precision_threshold (tp): least shares of ground truth and of prediction.
        penalty (fsc_k): what a polygon of a split or merge counts.
        min_parts (k): polygons that have to be touched before a split or merge is considered.
    """
    scores = []
    for image in images:
        sigma, tau = _deteval_shares(image)
        num_truth, num_predictions = sigma.shape
        recalled, precise = _deteval(sigma, tau, recall_threshold, precision_threshold, penalty, min_parts)
        scores.append(Score.of(num_truth, num_predictions, recalled, precise, empty=0.0))
    return Evaluation(combine(scores, empty=0.0), tuple(scores))


def _deteval_shares(image: ImagePolygons) -> tuple[np.ndarray, np.ndarray]:
    """(sigma, tau), both [truth, predictions]: the shares of ground truth and of prediction that they have in
    common, without the predictions that lie in ignored regions. Polygons without area have nothing in common.
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


def _deteval(
    sigma: np.ndarray, tau: np.ndarray, tr: float, tp: float, penalty: float, min_parts: int
) -> tuple[float, float]:
    """Credits of the ground truth and of the predictions from the shares [truth, predictions]."""
    truth_free, free = (np.ones(n, bool) for n in sigma.shape)
    credit = 0.0
    recalled, precise = sigma > tr, tau > tp
    for t in range(len(sigma)):
        by_sigma, by_tau = np.flatnonzero(recalled[t]), np.flatnonzero(precise[t])
        # The script does not ask that both be the same prediction.
        if len(by_sigma) == len(by_tau) == 1 and recalled[:, by_sigma].sum() == precise[:, by_tau].sum() == 1:
            credit += 1.0
            truth_free[t] = free[by_sigma] = False
    both = (sigma >= tr) & (tau >= tp)
    # The parts of a merge are compared with tp in the script, although their shares are sigma.
    split = _one_to_many(sigma, tau >= tp, both, tr, truth_free, free, penalty, min_parts)
    merged = _one_to_many(tau.T, sigma.T >= tp, both.T, tp, free, truth_free, penalty, min_parts)
    return credit + split[0] + merged[1], credit + split[1] + merged[0]


def _one_to_many(
    shares: np.ndarray,
    inside: np.ndarray,
    both: np.ndarray,
    threshold: float,
    free: np.ndarray,
    parts_free: np.ndarray,
    penalty: float,
    min_parts: int,
) -> tuple[float, float]:
    """Credits of polygons that consist of several others, and of these parts; clears both's `free` flags.

    Args:
        shares [wholes, parts]: of the wholes that the parts cover; inside: which parts lie in which wholes;
            both: pairs that match one to one.
        threshold: least sum of shares.
    """
    credit = parts_credit = 0.0
    for i in np.flatnonzero(free):
        if (shares[i] > 0).sum() < min_parts:
            continue
        parts = np.flatnonzero(inside[i] & parts_free)
        if len(parts) == 1:
            if not both[i, parts[0]]:
                continue
            credit += 1.0
            parts_credit += 1.0
        elif shares[i, parts].sum() >= threshold:
            credit += penalty
            parts_credit += len(parts) * penalty
        else:
            continue
        free[i] = parts_free[parts] = False
    return credit, parts_credit
