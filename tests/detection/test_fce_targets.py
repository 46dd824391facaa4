"""FCENet's targets: against the original, by hand, and for broken polygons."""

import math

import numpy as np
import pytest

from tcm_jax.detection.fce import FCENet
from tcm_jax.detection.fce.decoding import STRIDES
from tcm_jax.detection.fce.targets import center_pieces, fourier_signature, sidelines
from tests.conftest import channels_last, compare, read_json

SIZE = (64, 96)


def box(left: float, top: float, right: float, bottom: float) -> np.ndarray:
    return np.array([[left, top], [right, top], [right, bottom], [left, bottom]], np.float32)


def test_targets_are_the_originals(detection_golden):
    """All but at most two pixels of a map (16 where a text leaves the image), whatever OpenCV's generation."""
    config = read_json(detection_golden / "targets/config.json")
    expected = np.load(detection_golden / "targets/outputs_fce.npz")
    layouts = read_json(detection_golden / "targets/polygons.json")["layouts"]
    values, size = config["fce"], (config["height"], config["width"])
    assert tuple(values["level_size_divisors"]) == STRIDES
    assert layouts and values["level_proportion_range"]
    for variant, ranges in values["level_proportion_range"].items():
        detector = FCENet(
            level_ranges=ranges,
            fourier_degree=values["fourier_degree"],
            resample_step=values["resample_step"],
            center_ratio=values["center_region_shrink_ratio"],
        )
        for layout, polygons in layouts.items():
            texts, ignored = ([np.array(p).reshape(-1, 2) for p in polygons[kind]] for kind in ("text", "ignore"))
            outside = any((p < 0).any() or (p >= size[::-1]).any() for p in texts + ignored)
            targets = detector.targets(texts, ignored, size)
            assert len(targets) == 4
            for name, ours in targets.items():
                theirs = channels_last(expected[f"{layout}__fce_{variant}__{name}"])
                assert ours.shape == theirs.shape and ours.dtype == np.float32
                different = (np.abs(ours - theirs) > 1e-4 * np.maximum(np.abs(theirs), 1)).any(-1).sum()
                assert different <= (16 if outside else 2), f"{layout} {variant} {name}: {different} pixels"


def test_signatures_are_the_originals(detection_golden):
    degree = read_json(detection_golden / "targets/config.json")["fce"]["fourier_degree"]
    for layout, polygons in read_json(detection_golden / "targets/polygons.json")["layouts"].items():
        for i, (polygon, expected) in enumerate(zip(polygons["text"], polygons["fourier_signature"], strict=True)):
            ours = fourier_signature(np.array(polygon).reshape(-1, 2), degree)
            compare(f"{layout} {i}", np.stack([ours.real, ours.imag], 1), expected, 1e-5)


@pytest.mark.parametrize("direction", [1, -1])
def test_signature_of_a_circle(direction):
    """Center, and radius times the phase of the start, here the top; the same for both directions."""
    angle = direction * 2 * math.pi * np.arange(41) / 41
    circle = np.stack([50 + 10 * np.cos(angle), 20 + 10 * np.sin(angle)], axis=1)
    c = fourier_signature(circle, 3)
    assert abs(c[3] - (50 + 20j)) < 1e-4
    assert abs(c[4] - -10j) < 0.3  # one of the eight samples around the top
    assert abs(c[[0, 1, 2, 5, 6]]).max() < 0.1


def test_one_box_by_hand():
    """80 x 32 in an image that is 64 high: above every limit of the levels, but 48 x 16 is 49 / 64 = 0.77 of it."""
    targets = FCENet().targets([box(16, 16, 64, 32)], [box(0, 48, 40, 56)], SIZE)
    assert [maps.shape for maps in targets.values()] == [(8, 12, 25), (4, 6, 25), (2, 3, 25), (2, 3, 25)]
    assert not targets["p3_maps"][..., 0].any() and not targets["p4_maps"][..., 0].any()
    assert targets["p5_maps"][..., 0].tolist() == [[1, 1, 1], [1, 1, 1]]  # outlines belong to the region
    # 41 / 64 = 0.64 is ignored at strides 16 and 32, too
    assert (targets["p3_maps"][..., 2] == 1).all()
    assert targets["p4_maps"][..., 2].tolist() == [[1] * 6, [1] * 6, [1] * 6, [0, 0, 0, 1, 1, 1]]
    # The center is at (40, 24), that is (1.25, 0.75) here, relative to every pixel.
    k = 5
    assert np.allclose(targets["p5_maps"][0, :, 3 + k], [1.25, 0.25, -0.75], atol=0.01)
    assert np.allclose(targets["p5_maps"][:, 0, 3 + 11 + k], [0.75, -0.25], atol=0.01)


