import pickle

import cv2
import numpy as np
import pytest
from shapely.geometry import Polygon

from tcm_jax.render import boards, mounting
from tcm_jax.render.boards import letter_contrast
from tcm_jax.render.emblems import band, emblem
from tcm_jax.render.materials import KINDS, TILE, tile
from tcm_jax.render.mounting import Projection
from tcm_jax.render.random_stream import RandomStream
from tcm_jax.render.scenes import SyntheticScenes


def letters_of(text: str) -> str:
    return "".join(c for c in text.casefold() if c.isalnum())


def test_a_scene_is_a_function_of_seed_split_and_index():
    first, second = SyntheticScenes(seed=3, image_size=(160, 200)), SyntheticScenes(seed=3, image_size=(160, 200))
    copy = pickle.loads(pickle.dumps(first))
    forwards = [first[i] for i in range(6)]
    for i in reversed(range(6)):
        for again in (second[i], copy[i]):
            np.testing.assert_array_equal(again.image, forwards[i].image)
            assert [r.text for r in again.regions] == [r.text for r in forwards[i].regions]
            for one, other in zip(again.regions, forwards[i].regions, strict=True):
                np.testing.assert_array_equal(one.polygon, other.polygon)
    for other in (SyntheticScenes(seed=4, image_size=(160, 200)), SyntheticScenes(3, "test", image_size=(160, 200))):
        assert not np.array_equal(other[0].image, forwards[0].image)
    assert forwards[5].name == first.image_name(5) == "synthetic scenes/train:3:5"
    assert [r.text for r in first.regions(2)] == [r.text for r in forwards[2].regions]


def test_it_is_a_sequence_of_pictures_with_regions():
    scenes = SyntheticScenes(size=8, image_size=(240, 320), words=(3, 6))
    assert len(scenes) == 8
    for scene in map(scenes.__getitem__, range(8)):
        assert isinstance(scene.image, np.ndarray)
        assert scene.image.dtype == np.uint8
        assert scene.image.shape == (240, 320, 3)
        for region in scene.regions:
            assert region.polygon.dtype == np.float32
            assert len(region.polygon) in (4, *range(8, 27, 2))
            assert region.text
            assert letters_of(region.text)
            x, y = region.polygon.T
            assert (x >= -10).all()
            assert (x <= 330).all()
            assert (y >= -10).all()
            assert (y <= 250).all()
            assert Polygon(region.polygon).is_valid
            assert Polygon(region.polygon).exterior.is_ccw  # clockwise, as y points down
    for index in (8, -1):
        with pytest.raises(IndexError, match=f"scene {index} of 8"):
            scenes[index]


def test_as_many_words_as_asked_for_where_there_is_room():
    empty = SyntheticScenes(words=(0, 0), difficulty=0.0, image_size=(200, 200))
    assert not empty[0].regions
    assert empty[0].image.std() > 0
    few = SyntheticScenes(words=(4, 4), em=(14, 18), image_size=(400, 400), difficulty=0.0)
    assert [len(few[i].regions) for i in range(5)] == [4] * 5


@pytest.mark.parametrize("difficulty", [0.0, 0.5, 1.0])
def test_polygons_lie_around_the_ink(difficulty, monkeypatch):
    monkeypatch.setattr(boards, "_DECORATIONS", ("none",))  # polygons go around outlines, too
    scenes = SyntheticScenes(image_size=(400, 400), words=(4, 12), difficulty=difficulty)
    found = []
    for seed in range(12):
        _, letters, words = scenes.draw(RandomStream(seed))
        around = np.zeros_like(letters)
        for _, _, polygon in words:
            outline = [np.round(polygon).astype(np.int32)]
            cv2.fillPoly(around, outline, 1)
            cv2.polylines(around, outline, True, 1, 3)  # one pixel more
        assert not (letters[around == 0] > 100).any()  # no ink outside
        found += [
            max(gaps(letters, polygon))
            for _, em, polygon in words
            if len(polygon) == 4 and em >= 9 and (polygon > 2).all() and (polygon < 398).all()
        ]
    assert len(found) > 40
    assert np.percentile(found, 97) < 1.2


