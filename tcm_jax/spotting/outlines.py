"""Polygons of words to their upper and lower sides, which is what a word needs to be flattened.

Quadrilaterals and polygons close to a rectangle have straight sides of two points. Others are taken for strips that
bend: their two ends are found by their shape, and each side is resampled at even distances.
Sources: the sides of a text as in TextSnake (Long et al., 2018) and Total-Text's annotations, which also look for the
sharpest turns; the search for the ends over all pairs of points of the outline is ours, since outlines of detectors
have many points and round corners.
"""

import math
from typing import NamedTuple

import cv2
import numpy as np
import shapely

from tcm_jax.detection.polygons import COORDINATE_LIMIT, area, min_area_rect

MIN_SIDE = 0.5  # pixels; thinner polygons hold no word
LONG_SIDE = 1.5  # a side counts as at most this many times the other, where the sides decide what is up
PERSPECTIVE = 0.3  # least ratio of opposite sides; quadrilaterals nearer to a triangle are no view of a rectangle
RECTANGULAR = 0.87  # share of the smallest rectangle around it that a polygon fills to be taken for it
SLENDER = 2.0  # strips are this many times longer than high; shorter polygons are taken for rectangles
STEEP = 0.5  # cosine of the angle with the horizontal from which a strip counts as vertical
RING = 0.5  # strips whose ends are nearer to each other, in lengths of the strip, are read clockwise

_POINTS, _STRIDE = 192, 3  # of a resampled outline; every third is a candidate for the middle of an end
_RUNGS = 8  # between the sides, for the search
_CORNER = 0.3  # heights to both sides, over which a turn is measured
_APART = 0.5  # heights, that the corners of an end are apart at least


class Sides(NamedTuple):
    """The upper and the lower side of a word, float64 [m, 2] each, point by point opposite, in reading direction.

    vertical: the word is a steep strip, whose sides go down; what is up in the image is its start.
    """

    top: np.ndarray
    bottom: np.ndarray
    vertical: bool = False

    @property
    def corners(self) -> np.ndarray:
        """float64 [4, 2], clockwise from the top left corner of the word as it stands in the image."""
        around = np.array([self.top[0], self.top[-1], self.bottom[-1], self.bottom[0]])
        return np.roll(around, 1, axis=0) if self.vertical else around


def sides(polygon: np.ndarray) -> Sides | None:
    """The sides of a word with the polygon [n, 2], x and y in pixels, in either direction from any point.

    Up is what is up in the image, as nearly as the polygon permits; a long side that is no steeper than
    56 degrees is the reading direction.

    The points of a quadrilateral may be in any order; other outlines that cross themselves are taken for the smallest
    rectangle around them. None for a polygon without an inside: fewer than three points, less than half a pixel
    thick, or with coordinates that are not finite or absurdly large.
    """
    points = np.asarray(polygon, np.float64).reshape(-1, 2)
    if len(points) < 3 or not (np.abs(points) <= COORDINATE_LIMIT).all():  # also for NaN
        return None
    rectangle, short = min_area_rect(points)
    if short < MIN_SIDE:
        return None
    if len(points) == 4:
        hull = cv2.convexHull(points.astype(np.float32))[:, 0]
        return _straight(hull if len(hull) == 4 and _is_view(hull) else rectangle)
    inside = area(points)
    if len(points) > 4 and inside < RECTANGULAR * area(rectangle) and shapely.Polygon(points).is_valid:
        strip = _strip(points, inside)
        if strip is not None:
            return strip
    return _straight(rectangle)


def _is_view(quad: np.ndarray) -> bool:
    """Whether a convex quadrilateral could be a rectangle that is seen in perspective."""
    lengths = np.linalg.norm(np.roll(quad, -1, axis=0) - quad, axis=1)
    return all(min(a, b) >= PERSPECTIVE * max(a, b) for a, b in zip(lengths[:2], lengths[2:], strict=True))


def _straight(quad: np.ndarray) -> Sides:
    """The sides of a convex quadrilateral."""
    quad = _clockwise(np.asarray(quad, np.float64))
    quad = np.roll(quad, -int(quad.sum(1).argmin()), axis=0)  # so that the order of the points decides nothing
    edges = np.roll(quad, -1, axis=0) - quad
    across = (edges - np.roll(edges, 2, axis=0)) / 2  # the mean of a side and the opposite one: [4, 2]
    lengths = np.linalg.norm(across, axis=1)
    counted = np.minimum(lengths, LONG_SIDE * np.roll(lengths, 1))
    first = int((across[:, 0] / lengths * counted).argmax())
    a, b, c, d = np.roll(quad, -first, axis=0)
    return Sides(np.array([a, b]), np.array([d, c]))


