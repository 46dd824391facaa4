"""PAN's instances: the original's numbers, a queue written out, and maps that no network should give."""

import re
from collections import deque

import cv2
import numpy as np
import pytest

from tcm_jax.detection.pan.decoding import PANDecoding, aggregate
from tcm_jax.detection.polygons import polygon_iou
from tests.conftest import channels_last, read_json
from tests.golden_detectors import arrays

OPENCV = tuple(int(part) for part in cv2.__version__.split(".")[:2])


def golden_maps(array: np.ndarray) -> np.ndarray:
    """Maps of the fixture, [h, w, 6]; logits are stored as sixteenths, embeddings as parts of 32."""
    return channels_last(array).astype(np.float32) / np.float32([16, 16, 32, 32, 32, 32])


def golden_detector(folder, variant: str) -> PANDecoding:
    """The detector of a variant: "quad" or "poly", perhaps with "_conf07" for a threshold of 0.7."""
    values = read_json(folder / "config.json")["pan"]
    representation, digits = re.fullmatch(r"(quad|poly)(?:_conf(\d+))?", variant).groups()
    return PANDecoding(
        text_representation=representation,
        text_threshold=values["min_text_confidence"],
        kernel_threshold=values["min_kernel_confidence"],
        score_threshold=float(f"{digits[0]}.{digits[1:]}") if digits else values["min_text_avg_confidence"],
        min_area=values["min_text_area"],
    )


def test_instances_equal_the_original(detection_golden):
    folder = detection_golden / "postprocess"
    inputs = arrays(folder / "inputs.npz")
    golden = read_json(folder / ("outputs_pan.cv5.json" if OPENCV >= (4, 13) else "outputs_pan.json"))
    for key, expected in golden.items():
        name, variant = key.split("/")
        if variant.startswith("pixel_group"):
            continue
        maps = golden_maps(inputs[f"pan_{name}"])
        before = maps.copy()
        instances = golden_detector(folder, variant)(maps)
        np.testing.assert_array_equal(maps, before)
        assert len(instances) == len(expected), key
        for instance, (*polygon, score) in zip(instances, expected, strict=True):
            polygon = np.float32(polygon).reshape(-1, 2)
            assert instance.polygon.dtype == np.float32
            assert abs(instance.score - score) < 1e-4
            if variant.startswith("poly"):
                np.testing.assert_array_equal(instance.polygon / 4, polygon)
            else:
                assert polygon_iou(instance.polygon / 4, polygon) > 0.999


def test_pixel_groups_equal_the_original(detection_golden):
    folder = detection_golden / "postprocess"
    inputs, golden = arrays(folder / "inputs.npz"), read_json(folder / "outputs_pan.json")
    distance = read_json(folder / "config.json")["pan"]["min_text_avg_confidence"]
    names = [key.split("/")[0] for key in golden if key.endswith("pixel_group_count")]
    assert names
    for name in names:
        maps = golden_maps(inputs[f"pan_{name}"])
        text = inputs[f"pan_{name}__text_mask"] > 0
        labels = aggregate(text, inputs[f"pan_{name}__kernel_labels"] > 0, maps[..., 2:], distance)
        np.testing.assert_array_equal(labels, inputs[f"pan_{name}__pixel_group_labels"])
        assert np.bincount(labels[labels > 0]).tolist() == golden[f"{name}/pixel_group_count"]


def queue(text, kernel, embedding, distance):
    """What `aggregate` is defined by, pixel by pixel."""
    _, labels = cv2.connectedComponents(kernel.astype(np.uint8), connectivity=4)
    means = {i: embedding[labels == i].mean(0) for i in range(1, labels.max() + 1)}
    waiting = deque((y, x) for y, x in zip(*np.nonzero(labels), strict=True))
    while waiting:
        y, x = waiting.popleft()
        for v, u in ((y, x - 1), (y, x + 1), (y - 1, x), (y + 1, x)):
            if not (0 <= v < text.shape[0] and 0 <= u < text.shape[1]) or not text[v, u] or labels[v, u]:
                continue
            if np.square(embedding[v, u] - means[labels[y, x]]).sum() < distance**2:
                labels[v, u] = labels[y, x]
                waiting.append((v, u))
    return labels