def test_center_region_by_hand():
    """Height 8 around y = 8, 0.3 of it is 6.8..9.2; without a quarter of the height (2, none of a step) at the ends."""
    top, bottom = np.array([[0.0, 4.0], [8.0, 4.0]]), np.array([[8.0, 12.0], [0.0, 12.0]])
    pieces = center_pieces(top, bottom, step=4.0, ratio=0.3)
    assert pieces.tolist() == [[[0, 6], [4, 6], [4, 9], [0, 9]], [[4, 6], [8, 6], [8, 9], [4, 9]]]
    assert len(center_pieces(top, bottom, step=1.0, ratio=0.3)) == 8 - 2 * 2


def test_long_sides_by_hand():
    flat = box(0, 0, 30, 10)
    assert [side.tolist() for side in sidelines(flat)] == [[[0, 0], [30, 0]], [[30, 10], [0, 10]]]
    upright = box(0, 0, 10, 30)  # vertical text: its lines run from end to end too
    assert sorted(side[:, 0].mean() for side in sidelines(upright)) == [0, 10]
    curved = np.array([[0, 10], [20, 0], [40, 0], [60, 10], [60, 20], [40, 10], [20, 10], [0, 20]], np.float32)
    assert [side.tolist() for side in sidelines(curved)] == [curved[:4].tolist(), curved[4:].tolist()]


def test_later_texts_cover_earlier_ones():
    first, second = box(0, 0, 40, 20), box(24, 0, 64, 20)
    both, only = (FCENet().targets(texts, [], SIZE)["matching_maps"] for texts in ([first, second], [second]))
    covered = only[..., 0] == 1
    assert covered.any() and np.array_equal(both[covered][:, 3:], only[covered][:, 3:])


BROKEN = {
    "triangle": [[10, 10], [40, 10], [25, 30]],
    "two points": [[10, 10], [40, 10]],
    "none": np.zeros((0, 2)),
    "one place": [[10, 10]] * 4,
    "nan": [[10, 10], [40, math.nan], [40, 30], [10, 30]],
    "infinite": [[10, 10], [math.inf, 10], [40, 30], [10, 30]],
    "far away": [[1e30, 1e30], [2e30, 1e30], [2e30, 2e30], [1e30, 2e30]],
    "flat line": [[10, 10], [40, 10], [40, 10], [10, 10]],
    "bow tie": [[10, 10], [40, 30], [40, 10], [10, 30]],
    "repeated": [[10, 10], [10, 10], [40, 10], [40, 10], [40, 30], [10, 30]],
    "five equal sides": [[30, 10], [40, 20], [35, 30], [25, 30], [20, 20]],
    "outside": [[-500, -500], [-480, -500], [-480, -490], [-500, -490]],
    "many corners": [[30 + 15 * math.cos(i / 80), 30 + 15 * math.sin(i / 80)] for i in range(503)],
}


@pytest.mark.parametrize("name", BROKEN)
def test_broken_polygons(name):
    polygon = np.array(BROKEN[name], np.float32)
    for texts, ignored in (([polygon], []), ([], [polygon]), ([polygon, box(50, 40, 80, 50)], [polygon])):
        for maps in FCENet().targets(texts, ignored, SIZE).values():
            assert np.isfinite(maps).all()
            assert np.isin(maps[..., :3], (0, 1)).all()


def test_what_has_no_sides_is_ignored():
    targets = FCENet().targets([np.array(BROKEN["triangle"], np.float32)], [], SIZE)["matching_maps"]
    assert not targets[..., :2].any() and targets[0, 0, 2] == 0 and not targets[..., 3:].any()


def test_no_polygons():
    for maps in FCENet().targets([], [], SIZE).values():
        assert not maps[..., [0, 1, *range(3, 25)]].any() and (maps[..., 2] == 1).all()
