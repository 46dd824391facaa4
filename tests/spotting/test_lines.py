"""Reading order of boxes that are drawn here: (left, top, width, height) each."""

import numpy as np
import pytest

from tcm_jax.spotting.lines import reading_order


def box(x: float, y: float, width: float = 50, height: float = 20) -> np.ndarray:
    return np.array([[x, y], [x + width, y], [x + width, y + height], [x, y + height]], np.float32)


def rotated(polygons: list[np.ndarray], degrees: float) -> list[np.ndarray]:
    angle = np.radians(degrees)
    return [p @ np.array([[np.cos(angle), np.sin(angle)], [-np.sin(angle), np.cos(angle)]]) for p in polygons]


TWO_LINES = [box(0, 0), box(60, 2), box(120, -1), box(0, 30), box(60, 31)]


def test_nothing_and_one_word():
    assert reading_order([]) == []
    assert reading_order([box(5, 5)]) == [[0]]


def test_two_lines_in_any_order_of_the_words():
    for seed in range(5):
        places = np.random.default_rng(seed).permutation(5)
        lines = reading_order([TWO_LINES[i] for i in places])
        assert [[int(places[i]) for i in line] for line in lines] == [[0, 1, 2], [3, 4]]


def test_letters_with_and_without_ascenders_are_in_one_line():
    the, on, dog, full = box(0, 0, 60, 24), box(70, 8, 30, 16), box(110, 0, 50, 30), box(170, 7, 40, 17)
    assert reading_order([full, dog, on, the]) == [[3, 2, 1, 0]]


@pytest.mark.parametrize("gap, lines", [(25, [[0, 1]]), (35, [[0], [1]])])
def test_the_widest_gap_in_a_line_is_one_and_a_half_heights(gap, lines):
    assert reading_order([box(0, 0), box(50 + gap, 0)]) == lines


def test_a_heading_and_small_print_are_lines_of_their_own():
    assert reading_order([box(210, 10, 60, 15), box(0, 0, 200, 60)]) == [[1], [0]]


def test_two_columns_are_read_one_after_the_other():
    left = [box(0, 30 * i, 100) for i in range(3)]
    right = [box(150, 30 * i + 4, 100) for i in range(3)]
    assert reading_order([*right, *left]) == [[3], [4], [5], [0], [1], [2]]


def test_a_title_over_two_columns_comes_first_and_a_line_below_them_last():
    words = [box(150, 40), box(150, 70), box(0, 40), box(0, 70), box(0, 10, 200), box(0, 100, 200)]
    assert reading_order(words) == [[4], [2], [3], [0], [1], [5]]


def test_small_print_between_lines_is_read_between_them():
    assert reading_order([box(0, 0, 100), box(0, 40, 100), box(30, 24, 40, 9)]) == [[0], [2], [1]]


def test_signs_at_different_heights_are_read_from_the_top():
    assert reading_order([box(0, 200), box(300, 100), box(150, 0)]) == [[2], [1], [0]]


@pytest.mark.parametrize("degrees", [-50, -30, -10, 10, 30, 50])
def test_lines_of_a_photo_that_is_held_at_an_angle(degrees):
    assert reading_order(rotated(TWO_LINES, degrees)) == [[0, 1, 2], [3, 4]]


@pytest.mark.parametrize("degrees, turn", [(90, 90), (-90, 270), (180, 180)])
def test_lines_of_turned_words_run_in_their_direction(degrees, turn):
    assert reading_order(rotated(TWO_LINES, degrees), [turn] * 5) == [[0, 1, 2], [3, 4]]


def test_a_book_spine_beside_a_line():
    line = [box(100, 100), box(160, 100), box(220, 100)]
    spine = rotated([box(20, -40, 60), box(90, -40, 60)], 90)  # reads down, from (40, 20) to (40, 150)
    assert reading_order([*line, *spine[::-1]], [0, 0, 0, 90, 90]) == [[4, 3], [0, 1, 2]]


def test_words_on_an_arc_are_one_line():
    words = [rotated([box(-40, -210, 80)], degrees)[0] for degrees in (50, -50, 0, -25, 25)]
    assert reading_order(words) == [[1, 3, 2, 4, 0]]


def test_words_around_a_circle_are_one_line_that_is_cut_somewhere():
    words = [rotated([box(-15, -110, 30)], degrees)[0] for degrees in range(0, 360, 20)]
    turns = [round(degrees / 90) % 4 * 90 for degrees in range(0, 360, 20)]
    (line,) = reading_order(words, turns)
    assert np.roll(line, -line.index(0)).tolist() == list(range(18))


def test_polygons_without_an_inside_come_last():
    nan, line = np.full((4, 2), np.nan), np.array([[0, 0], [9, 0], [4, 0]])
    assert reading_order([nan, box(0, 50), line, box(0, 0)]) == [[3], [1], [0], [2]]
    assert reading_order([nan]) == [[0]]


def test_every_word_occurs_once():
    rng = np.random.default_rng(0)
    for n in (2, 10, 100):
        for spread in (3, 100, 1000):
            words = [rng.uniform(0, spread, 2) + rng.normal(0, 20, (rng.integers(3, 9), 2)) for _ in range(n)]
            turns = rng.choice([0, 90, 180, 270], n).tolist()
            lines = reading_order(words, turns)
            assert sorted(i for line in lines for i in line) == list(range(n))
            assert lines == reading_order(words, turns)


def test_identical_boxes():
    assert sorted(i for line in reading_order([box(0, 0)] * 4) for i in line) == [0, 1, 2, 3]
