"""Merged words of a probability map, split by higher thresholds.

No part of the original, whose networks leave clear gaps between words. A small network gives a gap less than the words
on both sides of it, but more than a threshold that keeps a word in one piece. So a region is searched at rising
thresholds, and falls apart where it becomes several pieces that look like words; letters don't.
"""

from collections.abc import Callable, Iterator
from typing import NamedTuple

import cv2
import numpy as np

# Chosen for the package's own detector (docs/detection.md), whose H-means change little with values near them.
_STEP = 0.06  # from one threshold to the next
_HIGHEST = 0.7  # above it words become letters
_LONG = 1.5  # a word is so many times longer than high
_HIGH = 0.5  # and so many times as high as the highest piece
_QUANTILE = 0.9  # of its probabilities is a word's score
_WIDENING = 3.0  # of the unclip ratio, for a threshold that is higher by 1


class Region(NamedTuple):
    """A piece of a map that is one word.

    Args:
        contour: int32 [n, 1, 2], x and y.
        score: near the highest of its probabilities: the lower ones say where it ends, not whether it is text.
        widening: what the unclip ratio has to grow by, since pixels above a higher threshold are fewer.
    """

    contour: np.ndarray
    score: float
    widening: float


Contours = Callable[[np.ndarray], list[np.ndarray]]  # of a mask, those with an inside


def separated(probabilities: np.ndarray, threshold: float, contours: Contours) -> Iterator[Region]:
    """The words of a map.

    Args:
        probabilities: float32 [h, w].
        threshold: pixels above it are text.
        contours: finds the contours of a mask.
    """
    for contour in contours(probabilities > threshold):
        yield from _separated(probabilities, contour, threshold, threshold, contours)


def _separated(
    probabilities: np.ndarray, contour: np.ndarray, above: float, threshold: float, contours: Contours
) -> Iterator[Region]:
    """The words of a region above a threshold, `above`, that may be higher than that of the map."""
    x, y, w, h = cv2.boundingRect(contour)
    inside = np.zeros((h, w), np.uint8)
    cv2.fillPoly(inside, [contour], 1, offset=(-x, -y))
    values = np.where(inside > 0, probabilities[y : y + h, x : x + w], 0)
    for higher in np.arange(above + _STEP, min(_HIGHEST, values.max()), _STEP):
        pieces = contours(values > higher)
        if len(pieces) > 1 and _are_words(pieces):
            for piece in pieces:
                yield from _separated(
                    probabilities, piece + np.array((x, y), np.int32), float(higher), threshold, contours
                )
            return
    yield Region(contour, float(np.quantile(values[inside > 0], _QUANTILE)), _WIDENING * (above - threshold))


def _are_words(contours: list[np.ndarray]) -> bool:
    sides = np.sort([cv2.minAreaRect(contour)[1] for contour in contours])  # [n, 2], the height first
    height, length = sides.T + 1  # from the centres of pixels to their borders
    return bool((length >= _LONG * height).all() and (height >= _HIGH * height.max()).all())