def _strip(points: np.ndarray, inside: float) -> Sides | None:
    """The sides of a simple outline that bends, None for one that is not long enough to do so."""
    points = _clockwise(points)
    outline = _Outline(points)
    half = outline.length / 2  # of a strip: length + height; its area is length * height
    height = (half - math.sqrt(max(half * half - 4 * inside, 0))) / 2
    length = half - height
    if length < SLENDER * height:
        return None
    evenly = outline.at(np.arange(_POINTS) * outline.length / _POINTS)
    step = outline.length / _POINTS
    turns = _turns(evenly, max(1, round(_CORNER * height / step)))
    head, tail = (outline.snapped(_corners(turns, end, height / step) * step, step) for end in _ends(evenly))
    count = min(33, 2 + math.ceil(2 * length / height))
    top = outline.at(_between(head[1], tail[0], outline.length, count))
    bottom = outline.at(_between(tail[1], head[0], outline.length, count))[::-1]
    center = (top + bottom) / 2
    chord = center[-1] - center[0]
    distance, along = float(np.hypot(*chord)), _length(center)
    if distance < RING * along:
        backward, vertical = _length(top) < _length(bottom), False
    else:
        vertical = abs(chord[0]) < STEEP * distance
        backward = chord[1] < 0 if vertical else chord[0] < 0
    return Sides(bottom[::-1], top[::-1], vertical) if backward else Sides(top, bottom, vertical)


class _Outline:
    """A closed line by the distance from its first point."""

    def __init__(self, points: np.ndarray):
        self._closed = np.concatenate([points, points[:1]])
        self._places = np.concatenate([[0], np.cumsum(np.linalg.norm(np.diff(self._closed, axis=0), axis=1))])
        self.length = float(self._places[-1])

    def at(self, places: np.ndarray) -> np.ndarray:
        """The points [m, 2] at the distances [m]."""
        places = places % self.length
        return np.stack([np.interp(places, self._places, self._closed[:, i]) for i in (0, 1)], axis=1)

    def snapped(self, places: np.ndarray, reach: float) -> np.ndarray:
        """The distances [m], those of points of the outline instead where there are any within `reach`."""
        offsets = self._places - (places % self.length)[:, None]
        nearest = np.take_along_axis(offsets, np.abs(offsets).argmin(1)[:, None], axis=1)[:, 0]
        return np.where(np.abs(nearest) <= reach, places + nearest, places)


def _ends(outline: np.ndarray) -> tuple[int, int]:
    """About the middles of the two ends of a strip, as numbers of the points of its outline.

    They are the pair of points between which the two sides, run through at even speed, stay closest together.
    """
    points = outline[::_STRIDE] @ (1, 1j)
    n = len(points)
    start, extent = np.arange(n)[:, None, None], np.arange(n // 4, n // 2 + 1)[:, None]  # of the shorter side
    place = (np.arange(_RUNGS) + 0.5) / _RUNGS
    one = start + np.rint(extent * place).astype(int)  # [n, extents, rungs]
    other = start - np.rint((n - extent) * place).astype(int)
    apart = np.abs(points[one % n] - points[other % n]).mean(-1)
    i, j = np.unravel_index(apart.argmin(), apart.shape)
    return int(i) * _STRIDE, (int(i) + n // 4 + int(j)) % n * _STRIDE


def _turns(outline: np.ndarray, reach: int) -> np.ndarray:
    """By how many radians the outline turns to the right around each point, between `reach` points before and after."""
    before = outline - np.roll(outline, reach, axis=0)
    after = np.roll(outline, -reach, axis=0) - outline
    cross = before[:, 0] * after[:, 1] - before[:, 1] * after[:, 0]
    return np.arctan2(cross, (before * after).sum(1))


def _corners(turns: np.ndarray, end: int, height: float) -> np.ndarray:
    """The two corners of an end, int [2], in points of the outline; the later one may be beyond the last point.

    They turn sharply and are about the strip's height apart; of a round end all points are corners.
    """
    reach = max(1, round(height))
    offsets = np.arange(-reach, reach + 1)
    turn = turns[(end + offsets) % len(turns)]
    distance = (offsets - offsets[:, None]) / height  # [first, second]
    middle = (offsets + offsets[:, None]) / (2 * height)
    score = turn + turn[:, None] - 2 * (distance - 1) ** 2 - 0.1 * middle**2
    apart = distance > _APART  # two points at one sharp corner would count its turn twice
    first, second = np.unravel_index(np.where(apart, score, -np.inf).argmax(), score.shape)
    return end + offsets[[first, second]]


def _between(start: float, stop: float, length: float, count: int) -> np.ndarray:
    """`count` even distances from `start` forward to `stop` on a closed line."""
    return start + np.linspace(0, (stop - start) % length, count)


def _clockwise(points: np.ndarray) -> np.ndarray:
    """As seen in an image, whose y axis points down."""
    x, y = (points - points[0]).T
    return points if (x * np.roll(y, -1) - np.roll(x, -1) * y).sum() >= 0 else points[::-1]


def _length(line: np.ndarray) -> float:
    return float(np.linalg.norm(np.diff(line, axis=0), axis=1).sum())
