"""Detections at several scales as one, and the smaller copies of a photo."""

import numpy as np
import pytest

from tcm_jax import Detector
from tcm_jax.detection.interface import Instance
from tcm_jax.detection.multi_scale import MIN_SIDE, merged
from tcm_jax.pretrained import load
from tests.tiny_detector import write_tiny_detector


def box(x, y, w, h, score=0.9):
    return Instance(np.array([[x, y], [x + w, y], [x + w, y + h], [x, y + h]], np.float32), score)


LARGE = box(100, 100, 400, 100)  # a word in letters of 100 pixels


@pytest.mark.parametrize(
    ("fine", "kept"),
    [
        ([], []),
        ([box(0, 0, 60, 20)], [0]),  # another word
        ([box(110, 110, 50, 80), box(300, 110, 50, 80), box(0, 0, 60, 20)], [2]),  # two of its letters, another word
        ([box(0, 0, 60, 20), box(105, 95, 400, 90)], [0]),  # another word, the same
    ],
    ids=["nothing", "another word", "letters", "the same word"],
)
def test_a_large_word_comes_where_there_is_nothing_or_in_place_of_its_letters_and_of_itself(fine, kept):
    assert merged(fine, [LARGE], 30) == [*(fine[i] for i in kept), LARGE]


@pytest.mark.parametrize(
    "fine",
    [
        [box(100, 100, 180, 100), box(300, 100, 200, 100)],
        [box(60, 60, 200, 200)],
        [box(105, 95, 250, 90), box(400, 60, 200, 200)],
    ],
    ids=["two words that fill it", "a word that it cuts", "the same word, and one that it cuts"],
)
def test_what_the_large_copy_shows_stays(fine):
    assert merged(fine, [LARGE], 30) == fine


def test_small_and_empty_polygons_of_the_small_copy_do_not_count():
    line = Instance(np.array([[0, 0], [50, 50], [100, 100]], np.float32), 0.9)
    assert merged([], [LARGE, line], 101) == [] and merged([], [line], 0) == []


def test_polygons_that_cross_themselves():
    bow = Instance(np.array([[150, 110], [200, 160], [200, 110], [150, 160]], np.float32), 0.9)
    assert merged([bow], [LARGE], 30) == [LARGE] and merged([], [bow], 30) == [bow]


def test_a_detector_with_coarse_scales_looks_again(tmp_path):
    write_tiny_detector(tmp_path / "one")
    model = load(tmp_path / "one")
    model.inference["coarse_scales"] = [[96, 48], [64, 32]]
    model.save(tmp_path / "three")
    photo = np.random.default_rng(0).integers(0, 256, (96, 160, 3), np.uint8)
    thrice = Detector(tmp_path / "three", quiet=True)
    scales = (None, (96, 48), (64, 32))
    fine, *coarse = (Detector(tmp_path / "one", scale=scale, quiet=True).detect(photo) for scale in scales)
    expected = fine.instances
    for one in coarse:
        assert one.instances
        expected = merged(expected, one.instances, MIN_SIDE / float(one.scale.min()))
    found = thrice.detect(photo)
    assert len(expected) == len(found.instances)
    for a, b in zip(expected, found.instances, strict=True):
        np.testing.assert_array_equal(a.polygon, b.polygon)
    np.testing.assert_array_equal(found.scale, fine.scale)
    np.testing.assert_array_equal(found.score_map, fine.score_map)
    assert str(thrice.options).endswith("at most 192 pixels long; for large words also 96 x 48 and 64 x 32")
    # Who asks for a scale gets it alone.
    assert Detector(tmp_path / "three", scale=(192, 96), quiet=True).options.scales == [(192, 96)]