@pytest.mark.parametrize("seed", range(8))
def test_aggregation_equals_a_queue(seed):
    rng = np.random.default_rng(seed)
    shape = rng.integers(1, 40, 2)
    text = rng.random(shape) < rng.choice([0.7, 0.95, 1.0])
    kernel = text & (rng.random(shape) < rng.choice([0.02, 0.1, 0.5]))
    embedding = (rng.normal(size=(*shape, 4)) * rng.choice([0.05, 0.4])).astype(np.float32)
    ours = aggregate(text, kernel, embedding, 0.85)
    np.testing.assert_array_equal(ours, queue(text, kernel, embedding, 0.85))
    assert ours.dtype == np.int32


def bounds(polygon: np.ndarray) -> list[float]:
    """Left, top, right and bottom, in pixels of the maps."""
    return np.round(np.concatenate([polygon.min(0), polygon.max(0)]) / 4, 3).tolist()


def test_where_two_instances_meet_the_first_in_the_queue_wins():
    text = np.ones((1, 5), bool)
    kernel = np.array([[True, False, False, False, True]])
    labels = aggregate(text, kernel, np.zeros((1, 5, 4), np.float32), 1.0)
    np.testing.assert_array_equal(labels, [[1, 1, 1, 2, 2]])
    embedding = np.zeros((1, 5, 4), np.float32)
    embedding[0, 2:] = 5  # nearer to the second
    np.testing.assert_array_equal(aggregate(text, kernel, embedding, 1.0), [[1, 1, 2, 2, 2]])


def word(maps: np.ndarray, x: int, y: int, w: int, h: int, embedding: float) -> None:
    """A word with a kernel 2 pixels inside."""
    maps[y : y + h, x : x + w, 0] = 6
    maps[y + 2 : y + h - 2, x + 2 : x + w - 2, 1] = 6
    maps[y : y + h, x : x + w, 2:] = embedding


def two_words() -> np.ndarray:
    maps = np.full((32, 48, 6), -6, np.float32)
    word(maps, 4, 5, 20, 8, 0.0)
    word(maps, 24, 5, 12, 8, 3.0)  # touches the first
    return maps


@pytest.mark.parametrize("representation", ["quad", "poly"])
def test_two_words_that_touch(representation):
    instances = PANDecoding(text_representation=representation)(two_words())
    assert [bounds(i.polygon) for i in instances] == [[4, 5, 23, 12], [24, 5, 35, 12]]
    np.testing.assert_allclose([i.score for i in instances], 1 / (1 + np.exp(-6)), rtol=1e-6)


def test_small_and_doubtful_instances_are_left_out():
    maps = two_words()
    assert len(PANDecoding(min_area=97)(maps)) == 1  # the second has 96 pixels
    assert PANDecoding(min_area=161)(maps) == []
    maps[5:13, 4:24, 0] = 1.5  # probability 0.82
    assert len(PANDecoding()(maps)) == 1


@pytest.mark.parametrize("representation", ["quad", "poly"])
def test_maps_that_no_network_should_give(representation):
    pan = PANDecoding(text_representation=representation)
    nothing = np.full((24, 40, 6), -20, np.float32)
    for maps in (nothing, nothing * np.inf, np.full_like(nothing, np.nan), np.zeros_like(nothing)):
        assert pan(maps) == []
    (whole,) = pan(np.full((24, 40, 6), 20, np.float32))
    assert bounds(whole.polygon) == [0, 0, 39, 23]
    for shape in ((1, 40, 6), (24, 1, 6), (1, 1, 6)):
        pan(np.full(shape, 20, np.float32))
    enormous = np.full((24, 40, 6), 1e38, np.float32)
    enormous[:, 20:, 2:] *= -1
    pan(enormous)


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_broken_pixels_are_background(value):
    maps = two_words()
    maps[8, 10, 0] = maps[8, 11, 1] = maps[8, 12, 4] = value
    instances = PANDecoding(min_area=96)(maps)
    assert [bounds(i.polygon) for i in instances] == [[4, 5, 23, 12], [24, 5, 35, 12]]
    assert len(PANDecoding(min_area=157)(maps)) == 1  # of the first word's 160 pixels 157 are left
    assert len(PANDecoding(min_area=158)(maps)) == 0
