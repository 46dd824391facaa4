"""Geometry of polygons on the host: size, growing and shrinking, rectangles, overlap.

A polygon is a numeric array [n, 2] of x and y in pixels, open (the last point is not the first again), in either
direction. None of these functions raises on a degenerate one (fewer than three points, repeated points, zero area,
edges that cross, NaN): it has no area, no pieces, no overlap.
"""

from collections.abc import Sequence
from itertools import chain

import cv2
import numpy as np
import pyclipper
import shapely

from tcm_jax.detection.interface import Instance

COORDINATE_LIMIT = 1 << 20  # pixels; keeps integer geometry away from overflow


def to_pixels(polygon: np.ndarray) -> np.ndarray:
    """int32 [n, 2], truncated toward zero as in the originals (not rounded); empty if not all points are finite."""
    polygon = np.asarray(polygon)
    return polygon.reshape(-1, 2) if polygon.dtype == np.int32 else _bounded(polygon).astype(np.int32)


def area(polygon: np.ndarray) -> float:
    """Absolute shoelace area: parts that a crossing turns around count negative."""
    points = _bounded(polygon)
    if len(points) < 3:
        return 0.0
    x, y = (points - points[0]).T  # from the first point: its two edges then add nothing
    return abs(float(x[:-1] @ y[1:] - x[1:] @ y[:-1])) / 2


def perimeter(polygon: np.ndarray) -> float:
    """Length of the closed outline."""
    points = np.ascontiguousarray(_bounded(polygon)).view(np.complex128)[:, 0]  # [n]
    if len(points) == 0:
        return 0.0
    return float(np.add.reduce(abs(points[1:] - points[:-1]))) + abs(complex(points[0]) - complex(points[-1]))


def shrink(polygon: np.ndarray, distance: float) -> list[np.ndarray]:
    """The polygon with its outline moved inwards: none, one or several pieces, int32 [m, 2] each.

    The corners are truncated toward zero first, as pyclipper does; corners that open are rounded.
    """
    return expand(polygon, -distance)


def expand(polygon: np.ndarray, distance: float) -> list[np.ndarray]:
    """The polygon with its outline moved outwards, its corners rounded: pieces, and holes, as int32 [m, 2] each.

    The corners are truncated toward zero first, as pyclipper does. Source: Vatti clipping (pyclipper, JT_ROUND).
    """
    points = to_pixels(polygon)
    if len(points) == 0 or not np.isfinite(distance):
        return []
    offset = pyclipper.PyclipperOffset()
    offset.AddPath(points.tolist(), pyclipper.JT_ROUND, pyclipper.ET_CLOSEDPOLYGON)  # lists: arrays are slow here
    pieces = offset.Execute(distance)
    return [np.fromiter(chain.from_iterable(piece), np.int32, 2 * len(piece)).reshape(-1, 2) for piece in pieces]


def shrink_distance(polygon: np.ndarray, ratio: float) -> int:
    """Whole pixels by which DB and PAN shrink a polygon for its area to become about ratio^2 of what it is.

    Computed on truncated corners: area (1 - ratio^2) / perimeter, rounded.
    """
    points = to_pixels(polygon)
    if len(points) == 0:
        return 0
    # The originals measure the outline in float32, with cv2, which can decide how the quotient is rounded.
    return int(area(points) * (1 - ratio * ratio) / (cv2.arcLength(points, True) + 0.001) + 0.5)


def min_area_rect(points: np.ndarray) -> tuple[np.ndarray, float]:
    """Corners, float32 [4, 2], and shorter side of the smallest rectangle, in any direction, around the points.

    Points that are not finite don't count; without any, the rectangle is a point at 0.
    """
    points = np.asarray(points).reshape(-1, 2)
    if points.dtype != np.int32:
        points = _bounded(points[np.isfinite(points).all(1)]).astype(np.float32)
    if len(points) == 0:
        return np.zeros((4, 2), np.float32), 0.0
    rectangle = cv2.minAreaRect(points)
    return cv2.boxPoints(rectangle), min(rectangle[1])


def fill(mask: np.ndarray, polygon: np.ndarray, value: float) -> None:
    """Set the pixels of `mask` inside and on the outline of the polygon, its corners truncated toward zero."""
    points = to_pixels(polygon)
    if len(points):
        cv2.fillPoly(mask, [points], value)


def polygon_iou(first: np.ndarray, second: np.ndarray) -> float:
    """Intersection over union, 0 where the union has no area. Crossing edges are repaired by `buffer(0)`."""
    return float(_overlaps(_shape(first), np.array([_shape(second)]))[0])


def non_maximum_suppression(instances: Sequence[Instance], threshold: float) -> list[Instance]:
    """The instances that overlap no better one by an IoU above `threshold`, best first.

    Of equal scores the later is the better one, as in mmocr's `poly_nms`.
    """
    order = np.argsort([instance.score for instance in instances], kind="stable")[::-1]
    shapes = np.array([_shape(instances[i].polygon) for i in order], object)
    kept = []
    while len(order):
        kept.append(instances[order[0]])
        apart = _overlaps(shapes[0], shapes[1:]) <= threshold
        order, shapes = order[1:][apart], shapes[1:][apart]
    return kept


def _bounded(polygon: np.ndarray) -> np.ndarray:
    """float64 [n, 2] within the limits, or [0, 2] if not all points are finite."""
    polygon = np.asarray(polygon)
    points = polygon.astype(np.float64).reshape(-1, 2)
    if polygon.dtype != np.int32 and not (np.abs(points) <= COORDINATE_LIMIT).all():  # also for NaN
        points = np.clip(points, -COORDINATE_LIMIT, COORDINATE_LIMIT) if np.isfinite(points).all() else points[:0]
    return points


def _shape(polygon: np.ndarray) -> shapely.Geometry:
    points = _bounded(polygon)
    if len(points) < 3:
        return shapely.Polygon()
    shape = shapely.polygons(points)
    return shape if shape.is_valid else shape.buffer(0)


def _overlaps(shape: shapely.Geometry, others: np.ndarray) -> np.ndarray:
    """IoU of one valid shape with each of the others: float64 [n]."""
    intersections = np.zeros(len(others))
    near = shapely.intersects(shape, others)
    intersections[near] = shapely.area(shapely.intersection(shape, others[near]))
    unions = shapely.area(shape) + shapely.area(others) - intersections
    return np.divide(intersections, unions, out=np.zeros(len(others)), where=unions > 0)
