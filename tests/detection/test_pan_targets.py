"""PAN's targets: the original's maps, a hand-made image, and polygons that are hard to draw."""

import cv2
import numpy as np
import pytest
from absl import logging

from tcm_jax.detection.pan import PAN
from tests.conftest import read_json


def square(x: float, y: float, side: float) -> np.ndarray:
    return np.array([[x, y], [x + side, y], [x + side, y + side], [x, y + side]], np.float32)


def leaves(polygons: list[np.ndarray], height: int, width: int) -> bool:
    points = np.concatenate([*polygons, np.zeros((1, 2))])
    return bool((points < 0).any() or (points >= (width, height)).any())


def test_targets_equal_the_original(detection_golden):
    folder = detection_golden / "targets"
    config, data = read_json(folder / "config.json"), read_json(folder / "polygons.json")
    size = data["height"], data["width"]
    with np.load(folder / "outputs_db_pan.npz") as golden:
        for name, layout in data["layouts"].items():
            text, ignored = ([np.float32(p).reshape(-1, 2) for p in layout[kind]] for kind in ("text", "ignore"))
            allowed = 16 if leaves(text + ignored, *size) else 2  # pixels, between OpenCV's generations
            for variant, ratios in config["pan"]["shrink_ratio"].items():
                pan = PAN(shrink_ratios=tuple(ratios), max_shrink=config["pan"]["max_shrink"])
                targets = pan.targets(text, ignored, size)
                kernels, mask = (golden[f"{name}__pan_{variant}__{key}"] for key in ("gt_kernels", "gt_mask"))
                assert targets["gt_kernels"].shape == kernels.shape and targets["gt_mask"].shape == mask.shape
                for ours, theirs in zip([*targets["gt_kernels"], targets["gt_mask"]], [*kernels, mask], strict=True):
                    assert (ours != theirs).sum() <= allowed, f"{name} {variant}"


def test_a_square_is_drawn_with_its_outline_and_its_kernel_is_smaller():
    targets = PAN().targets([square(2, 3, 40), square(60, 10, 4)], [square(50, 50, 5)], (64, 96))
    whole, kernels = targets["gt_kernels"]
    expected = np.zeros((64, 96), np.uint8)
    expected[3:44, 2:43], expected[10:15, 60:65] = 1, 2
    np.testing.assert_array_equal(whole, expected)
    # 1600 (1 - 0.25) / (160 + 0.001) is just below 7.5: 7 pixels; 16 (1 - 0.25) / (16 + 0.001): 1 pixel
    inner = np.zeros((64, 96), np.uint8)
    inner[10:37, 9:36] = 1
    inner[11:14, 61:64] = 2
    np.testing.assert_array_equal(kernels, inner)
    assert (targets["gt_mask"] == 0).sum() == 36 and targets["gt_mask"][50, 50] == 0


def test_no_outline_moves_more_than_the_limit():
    kernels = PAN(max_shrink=5).targets([square(0, 0, 200)], [], (224, 224))["gt_kernels"][1]
    assert cv2.boundingRect(kernels) == (5, 5, 191, 191)


BOW_TIE = np.array([[10, 10], [50, 40], [50, 10], [10, 40]], np.float32)


@pytest.mark.parametrize(
    "polygon, visible",
    [
        (square(200, 200, 10), False),  # outside the image
        (square(-20, -20, 60), True),  # partly outside
        (np.array([[1e9, 1e9], [-1e9, 5], [3, 1e12]], np.float32), None),
        (np.full((4, 2), np.nan, np.float32), False),
        (np.full((4, 2), 7, np.float32), None),  # a point
        (np.array([[5, 5], [30, 5]], np.float32), None),  # a line
        (np.zeros((0, 2), np.float32), False),
        (BOW_TIE, True),  # crosses itself
    ],
)
def test_broken_polygons_do_no_harm_to_others(polygon, visible):
    alone = PAN().targets([polygon], [polygon], (64, 96))
    if visible is not None:
        assert (alone["gt_kernels"][0] > 0).any() == visible
    both = PAN().targets([polygon, square(60, 40, 20)], [], (64, 96))["gt_kernels"]
    assert (both[0, 40:61, 60:81] == 2).all() and (both[1] == 2).any()


def test_no_polygons():
    targets = PAN().targets([], [], (32, 64))
    assert not targets["gt_kernels"].any() and targets["gt_mask"].all()
    assert {name: (x.dtype, x.shape) for name, x in targets.items()} == {
        "gt_kernels": (np.uint8, (2, 32, 64)),
        "gt_mask": (np.uint8, (32, 64)),
    }


def test_instances_beyond_the_limit_stay_text_and_are_counted(monkeypatch):
    warnings = []
    monkeypatch.setattr(logging, "warning", lambda message, *values: warnings.append(message % values))
    words = [square(12 * i, 4, 8) for i in range(5)]
    whole = PAN(max_instances=3).targets(words, [], (32, 64))["gt_kernels"][0]
    assert [whole[8, 12 * i + 4] for i in range(5)] == [1, 2, 3, 4, 4]
    assert warnings == ["2 of 5 instances of an image are more than max_instances"]


def test_many_instances_need_more_bits():
    words = [square(8 * (i % 20), 8 * (i // 20), 5) for i in range(300)]
    whole = PAN(max_instances=1000).targets(words, [], (160, 160))["gt_kernels"][0]
    assert whole.dtype == np.uint16 and set(np.unique(whole)) == set(range(301))