def test_curved_polygons_lie_around_the_ink(monkeypatch):
    monkeypatch.setattr(boards, "_DECORATIONS", ("none",))
    monkeypatch.setattr(mounting, "_CURVED", 1.0)
    scenes = SyntheticScenes(image_size=(400, 400), words=(1, 4), em=(30, 50), difficulty=1.0)
    found = 0
    for seed in range(12):
        _, letters, words = scenes.draw(RandomStream(seed))
        for _, em, polygon in words:
            if len(polygon) == 4 or em < 20 or (polygon < 2).any() or (polygon > 398).any():
                continue
            found += 1
            assert len(polygon) >= 8
            half = len(polygon) // 2
            upper, lower = polygon[:half], polygon[half:][::-1]
            inwards = 2.5 * (lower - upper) / np.linalg.norm(lower - upper, axis=1, keepdims=True)
            strips = [(upper, upper + inwards), (lower - inwards, lower)]  # ink touches both of the long sides
            ends = [(polygon[[0, -1]], 2.5 * (upper[1] - upper[0])), (polygon[[half - 1, half]], upper[-2] - upper[-1])]
            strips += [(side, side + 2.5 * step / np.linalg.norm(step)) for side, step in ends]
            for outer, inner in strips:
                strip = np.zeros_like(letters)
                cv2.fillPoly(strip, [np.round(np.concatenate([outer, inner[::-1]])).astype(np.int32)], 1)
                assert (letters[strip > 0] > 60).any()
    assert found > 8


def gaps(letters: np.ndarray, polygon: np.ndarray) -> list[float]:
    """Pixels between each side of a quadrilateral and the ink next to it."""
    width, height = np.linalg.norm(polygon[1] - polygon[0]), np.linalg.norm(polygon[3] - polygon[0])
    zoom, w, h = 4, max(4, int(4 * width)), max(4, int(4 * height))
    corners = np.array([[0, 0], [w, 0], [w, h], [0, h]], np.float32)
    flat = cv2.warpPerspective(letters, cv2.getPerspectiveTransform(polygon, corners), (w, h)) > 60
    ys, xs = np.flatnonzero(flat.any(1)), np.flatnonzero(flat.any(0))
    return [gap / zoom for gap in (xs[0], ys[0], w - 1 - xs[-1], h - 1 - ys[-1])]


def test_an_outline_goes_clockwise_from_the_top_left():
    flat = Projection((100, 40), 1.0, 0.0, np.array([[1, 0, 200], [0, 1, 100], [0, 0, 1.0]]))
    # The piece's pixel 0 lands at 200 - 99 / 2, and its border half a pixel before.
    np.testing.assert_allclose(flat.outline((0, 0, 100, 40)), [[150, 80], [250, 80], [250, 120], [150, 120]], atol=1e-4)
    bent = Projection((100, 40), 1.0, 80.0, np.array([[1, 0, 200], [0, 1, 100], [0, 0, 1.0]])).outline((0, 0, 100, 40))
    half = len(bent) // 2
    assert half == 9
    assert bent.shape == (18, 2)
    np.testing.assert_allclose(bent[4], [200, 80], atol=1e-4)  # the middle stays where it was
    assert bent[0, 1] > bent[4, 1]
    assert bent[8, 1] > bent[4, 1]
    # An arc of 100 pixels along a circle of 80: 40 pixels above and 60 below for the border at 20.
    np.testing.assert_allclose(bent[0], [200 - 100 * np.sin(50 / 80), 180 - 100 * np.cos(50 / 80)], atol=1e-3)


