"""FCENet's maps to text instances, on the host.

Source: mmocr 0.4 models/textdet/postprocess/fce_postprocessor.py.
"""

import itertools
from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np
import shapely

from tcm_jax.detection.interface import Decoding, Instance
from tcm_jax.detection.polygons import COORDINATE_LIMIT, min_area_rect, non_maximum_suppression

STRIDES = (8, 16, 32)  # of the three levels


@dataclass(frozen=True)
class FCEDecoding(Decoding):
    """Text instances, best first.

    Every pixel of a connected text region votes for a contour. The best ones without overlap are kept, first within
    the region, then within the level and last over all levels. Contours without area or far off are no text.

    Args:
        text_representation: "poly", contours of `num_points` whole pixels, or "quad", the smallest rectangles around
            them. (mmocr 0.4 computes the rectangles and then returns the contours: its "quad" is our "poly".)
        alpha: exponent of the text region's probability in a pixel's score.
        beta: exponent of the center region's probability.
        score_threshold: of text pixels; holes in text regions are filled.
        nms_threshold: IoU above which the worse of two instances is dropped.
        num_points: of a polygon.
    """

    text_representation: str = "poly"
    alpha: float = 1.2
    beta: float = 1.0
    score_threshold: float = 0.3
    nms_threshold: float = 0.1
    num_points: int = 50

    def __call__(self, maps: Sequence[tuple[np.ndarray, np.ndarray]]) -> list[Instance]:
        """Instances of the levels, finest first: of each scores [h, w], 0..1, and Fourier coefficients
        [h, w, 2 (2 k + 1)]. Pixels with NaN are background.
        """
        levels = [
            non_maximum_suppression(self._of_level(*level, stride), self.nms_threshold)
            for level, stride in zip(maps, STRIDES, strict=True)
        ]
        found = non_maximum_suppression(list(itertools.chain(*levels)), self.nms_threshold)
        if self.text_representation == "quad":
            return [Instance(min_area_rect(polygon)[0], score) for polygon, score in found]
        return found

    def _of_level(self, scores: np.ndarray, coefficients: np.ndarray, stride: int) -> list[Instance]:
        """Instances of all text regions of a level; those of one region do not overlap."""
        mask = (scores > self.score_threshold).astype(np.uint8)
        outlines, _ = cv2.findContours(mask, cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_SIMPLE)
        labels = np.zeros(mask.shape, np.int32)
        for i, outline in enumerate(outlines):
            cv2.drawContours(labels, [outline], 0, i + 1, cv2.FILLED)  # with its holes and what lies in them
        rows, columns = np.nonzero((labels > 0) & (scores > 0))
        finite = np.isfinite(coefficients[rows, columns]).all(-1)
        rows, columns = rows[finite], columns[finite]
        contours = reconstruct(coefficients[rows, columns], columns + 1j * rows, stride, self.num_points)
        sound = (_areas(contours) > 0) & (np.abs(contours) < COORDINATE_LIMIT).all((1, 2))
        regions, votes, contours = labels[rows, columns][sound], scores[rows, columns][sound], contours[sound]
        found = []
        for i in range(1, len(outlines) + 1):
            members = np.flatnonzero(regions == i)
            if len(members):
                members = _without_twins(members, contours, votes, self.nms_threshold)
                candidates = [Instance(contours[m].astype(np.float32), float(votes[m])) for m in members]
                found += non_maximum_suppression(candidates, self.nms_threshold)
        return found


def _without_twins(members: np.ndarray, contours: np.ndarray, votes: np.ndarray, threshold: float) -> np.ndarray:
    """The members without those that are sure to be suppressed by the best: most of a region's pixels.

    It spares an exact intersection of each. Moving a contour to another, point by point in straight lines, sweeps
    all that only one of them encloses, so that the swept area S gives IoU >= (A + B - S) / (A + B + S).
    """
    best = members[np.flatnonzero(votes[members] == votes[members].max())[-1]]
    shapes = contours[members]
    edge = np.roll(contours[best], -1, axis=0) - contours[best]
    shift = shapes - contours[best]
    following = np.roll(shift, -1, axis=1)
    start, end, turn = _cross(edge, shift), _cross(edge, following), _cross(following, shift)
    swept = (abs(start) + abs(end) + abs(start + turn) + abs(end + turn)).sum(1) / 4  # of a quadrilateral each
    total = _areas(shapes) + _areas(contours[best])
    twins = total - swept > threshold * (total + swept)
    # What crosses itself is repaired before it is compared, so that its area may be another.
    twins &= shapely.is_valid(shapely.polygons(contours[best])) & shapely.is_valid(shapely.polygons(shapes))
    return members[~twins | (members == best)]


def _cross(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    return a[..., 0] * b[..., 1] - a[..., 1] * b[..., 0]


def _areas(contours: np.ndarray) -> np.ndarray:
    """[..., p, 2] -> [...]."""
    return np.abs(_cross(contours, np.roll(contours, -1, axis=-2)).sum(-1)) / 2


def reconstruct(coefficients: np.ndarray, pixels: np.ndarray, stride: int, num_points: int) -> np.ndarray:
    """Contours of Fourier coefficients.

    Args:
        coefficients: [n, 2 (2 k + 1)], real and then imaginary parts for -k..k.
        pixels: complex [n], the pixels that the 0th coefficients count from.

    Returns:
        float64 [n, num_points, 2] of whole numbers, truncated toward zero, in pixels of the input.
    """
    n, size = coefficients.shape
    k = size // 4
    c = (coefficients[:, : 2 * k + 1] + 1j * coefficients[:, 2 * k + 1 :]).astype(np.complex64)
    c[:, k] += pixels
    spectrum = np.zeros((n, num_points), np.complex128)
    spectrum[:, : k + 1] = c[:, k:]
    spectrum[:, num_points - k :] = c[:, :k]
    points = np.fft.ifft(spectrum * stride, norm="forward")
    return np.trunc(np.stack([points.real, points.imag], axis=-1))  # [n, p, 2]
