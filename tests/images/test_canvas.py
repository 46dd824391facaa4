"""The resize, padding and canvases of images at test time."""

import csv

import numpy as np
import pytest

from tcm_jax.images.canvas import bucket_sizes, canvas_size, prepare, resized_size
from tests.conftest import compare, read_json

RELEASED = [
    (4068, 1024),
    (4068, 736),
    (2944, 800),
    (1333, 736),
    (3000, 640),
    (2260, 2260),
    (1080, 736),
    (1280, 960),
]


def test_sizes_of_the_original(detection_golden):
    """Every released pipeline with images of several sizes."""
    with open(detection_golden / "preprocess/sizes.tsv", encoding="utf-8") as file:
        for row in csv.DictReader(file, delimiter="\t"):
            pipeline = row.pop("pipeline")
            n = {key: float(value) for key, value in row.items()}
            scale = int(n["scale_long"]), int(n["scale_short"])
            size = resized_size((int(n["in_h"]), int(n["in_w"])), scale)
            assert size == (n["resized_h"], n["resized_w"]), pipeline
            assert canvas_size(size, scale, "exact") == (n["padded_h"], n["padded_w"]), pipeline
            factors = np.float32([size[1] / n["in_w"], size[0] / n["in_h"]])
            np.testing.assert_allclose(factors, [n["w_scale"], n["h_scale"]], rtol=1e-7)


def test_pixels_of_the_original(detection_golden):
    folder = detection_golden / "preprocess"
    config = read_json(folder / "config.json")
    inputs, outputs = np.load(folder / "inputs.npz"), np.load(folder / "outputs.npz")
    for name, case in config["cases"].items():
        prepared = prepare(inputs[f"bgr_{name}"][..., ::-1], tuple(case["img_scale"]), "exact")
        h, w = prepared.size
        assert [h, w] == case["resized"]
        assert list(prepared.canvas.shape[:2]) == case["padded"]
        np.testing.assert_array_equal(prepared.canvas[:h, :w, ::-1], outputs[f"{name}_resized_bgr"])
        assert not prepared.canvas[h:].any()
        assert not prepared.canvas[:, w:].any()
        compare(name, np.tile(prepared.scale, 2), case["scale_factor"], 1e-7)
        assert prepared.scale.dtype == np.float32


@pytest.mark.parametrize("scale", [*RELEASED, (640, 640), (96, 32), (33, 20), (1, 1)])
def test_buckets_hold_every_image(scale):
    buckets = bucket_sizes(scale)
    assert len(buckets) <= 40
    assert set(buckets) == {(w, h) for h, w in buckets}  # both orientations
    assert all(side % 32 == 0 and 32 <= side <= max(scale) + 31 for size in buckets for side in size)
    assert max(h * w for h, w in buckets) <= (max(scale) + 31) * (min(scale) + 31)  # bounded memory
    for height, width in np.random.default_rng(0).integers(1, 9000, (300, 2)):
        size = resized_size((height, width), scale)
        canvas = canvas_size(size, scale)
        assert canvas in buckets
        assert canvas[0] >= size[0]
        assert canvas[1] >= size[1]


@pytest.mark.parametrize("scale", RELEASED)
def test_common_images_are_padded_as_in_the_original(scale):
    """... and images of other ratios up to 2 get a third more pixels at worst, a tenth on average."""
    for height, width in [
        (3000, 4000),
        (4000, 3000),
        (720, 1280),
        (1080, 1920),
        (2000, 3000),
        (1024, 1280),
        (500, 500),
    ]:
        size = resized_size((height, width), scale)
        assert canvas_size(size, scale) == canvas_size(size, scale, "exact")
    waste = []
    for width in range(1000, 2000, 7):
        size = resized_size((1000, width), scale)
        (h, w), (exact_h, exact_w) = canvas_size(size, scale), canvas_size(size, scale, "exact")
        waste.append(h * w / (exact_h * exact_w))
    assert max(waste) < 1.34
    assert np.mean(waste) < 1.1


@pytest.mark.parametrize(
    ("shape", "size", "canvas"),
    [
        ((1, 1), (736, 736), (736, 736)),
        ((300, 8000), (50, 1333), (64, 1344)),
        ((8000, 300), (1333, 50), (1344, 64)),
        ((1, 5000), (1, 1333), (32, 1344)),  # the original has 0 rows here and fails
        ((720, 1280), (736, 1308), (736, 1312)),
    ],
)
def test_extreme_images(shape, size, canvas):
    prepared = prepare(np.full((*shape, 3), 9, np.uint8), (1333, 736))
    assert prepared.size == size
    assert prepared.canvas.shape == (*canvas, 3)
    assert (prepared.canvas[: size[0], : size[1]] == 9).all()
    np.testing.assert_allclose(prepared.scale, (size[1] / shape[1], size[0] / shape[0]), rtol=1e-6)


def test_points_go_back_to_the_image():
    """A white dot is found where it was."""
    image = np.zeros((100, 150, 3), np.uint8)
    image[60:64, 120:124] = 255
    prepared = prepare(image, (320, 200))
    ys, xs = np.nonzero(prepared.canvas[..., 0] > 127)
    np.testing.assert_allclose((np.array([xs.mean(), ys.mean()]) + 0.5) / prepared.scale, (122, 62), atol=0.3)
    assert prepared.size == (200, 300)