@pytest.mark.parametrize("radius", [0.0, 90.0, -90.0])
def test_the_picture_shows_the_layers_where_the_outline_is(radius):
    mount = Projection((100, 40), 1.5, radius, np.array([[0.9, 0.2, 150], [-0.1, 1, 100], [0.0003, 0, 1.0]]))
    shown = mount.warp(np.full((40, 100), 255, np.uint8), (0, 0, 300, 200)) / 255.0
    outline = Polygon(mount.outline((0, 0, 100, 40)))
    assert shown.sum() == pytest.approx(outline.area, rel=0.02)
    ys, xs = np.mgrid[0:200, 0:300]
    centre = (shown * xs).sum() / shown.sum(), (shown * ys).sum() / shown.sum()
    np.testing.assert_allclose(centre, [outline.centroid.x, outline.centroid.y], atol=0.3)


def test_words_that_cannot_be_read_are_ignored():
    small = SyntheticScenes(em=(4, 6), image_size=(160, 160), words=(3, 3))
    assert all(region.ignore for i in range(6) for region in small[i].regions)
    large = SyntheticScenes(em=(30, 40), image_size=(320, 320), words=(3, 3), difficulty=0.0)
    regions = [region for i in range(6) for region in large[i].regions]
    assert sum(region.ignore for region in regions) < 0.4 * len(regions)  # the small lines below a large one


def test_letter_contrast_is_the_difference_between_ink_and_ground():
    letters = np.zeros((40, 60), np.uint8)
    letters[10:20, 20:40] = 255
    polygon = np.array([[15, 5], [45, 5], [45, 25], [15, 25]], np.float32)
    image = np.full((40, 60, 3), 100, np.uint8)
    assert letter_contrast(image, letters, polygon) == 0
    image[10:20, 20:40] = 130
    assert letter_contrast(image, letters, polygon) == pytest.approx(30)
    image[10:20, 20:40] = (130, 100, 100)  # a difference in one channel of three
    assert letter_contrast(image, letters, polygon) == pytest.approx(30 / np.sqrt(3))
    assert letter_contrast(image, letters, polygon + 500) == 0  # outside the picture


def test_a_region_is_a_word_or_a_line():
    options = {"image_size": (320, 320), "words": (6, 12), "em": (14, 20)}
    words, lines = SyntheticScenes(**options), SyntheticScenes(unit="line", **options)
    _, _, of_words = words.draw(RandomStream(1))
    _, _, of_lines = lines.draw(RandomStream(1))
    assert any(" " in text for text, *_ in of_lines)
    assert not any(" " in text for text, *_ in of_words)
    first = of_lines[0]
    inside = [text for text, _, polygon in of_words if Polygon(first[2]).buffer(0.5).contains(Polygon(polygon))]
    assert " ".join(inside) == first[0]


def test_words_of_the_test_split_never_occur_in_train():
    def keys(split: str) -> set[str]:
        scenes = SyntheticScenes(split=split, image_size=(200, 200), words=(6, 9), em=(10, 14))
        return {letters_of(region.text) for i in range(30) for region in scenes.regions(i)}

    train, test = keys("train"), keys("test")
    assert len(train) > 100
    assert len(test) > 100
    assert not train & test


def test_materials_and_marks_are_drawn():
    rng = RandomStream(0)
    for kind in KINDS:
        grey = tile(rng, kind)
        assert grey.shape == (TILE, TILE)
        assert grey.dtype == np.uint8
        assert grey.min() == 0
        assert grey.max() >= 254
    assert all((emblem(rng, side) > 0).any() for side in (8, 9, 20, 64) for _ in range(30))
    assert all((band(rng, height) > 0).any() for height in (8, 9, 20, 64) for _ in range(30))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"difficulty": 1.2}, "difficulty 1.2; expected a number of 0 .. 1"),
        ({"words": (5, 3)}, r"words \(5, 3\); expected the minimum and the maximum"),
        ({"em": (0, 3)}, r"em \(0, 3\); expected the minimum and the maximum"),
        ({"image_size": (32, 640)}, r"image_size \(32, 640\); expected height and width of 64"),
        ({"unit": "letter"}, "unit 'letter'; expected"),
        ({"split": "val"}, "split 'val'; expected one of"),
    ],
)
def test_wrong_arguments(options, message):
    with pytest.raises(ValueError, match=message):
        SyntheticScenes(**options)
