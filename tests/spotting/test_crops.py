"""Pictures of words that are drawn into photos: what comes out is what was drawn."""

import cv2
import numpy as np
import pytest

from tcm_jax.spotting.crops import HEIGHT, LENGTH, candidates, rectify


def drawn(text: str = "Word", size: tuple[int, int] = (120, 40)) -> np.ndarray:
    """A word, uint8 RGB, whose corners have colours of their own."""
    image = np.full((size[1], size[0], 3), 230, np.uint8)
    cv2.putText(image, text, (8, size[1] - 10), cv2.FONT_HERSHEY_SIMPLEX, size[1] / 40, (20, 40, 160), 3, cv2.LINE_AA)
    for x, y, colour in ((0, 0, (255, 0, 0)), (1, 0, (0, 255, 0)), (1, 1, (0, 0, 255)), (0, 1, (255, 255, 0))):
        cv2.circle(image, (x * (size[0] - 1), y * (size[1] - 1)), size[1] // 5, colour, -1)
    return image


def in_photo(word: np.ndarray, corners: np.ndarray) -> np.ndarray:
    """A gray photo, 400 x 300, of `word` with its corners at `corners`."""
    height, width = word.shape[:2]
    flat = np.array([[0, 0], [width, 0], [width, height], [0, height]], np.float32) - 0.5
    matrix = cv2.getPerspectiveTransform(flat, np.asarray(corners, np.float32) - 0.5)
    photo = np.full((300, 400, 3), 128, np.uint8)
    return cv2.warpPerspective(word, matrix, (400, 300), photo, borderMode=cv2.BORDER_TRANSPARENT)


def difference(one: np.ndarray, other: np.ndarray) -> float:
    """Mean difference of two pictures of a word, in gray levels, at the size of the second one."""
    one = cv2.resize(one, other.shape[1::-1], interpolation=cv2.INTER_AREA)
    return float(np.abs(one.astype(int) - other).mean())


def test_an_upright_box_is_cut_out_pixel_by_pixel():
    photo = np.random.default_rng(0).integers(0, 256, (60, 100, 3), np.uint8)
    box = np.array([[10, 20], [70, 20], [70, 40], [10, 40]])
    assert (rectify(photo, box, margin=0) == photo[20:40, 10:70]).all()
    assert (rectify(photo, box, margin=0.1) == photo[18:42, 8:72]).all()


@pytest.mark.parametrize(
    "corners",
    [
        [[100, 100], [220, 100], [220, 140], [100, 140]],
        [[100, 100], [200, 160], [180, 194], [80, 134]],
        [[100, 160], [200, 100], [220, 134], [120, 194]],
        [[100, 100], [240, 120], [240, 150], [100, 160]],
    ],
    ids=["upright", "falling", "rising", "perspective"],
)
def test_quadrilaterals_are_seen_from_the_front(corners):
    word = drawn()
    photo = in_photo(word, corners)
    for first in range(4):
        for order in (np.roll(corners, first, axis=0), np.roll(corners[::-1], first, axis=0)):
            assert difference(rectify(photo, order, margin=0), word) < 8


def bent(word: np.ndarray, radius: float, degrees: float) -> tuple[np.ndarray, np.ndarray]:
    """A photo of `word` on a circle, its middle at `degrees` from the right, and its outline."""
    height, width = word.shape[:2]
    y, x = np.mgrid[:300, :400] + 0.5
    angle = (np.arctan2(y - 150, x - 200) - np.radians(degrees) + np.pi) % (2 * np.pi) - np.pi
    across, along = radius - np.hypot(x - 200, y - 150) + (height - 1) / 2, angle * radius + (width - 1) / 2
    photo = cv2.remap(word, np.float32(along), np.float32(across), cv2.INTER_LINEAR, borderValue=(128, 128, 128))
    angles = np.radians(degrees) + np.linspace(-0.5, 0.5, 9) * width / radius
    ray = np.stack([np.cos(angles), np.sin(angles)], axis=1)
    outline = [(200, 150) + (radius + height / 2) * ray, ((200, 150) + (radius - height / 2) * ray)[::-1]]
    return photo, np.concatenate(outline)


def test_bent_text_is_straightened():
    word = drawn("straight", (180, 40))
    photo, outline = bent(word, 100, -90)
    for points in (outline, np.roll(outline[::-1], 5, axis=0)):
        straight = rectify(photo, points, margin=0)
        assert straight.shape[1] / straight.shape[0] == pytest.approx(180 / 40, rel=0.1)
        assert difference(straight, word) < 12  # turned by 180 degrees it is 40


@pytest.mark.parametrize("degrees, turn", [(0, 90), (180, 270)])
def test_one_candidate_of_a_steep_arc_is_the_word(degrees, turn):
    word = drawn("straight", (180, 40))
    found = candidates(*bent(word, 100, degrees), margins=[0])
    assert [candidate.turn for candidate in found] == [0, 90, 270]
    differences = {candidate.turn: difference(candidate.image, word) for candidate in found}
    assert differences[turn] == min(differences.values()) < 12


def test_tall_text_is_turned_both_ways():
    word = drawn()
    photo = in_photo(word, [[220, 100], [220, 220], [180, 220], [180, 100]])  # read downwards
    upright, left, right = candidates(photo, np.array([[180, 100], [220, 100], [220, 220], [180, 220]]), margins=[0])
    assert (upright.turn, left.turn, right.turn) == (0, 90, 270)
    assert difference(left.image, word) < 3
    assert (right.image == left.image[::-1, ::-1]).all()
    assert (upright.image == np.rot90(right.image)).all()


def test_other_text_is_turned_on_request_only():
    photo = in_photo(drawn(), box := [[100, 100], [220, 100], [220, 140], [100, 140]])
    assert [c.turn for c in candidates(photo, box, margins=[0])] == [0]
    upright, over = candidates(photo, box, margins=[0], upside_down=True)
    assert (over.turn, over.image.tolist()) == (180, upright.image[::-1, ::-1].tolist())


def test_a_word_is_cut_out_with_each_margin():
    photo = in_photo(drawn(), box := [[100, 100], [220, 100], [220, 140], [100, 140]])
    assert [c.image.shape[:2] for c in candidates(photo, box, margins=[0, 0.1, 0.25])] == [
        (40, 120),
        (48, 128),
        (60, 140),
    ]
    assert [c.turn for c in candidates(photo, np.array(box)[:, ::-1], margins=[0, 0.1])] == [0, 90, 270] * 2


def test_small_words_are_not_enlarged_and_large_ones_reduced():
    photo = np.zeros((2000, 3000, 3), np.uint8)

    def shape(width: int, height: int) -> tuple[int, ...]:
        return rectify(photo, np.array([[0, 0], [width, 0], [width, height], [0, height]]), margin=0).shape

    assert shape(20, 9) == (9, 20, 3)
    assert shape(600, 2 * HEIGHT) == (HEIGHT, 300, 3)
    assert shape(3000, 60) == (20, LENGTH, 3)
    assert shape(HEIGHT, 1500) == (LENGTH, 66, 3)


def test_a_large_word_is_averaged():
    stripes = np.tile(np.array([[[0]], [[255]]], np.uint8), (960, 4000, 3))
    image = rectify(stripes, np.array([[0, 0], [4000, 100], [4000, 1900], [0, 1800]]), margin=0)
    assert abs(image.astype(int) - 127).max() < 10


def test_parts_outside_the_photo_repeat_its_border():
    photo = np.zeros((20, 30, 3), np.uint8)
    photo[:, 0] = 200
    image = rectify(photo, np.array([[-10, 5], [20, 5], [20, 15], [-10, 15]]), margin=0)
    assert image.shape == (10, 30, 3)
    assert (image[:, :11] == 200).all() and (image[:, 11:] == 0).all()


@pytest.mark.parametrize("offset", [(0, -50), (-80, 0), (0, 60), (100, 0)])
def test_a_word_outside_the_photo_has_no_picture(offset):
    box = np.array([[10, 10], [60, 10], [60, 30], [10, 30]]) + offset
    assert rectify(np.zeros((60, 100, 3), np.uint8), box, margin=0) is None
    assert candidates(np.zeros((60, 100, 3), np.uint8), box) == []


def test_any_polygon_in_any_photo():
    """No error, and no picture that is larger than it may be."""
    rng = np.random.default_rng(0)
    for i in range(400):
        height, width = rng.integers(1, [3, 200][i % 2], 2)
        photo = np.zeros((height, width, 3), np.uint8)
        spread = 10.0 ** rng.uniform(-2, 7)
        polygon = rng.normal(0, spread, (rng.integers(0, 20), 2)) + (width / 2, height / 2)
        if i % 5 == 0:
            polygon = polygon.astype(np.int32)
        for image, _ in candidates(photo, polygon, margins=[0, 0.1], upside_down=True):
            assert image.dtype == np.uint8 and image.ndim == 3 and image.flags.c_contiguous
            assert 1 <= min(image.shape[:2]) <= 1.2 * HEIGHT + 1
            assert max(image.shape[:2]) <= 1.2 * LENGTH
