"""Which sides of a polygon are up and down."""

import numpy as np
import pytest

from tcm_jax.detection.polygons import area
from tcm_jax.spotting.outlines import sides

RECTANGLE = np.array([[10, 20], [70, 20], [70, 40], [10, 40]], np.float32)


def arc(start: float, stop: float, radius: float = 100, height: float = 30, n: int = 7) -> np.ndarray:
    """The outline of a bent strip around (200, 200); degrees from the right, clockwise."""
    angle = np.radians(np.linspace(start, stop, n))
    ray = np.stack([np.cos(angle), np.sin(angle)], axis=1)
    return np.concatenate([200 + (radius + height / 2) * ray, (200 + (radius - height / 2) * ray)[::-1]])


def rotated(points: np.ndarray, degrees: float) -> np.ndarray:
    angle = np.radians(degrees)
    return points @ np.array([[np.cos(angle), np.sin(angle)], [-np.sin(angle), np.cos(angle)]])


def any_order(points: np.ndarray):
    """The outline from each of its points in both directions."""
    for first in range(len(points)):
        yield np.roll(points, first, axis=0)
        yield np.roll(points[::-1], first, axis=0)


def test_corners_of_a_rectangle_from_any_point_in_any_direction():
    for points in any_order(RECTANGLE):
        assert sides(points).corners.tolist() == RECTANGLE.tolist()


def test_points_of_a_quadrilateral_may_cross():
    assert sides(RECTANGLE[[0, 2, 1, 3]]).corners.tolist() == RECTANGLE.tolist()


def test_the_perspective_of_a_quadrilateral_is_kept():
    trapezoid = np.array([[10, 10], [90, 20], [90, 40], [10, 50]])
    assert sides(trapezoid[[2, 3, 0, 1]]).corners.tolist() == trapezoid.tolist()


@pytest.mark.parametrize("degrees", [0, 30, -30, 55, -55])
def test_the_long_side_is_read_along_unless_it_is_steep(degrees):
    points = rotated(RECTANGLE, degrees)
    for order in any_order(points):
        assert sides(order).corners == pytest.approx(points, abs=1e-3)


@pytest.mark.parametrize("degrees", [60, 90, 120])
def test_a_steep_rectangle_stands_as_in_the_photo(degrees):
    points = rotated(RECTANGLE, degrees)  # its left side is now above
    assert sides(points).corners == pytest.approx(np.roll(points, 1, axis=0), abs=1e-3)


def test_a_triangle_and_an_almost_triangle_become_their_rectangles():
    for points in ([[0, 0], [99, 0], [50, 20]], [[0, 0], [99, 0], [51, 20], [50, 20]]):
        corners = sides(np.array(points)).corners
        edges = np.diff(corners, axis=0)
        assert edges[0] @ edges[1] == pytest.approx(0, abs=1e-2)
        assert area(corners) == pytest.approx(99 * 20, rel=0.02)


def test_a_polygon_close_to_a_rectangle_is_one():
    rounded = np.array([[13, 20], [67, 20], [70, 23], [70, 37], [67, 40], [13, 40], [10, 37], [10, 23]])
    found = sides(rounded)
    assert len(found.top) == 2
    assert found.corners == pytest.approx(RECTANGLE, abs=0.1)


def test_the_sides_of_an_arch():
    outline = arc(-150, -30)
    for points in any_order(outline):
        found = sides(points)
        assert not found.vertical
        assert found.corners == pytest.approx(outline[[0, 6, 7, 13]], abs=4)
        middle = len(found.top) // 2
        assert (found.top[middle], found.bottom[middle]) == (
            pytest.approx([200, 86], abs=2),
            pytest.approx([200, 115], abs=2),
        )


def test_text_below_a_circle_is_read_from_left_to_right():
    found = sides(arc(30, 150))
    middle = len(found.top) // 2
    assert found.top[0, 0] < found.top[-1, 0]
    assert found.top[middle, 1] < found.bottom[middle, 1]


def test_text_around_most_of_a_circle_is_read_clockwise():
    outline = arc(-230, 50, n=14)
    assert sides(outline[::-1]).corners == pytest.approx(outline[[0, 13, 14, 27]], abs=5)


def test_a_steep_arc_goes_down_and_its_corners_are_those_in_the_photo():
    outline = arc(-50, 50)
    for points in any_order(outline):
        found = sides(points)
        assert found.vertical
        assert found.top[0] == pytest.approx(outline[0], abs=4)
        assert found.corners == pytest.approx(outline[[13, 0, 6, 7]], abs=4)


def test_round_ends_and_uneven_outlines():
    """As detectors give them: a strip without corners, whose sides waver by a pixel or two."""
    way = np.arange(0, 260, 10)
    head, tail = (np.radians(np.arange(start, start + 181, 20)) for start in (90, -90))
    upper = np.stack([way, np.full(26, -20)], axis=1)
    end = np.stack([260 + 20 * np.cos(tail), 20 * np.sin(tail)], axis=1)
    start = np.stack([20 * np.cos(head), 20 * np.sin(head)], axis=1)
    outline = np.concatenate([upper, end, upper[::-1] * (1, -1), start])
    outline += np.random.default_rng(0).normal(0, 0.7, outline.shape)
    outline[:, 1] += (outline[:, 0] - 130) ** 2 / 250
    found = sides(outline)
    assert found.corners == pytest.approx(np.array([[-10, 60], [270, 60], [275, 95], [-15, 95]]), abs=12)
    middle = len(found.top) // 2
    assert (found.top[middle], found.bottom[middle]) == (
        pytest.approx([130, -20], abs=5),
        pytest.approx([130, 20], abs=5),
    )


@pytest.mark.parametrize(
    "points",
    [
        np.zeros((0, 2)),
        [[3, 4]],
        [[3, 4], [9, 4]],
        np.full((5, 2), 7),
        [[0, 0], [9, 0], [4, 0]],
        np.full((4, 2), np.nan),
        [[0, 0], [9, np.nan], [9, 9], [0, 9]],
        [[0, 0], [np.inf, 0], [9, 9]],
        [[0, 0], [1e30, 0], [1e30, 1e30]],
    ],
)
def test_polygons_without_an_inside_have_no_sides(points):
    assert sides(np.array(points)) is None


def test_an_outline_that_crosses_itself_becomes_its_rectangle():
    eight = np.array([[0, 0], [60, 20], [60, 0], [0, 20], [0, 10]])
    assert sides(eight).corners == pytest.approx(np.array([[0, 0], [60, 0], [60, 20], [0, 20]]), abs=0.1)
