"""DBNet's training targets, on the host.

Sources: mmocr 0.4 datasets/pipelines/textdet_targets/dbnet_targets.py; sections 3.4 and 3.5 of the paper.
"""

from collections.abc import Sequence

import numpy as np

from tcm_jax.detection import polygons as geometry

TINY = float(np.finfo(np.float32).eps)  # keeps the original's quotients finite


def db_targets(
    polygons: Sequence[np.ndarray],
    ignored: Sequence[np.ndarray],
    size: tuple[int, int],
    *,
    shrink_ratio: float,
    threshold_min: float,
    threshold_max: float,
    min_short_size: float,
) -> dict[str, np.ndarray]:
    """Shrunk text regions and the threshold map around their borders.

    Text that is too small to shrink, or absurdly large, becomes an ignored region. Of text that falls apart when it
    is shrunk the first piece counts. Later text covers earlier text. Ignored regions are ignored even inside text.

    Args:
        polygons, ignored, size: see `TextDetector.targets`.
        shrink_ratio: r; outlines move by area (1 - r^2) / perimeter, inwards for text, both ways for the border.
        threshold_min, threshold_max: of the threshold map, away from outlines and on them.
        min_short_size: pixels; text whose smallest surrounding rectangle has a shorter side is ignored.

    Returns:
        [h, w] each: "gt_shrink" float32, numbers from 1 in the order of the text that is large enough;
        "gt_shrink_mask" uint8, 0 in ignored regions; "gt_thr" float32; "gt_thr_mask" uint8, 1 in widened text.
    """
    numbers = np.zeros(size, np.float32)
    effective = np.ones(size, np.uint8)
    nearness = np.zeros(size, np.float32)  # to the next outline: 1 on it, 0 from its distance on
    border = np.zeros(size, np.uint8)
    number = 0
    ignored = list(ignored)
    for polygon in polygons:
        polygon = np.asarray(polygon, np.float32).reshape(-1, 2)
        pieces = []
        if _is_usable(polygon, min_short_size):
            number += 1
            pieces = geometry.shrink(polygon, geometry.shrink_distance(polygon, shrink_ratio))
        if pieces:
            geometry.fill(numbers, pieces[0], number)
            _draw_border(nearness, border, polygon, shrink_ratio)
        else:
            ignored.append(polygon)
    for polygon in ignored:
        geometry.fill(effective, polygon, 0)
    nearness *= threshold_max - threshold_min
    nearness += threshold_min
    return {"gt_shrink": numbers, "gt_shrink_mask": effective, "gt_thr": nearness, "gt_thr_mask": border}


def _is_usable(polygon: np.ndarray, min_short_size: float) -> bool:
    within = (np.abs(polygon) < geometry.COORDINATE_LIMIT).all()  # False for NaN
    if not within or geometry.area(polygon) < 1:
        return False
    return geometry.min_area_rect(geometry.to_pixels(polygon))[1] >= min_short_size


def _draw_border(nearness: np.ndarray, border: np.ndarray, polygon: np.ndarray, shrink_ratio: float) -> None:
    """Raise `nearness` around an outline and mark the widened polygon in `border`.

    Of one beyond the image nothing is drawn; the original then draws a stray line on the last row or column, or fails.
    """
    reach = geometry.area(polygon) * (1 - shrink_ratio**2) / geometry.perimeter(polygon)
    widened = (geometry.expand(polygon, reach) or [geometry.to_pixels(polygon)])[0]
    left, top = np.maximum(widened.min(0), 0).tolist()
    right, bottom = np.minimum(widened.max(0) + 1, border.shape[::-1]).tolist()
    if left >= right or top >= bottom:
        return
    geometry.fill(border, widened, 1)
    x, y = widened.min(0).tolist()
    polygon = polygon - np.array([x, y], np.float32)  # as the original counts, which decides how float32 rounds
    distance = outline_distance(polygon, reach, (left - x, top - y, right - x, bottom - y))
    box = nearness[top:bottom, left:right]
    np.maximum(box, 1 - distance, out=box)


def outline_distance(polygon: np.ndarray, reach: float, box: tuple[int, int, int, int]) -> np.ndarray:
    """Distance of pixels to an outline in units of `reach`, at most 1.

    As in the original, an edge is measured at a right angle only from pixels within the circle that has the edge as
    its diameter; from elsewhere its ends count. Every edge and corner is drawn in a window of its reach.

    The original rounds the square of an edge's length to float32, but not the rest. This moves the outline by up to
    0.01 pixels, and pixels still closer to it than that have no distance there (NaN): they are 1 here.

    Args:
        polygon: float32 [n, 2].
        box: left, top, right, bottom of the pixels, the latter two excluded.

    Returns:
        float32 [bottom - top, right - left].
    """
    left, top, right, bottom = box
    squared = np.ones((bottom - top, right - left), np.float32)
    following = np.roll(polygon, -1, axis=0)
    rounded = np.square(following - polygon).sum(1)
    edge = following.astype(np.float64) - polygon
    length = np.square(edge).sum(1)
    excess = rounded - length

    # The squares of distances, and the sign that tells the two sides of a circle, are terms of x plus terms of y.
    x = np.arange(left, right) - polygon[:, :1].astype(np.float64)  # [n, w], from every corner
    y = np.arange(top, bottom) - polygon[:, 1:].astype(np.float64)  # [n, h]
    corner_x, corner_y = (np.square(c / reach).astype(np.float32) for c in (x, y))
    unit = edge / (np.sqrt(length) + TINY)[:, None] / reach
    across_x, across_y = (unit[:, 1:] * x).astype(np.float32), (unit[:, :1] * y).astype(np.float32)
    circle_x, circle_y = x * np.roll(x, -1, axis=0), y * np.roll(y, -1, axis=0) - excess[:, None] / 2
    shift = ((excess - TINY) / (length + TINY) / reach**2)[:, None]
    shift_x, shift_y = ((shift * c).astype(np.float32) for c in (circle_x, circle_y))

    origin, limit = (left, top), squared.shape[::-1]
    for i, (columns, rows) in enumerate(_windows(polygon - reach, polygon + reach, origin, limit)):
        window = squared[rows, columns]
        np.minimum(window, corner_y[i, rows, None] + corner_x[i, columns], out=window)
    sideways = np.abs(unit[:, ::-1]) * reach**2  # `reach` pixels: unit is one over it long
    low, high = np.minimum(polygon, following) - sideways, np.maximum(polygon, following) + sideways
    for i, (columns, rows) in enumerate(_windows(low, high, origin, limit)):
        window = squared[rows, columns]
        distance = across_y[i, rows, None] - across_x[i, columns]
        distance *= distance
        distance += shift_y[i, rows, None] + shift_x[i, columns]
        np.copyto(distance, 1, where=circle_x[i, columns] > -circle_y[i, rows, None])
        np.minimum(window, distance, out=window)
    squared[squared < 0] = 1
    return np.sqrt(squared)


def _windows(
    low: np.ndarray, high: np.ndarray, origin: tuple[int, int], limit: tuple[int, ...]
) -> list[tuple[slice, slice]]:
    """Of boxes [n, 2] to [n, 2] the slices of columns and rows in an array that starts at `origin`."""
    first = np.clip(np.ceil(low) - origin, 0, limit).astype(int).tolist()
    last = np.clip(np.floor(high) - origin + 1, 0, limit).astype(int).tolist()
    return [(slice(a, c), slice(b, d)) for (a, b), (c, d) in zip(first, last, strict=True)]
