"""Pictures of detections."""

import numpy as np
import pytest

from tcm_jax.images.lettering import choose_font
from tcm_jax.images.overlay import draw_detections, draw_words
from tcm_jax.records import TextRegion

GRAY = np.full((320, 640, 3), 128, np.uint8)
BOX = np.float32([[100, 100], [300, 100], [300, 200], [100, 200]])


def test_outlines():
    """A good score is green, a poor one red; the letters inside stay as they are, the image is not changed."""
    for score, colour in ((1.0, (40, 230, 90)), (0.7, (255, 200, 0)), (0.2, (255, 60, 40))):
        picture = draw_detections(GRAY, [BOX], [score])
        assert picture.shape[1] == 640
        assert picture.dtype == np.uint8
        assert tuple(picture[150, 100]) == tuple(picture[150, 300]) == colour
        assert (picture[120:180, 110:290] == 128).all()
    assert (GRAY == 128).all()


def test_score_map():
    """A wide image has its score map below, a high one beside; a cell is hot where it lies."""
    score_map = np.zeros((5, 10), np.float32)
    score_map[1, 7] = 1
    for picture, centre in (
        (draw_detections(GRAY, [], [], score_map, (0.5, 0.5)), (346 + 8 + 96, 480)),
        (draw_detections(GRAY.transpose(1, 0, 2), [], [], score_map.T, (0.5, 0.5)), (480, 320 + 8 + 96)),
    ):
        heat = picture.astype(int).sum(2)
        heat[:346, :320] = 0  # the image and its white caption
        heat[320:346] = heat[-26:] = 0
        place = np.unravel_index(heat.argmax(), heat.shape)
        np.testing.assert_allclose(place, centre, atol=8)


@pytest.mark.parametrize("shape", [(1, 1), (1, 3000), (300, 8000), (3000, 40), (30, 60), (2000, 3000)])
def test_sizes(shape):
    """Large images shrink, small ones grow, strips stay readable; outlines may leave them."""
    outline = np.float32([[-5, -5], [1e9, 0], [50, 60], [-1e9, 40]])
    picture = draw_detections(
        np.zeros((*shape, 3), np.uint8), [outline], [0.5], np.full((3, 4), np.nan, np.float32), (9, 9)
    )
    assert 200 < max(picture.shape) < 4200


def test_annotations():
    """Blue below what was found, gray where they don't count; without scores."""
    regions = [TextRegion(BOX + 200), TextRegion(np.add(BOX, (220, 0)), ignore=True), TextRegion(BOX)]
    picture = draw_detections(np.pad(GRAY, ((0, 160), (0, 0), (0, 0))), [BOX], [1.0], regions=regions)
    assert tuple(picture[350, 300]) == (70, 150, 255)
    assert tuple(picture[120, 520]) == (190, 190, 190)
    assert tuple(picture[150, 100]) == (40, 230, 90)


def texts_at(picture, box):
    """Whether anything is written in a box (left, top, right, bottom) of a gray picture."""
    left, top, right, bottom = box
    return bool((picture[top:bottom, left:right] == (20, 20, 20)).all(2).mean() > 0.2)


def test_words():
    """The text is above its word, in the colour of its score, and the word can be seen."""
    picture = draw_words(GRAY, [BOX], ["Fish"], [1.0])
    assert picture.shape[1] == 640
    assert picture.dtype == np.uint8
    assert (GRAY == 128).all()
    assert tuple(picture[150, 100]) == (40, 230, 90)
    assert (picture[106:194, 106:294] == 128).all()
    assert texts_at(picture, (102, 72, 140, 98))
    assert (picture[72:98, 102:140] == (40, 230, 90)).all(2).any()


def test_places_of_texts():
    """Below a word at the upper border, and away from other words and texts."""
    assert texts_at(draw_words(GRAY, [BOX - (0, 100)], ["Fish"], [1.0]), (102, 102, 140, 120))
    above = BOX - (0, 90)
    picture = draw_words(GRAY, [BOX, above], ["Fish", "Chips"], [1.0, 1.0])
    assert (picture[20:90, 106:294] == 128).all()  # the word above is seen
    assert texts_at(picture, (102, 202, 140, 220))
    everywhere = draw_words(GRAY, [BOX] * 4, ["one", "two", "three", "four"], [1.0] * 4)
    rows = (everywhere == (20, 20, 20)).all(2)[:320]
    assert rows[:98].any()
    assert rows[202:].any()
    assert rows[:, 302:].any()


def test_characters_of_texts():
    """Those that no font has are question marks, and nothing is a box; empty and endless texts do no harm."""
    assert (draw_words(GRAY, [BOX], ["café"], [1.0]) != draw_words(GRAY, [BOX], ["caf?"], [1.0])).any()
    assert choose_font("straße Ωμέγα 漢", 20)[0] == "straße Ωμέγα ?"
    assert choose_font("one\ntwo", 20)[0] == "one two"
    assert len(choose_font("a" * 1000, 20)[0]) == 60
    assert (draw_words(GRAY, [BOX], [""], [1.0])[:95] == 128).all()
    assert draw_words(np.zeros((1, 1, 3), np.uint8), [BOX * 1e6, BOX * 0], ["a" * 99, "b"], [0.0, 1.0]).ndim == 3
    assert draw_words(GRAY, [], [], []).shape[1] == 640
