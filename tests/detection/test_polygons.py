"""Geometry by hand-computed cases, and polygons without an inside."""

import numpy as np
import pytest
import shapely

from tcm_jax.detection import polygons as geometry
from tcm_jax.detection.interface import Instance

SQUARE = np.array([[10, 10], [30, 10], [30, 30], [10, 30]], np.float32)
DEGENERATE = {
    "nothing": np.zeros((0, 2)),
    "a point": np.array([[3, 4]]),
    "a line": np.array([[3, 4], [9, 4]]),
    "one point many times": np.full((5, 2), 7),
    "a line there and back": np.array([[0, 0], [9, 0], [4, 0]]),
    "NaN": np.full((4, 2), np.nan),
    "one NaN": np.array([[0, 0], [9, np.nan], [9, 9], [0, 9]]),
    "infinity": np.array([[0, 0], [np.inf, 0], [9, 9]]),
}
CROSSING = {
    "bow tie": np.array([[0, 0], [10, 10], [10, 0], [0, 10]]),
    "figure of eight, unequal": np.array([[0, 0], [20, 20], [20, 0], [5, 15]]),
    "repeated points": np.repeat(SQUARE, 3, axis=0),
    "twice around": np.tile(SQUARE, (2, 1)),
    "far off": np.array([[0, 0], [1e30, 0], [1e30, 1e30]]),
}


def test_size_of_a_square():
    for square in (SQUARE, SQUARE[::-1], SQUARE.astype(np.int32), SQUARE.tolist(), SQUARE[:, None]):
        assert geometry.area(square) == 400
        assert geometry.perimeter(square) == 80


def test_sizes_are_those_of_shapely():
    rng = np.random.default_rng(0)
    for n in (3, 4, 7, 14, 200):
        polygon = rng.uniform(0, 100, (n, 2))
        assert geometry.area(polygon) == pytest.approx(shapely.Polygon(polygon).area, rel=1e-12)
        assert geometry.perimeter(polygon) == pytest.approx(shapely.Polygon(polygon).length, rel=1e-12)


def test_pixels_are_truncated_toward_zero():
    assert geometry.to_pixels(np.array([[1.9, -1.9], [-0.5, 2.0]])).tolist() == [[1, -1], [0, 2]]


def test_shrinking_keeps_corners_and_expanding_rounds_them():
    (smaller,) = geometry.shrink(SQUARE, 5)
    assert sorted(smaller.tolist()) == [[15, 15], [15, 25], [25, 15], [25, 25]]
    (larger,) = geometry.expand(SQUARE, 5)
    assert larger.dtype == np.int32
    assert (larger.min(), larger.max()) == (5, 35)
    assert geometry.area(larger) == pytest.approx(400 + 80 * 5 + np.pi * 5**2, rel=0.02)
    assert geometry.shrink(SQUARE, 11) == []


def test_shrinking_can_break_a_polygon():
    """Two squares with a thin bridge."""
    dumbbell = np.array([[0, 0], [20, 0], [20, 9], [40, 9], [40, 0], [60, 0], [60, 20], [40, 20], [40, 11], [20, 11]])
    dumbbell = np.concatenate([dumbbell, [[20, 20], [0, 20]]])
    assert len(geometry.shrink(dumbbell, 3)) == 2


def test_shrink_distance():
    """400 (1 - 0.16) / 80 = 4.2."""
    assert geometry.shrink_distance(SQUARE, 0.4) == 4
    assert geometry.shrink_distance(SQUARE + 0.9, 0.4) == 4  # of truncated corners
    assert geometry.shrink_distance(SQUARE, 1.0) == 0


def test_the_smallest_rectangle():
    """A square on its tip."""
    corners, side = geometry.min_area_rect([[0, 10], [10, 0], [20, 10], [10, 20], [10, 10]])
    assert side == pytest.approx(200**0.5)
    assert sorted(np.abs(corners).round(4).tolist()) == [[0, 10], [10, 0], [10, 20], [20, 10]]
    corners, side = geometry.min_area_rect(np.array([[0, 0], [8, 0], [8, 4], [0, 4], [np.nan, 90]]))
    assert side == 4 and corners.max() == 8


def test_filling_includes_the_outline():
    mask = np.zeros((8, 8), np.uint8)
    geometry.fill(mask, np.array([[1.9, 2.9], [4.9, 2.9], [4.9, 5.9], [1.9, 5.9]]), 7)
    assert (mask[2:6, 1:5] == 7).all() and (mask > 0).sum() == 16


def test_iou():
    assert geometry.polygon_iou(SQUARE, SQUARE) == 1
    assert geometry.polygon_iou(SQUARE, SQUARE[::-1] + [10, 0]) == pytest.approx(1 / 3)
    assert geometry.polygon_iou(SQUARE, SQUARE + [20, 0]) == 0  # they touch
    assert geometry.polygon_iou(SQUARE, SQUARE + 100) == 0


def test_crossing_edges_are_repaired_as_buffer_does():
    bow_tie = CROSSING["bow tie"]
    expected = shapely.Polygon(bow_tie).buffer(0)
    assert geometry.polygon_iou(bow_tie, [[0, 0], [10, 0], [10, 10], [0, 10]]) == pytest.approx(expected.area / 100)


def test_suppression_keeps_the_best_of_those_that_overlap():
    def instance(x, score):
        return Instance(SQUARE + [x, 0], score)

    found = [instance(0, 0.5), instance(2, 0.9), instance(50, 0.7), instance(19, 0.6), instance(52, 0.7)]
    kept = geometry.non_maximum_suppression(found, 0.1)
    assert [i.score for i in kept] == [0.9, 0.7, 0.6]
    assert kept[1] is found[4]  # of equal scores the later
    assert geometry.non_maximum_suppression(found, 1.0) == [found[i] for i in (1, 4, 2, 3, 0)]
    assert geometry.non_maximum_suppression([], 0.1) == []


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("polygon", DEGENERATE.values(), ids=DEGENERATE)
def test_degenerate_polygons_have_no_inside(polygon):
    assert geometry.area(polygon) == 0
    assert np.isfinite(geometry.perimeter(polygon))
    assert geometry.shrink(polygon, 2) == []
    assert geometry.shrink_distance(polygon, 0.4) == 0
    assert geometry.polygon_iou(polygon, polygon) == geometry.polygon_iou(polygon, SQUARE) == 0
    corners, side = geometry.min_area_rect(polygon)
    assert np.isfinite(corners).all() and np.isfinite(side)


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("polygon", [*DEGENERATE.values(), *CROSSING.values()], ids=[*DEGENERATE, *CROSSING])
def test_no_polygon_raises(polygon):
    for distance in (0, 2, 1e4, np.nan):
        assert all(piece.shape[1] == 2 for piece in geometry.expand(polygon, distance))
        assert all(piece.shape[1] == 2 for piece in geometry.shrink(polygon, distance))
    assert 0 <= geometry.polygon_iou(polygon, SQUARE) <= 1
    corners, _ = geometry.min_area_rect(polygon)
    assert corners.shape == (4, 2) and np.isfinite(corners).all()
    mask = np.zeros((16, 16), np.uint8)
    geometry.fill(mask, polygon, 1)
    kept = geometry.non_maximum_suppression([Instance(polygon, 0.5), Instance(SQUARE, 0.4)], 0.1)
    assert kept[0].score == 0.5
