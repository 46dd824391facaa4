"""Views of images: geometry and colours by hand, cuts between text, and regions that are hard to place."""

import pickle

import cv2
import numpy as np
import pytest

from tcm_jax.data.scenes.augment import DetectionAugment
from tcm_jax.data.scenes.samples import DetectionSample
from tcm_jax.detection.db import DBNet
from tcm_jax.detection.polygons import area
from tcm_jax.records import AnnotatedImage, TextRegion

FILL = (123, 117, 104)
NO_COLOURS = {"brightness": 0.0, "saturation": 0.0}
STILL = {"flip": 0.0, "rotation": 0.0, "scale": (9.0, 9.0), "tries": 0, **NO_COLOURS}


def still(**changes) -> DetectionAugment:
    """Shows the whole image as it is, but for `changes`."""
    return DetectionAugment(**{"crop": 96, **STILL, **changes})


def region(left, top, right, bottom, ignore=False) -> TextRegion:
    return TextRegion(np.array([[left, top], [right, top], [right, bottom], [left, bottom]], np.float32), "", ignore)


def noise(h: int, w: int) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (h, w, 3), np.uint8)


def seeded(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


def test_the_whole_image_above_a_border():
    image = noise(64, 96)
    regions = [region(10, 20, 50, 40), region(60, 0, 99, 9, ignore=True)]
    view, polygons, ignored = still()(image, regions, seeded())
    np.testing.assert_array_equal(view[:64], image)
    assert (view[64:] == FILL).all()
    assert view.dtype == np.uint8
    assert view.shape == (96, 96, 3)
    assert [p.tolist() for p in polygons] == [[[10, 20], [50, 20], [50, 40], [10, 40]]]
    assert [p.tolist() for p in ignored] == [[[60, 0], [99, 0], [99, 9], [60, 9]]]  # not clipped
    assert polygons[0].dtype == ignored[0].dtype == np.float32


def test_a_tall_image_beside_a_border_of_any_colour():
    view, polygons, _ = still(fill=(1.4, 2.6, 250))(noise(192, 64), [region(10, 20, 50, 40)], seeded())
    assert (view[:, 32:] == (1, 3, 250)).all()
    assert polygons[0].tolist() == [[5, 10], [25, 10], [25, 20], [5, 20]]


def test_a_flip():
    image = noise(64, 96)
    view, polygons, _ = still(flip=1.0)(image, [region(10, 20, 50, 40)], seeded())
    np.testing.assert_array_equal(view[:64], image[:, ::-1])
    assert polygons[0].tolist() == [[86, 20], [46, 20], [46, 40], [86, 40]]


def test_a_rotation_is_around_the_centre():
    image, below = np.zeros((96, 96, 3), np.uint8), region(40, 60, 56, 64)  # 14 pixels below the centre
    angles = []
    for seed in range(40):
        view, (polygon,), _ = still(rotation=30.0)(image, [below], seeded(seed))
        right, down = polygon[1] - polygon[0]
        angle = np.arctan2(down, right)
        assert np.hypot(right, down) == pytest.approx(16, rel=1e-5)
        np.testing.assert_allclose(polygon.mean(0) - 48, [-14 * np.sin(angle), 14 * np.cos(angle)], atol=1e-4)
        if abs(angle) > 0.1:
            assert (view[[0, 0, -1, -1], [0, -1, 0, -1]] == FILL).all()
        angles.append(np.degrees(angle))
    assert -30 < min(angles) < -15
    assert 15 < max(angles) < 30


@pytest.mark.parametrize("widen", [False, True])
def test_polygons_lie_on_their_text(widen):
    """White text in a black view has the area and the centre of the polygons, and no cut goes through it."""
    boxes = [(100, 40, 180, 70), (170, 120, 210, 135), (110, 150, 130, 160)]
    image = np.zeros((200, 300, 3), np.uint8)
    for left, top, right, bottom in boxes:
        image[top:bottom, left:right] = 255
    make, counts = DetectionAugment(crop=320, widen=widen, fill=(0, 0, 0), **NO_COLOURS), set()
    for seed in range(60):
        view, polygons, _ = make(image, [region(*box) for box in boxes], seeded(seed))
        areas = np.array([area(polygon) for polygon in polygons])
        center = areas @ [polygon.mean(0) for polygon in polygons] / areas.sum()
        light = view[..., 0] / 255
        total = light.sum()
        assert total == pytest.approx(areas.sum(), rel=0.02)
        x, y = np.arange(320) + 0.5, np.arange(320)[:, None] + 0.5
        np.testing.assert_allclose([(light * x).sum() / total, (light * y).sum() / total], center, atol=0.3)
        assert all(polygon.min() >= 0 and polygon.max() <= 320 for polygon in polygons)
        counts.add(len(polygons))
    assert counts == {1, 2, 3}


def test_a_cut_is_resized_to_the_view_with_its_ratio_kept():
    image, square = noise(100, 200), region(90, 40, 110, 60)
    make, zooms = still(tries=10, crop=320), []
    for seed in range(60):
        view, (polygon,), _ = make(image, [square], seeded(seed))
        width, height = np.ptp(polygon, axis=0)
        assert width == pytest.approx(height)
        inside = (view != FILL).any(2)
        columns, rows = inside.any(0).sum(), inside.any(1).sum()
        assert max(columns, rows) == 320
        assert min(columns / 200, rows / 100) >= 0.1 * width / 20 - 0.01  # at least a tenth of each side
        zooms.append(width / 20)
    assert min(zooms) < 2
    assert max(zooms) > 5


def test_widening_shows_more_at_the_same_size():
    image, square = noise(100, 100), region(40, 60, 60, 80)
    narrow, wide = ([still(tries=10, widen=widen)(image, [square], seeded(i)) for i in range(60)] for widen in (0, 1))
    for (_, (before,), _), (_, (after,), _) in zip(narrow, wide, strict=True):
        np.testing.assert_allclose(np.ptp(before, axis=0), np.ptp(after, axis=0), rtol=1e-4)
        assert after.min() > -1e-3
        assert after.max() < 96.001
    border = [np.mean([(view == FILL).all(2).mean() for view, _, _ in views]) for views in (narrow, wide)]
    assert border[1] < 0.5 * border[0]


def test_where_a_cut_can_be():
    image = np.zeros((100, 100, 3), np.uint8)
    make = still(tries=10, crop=32)

    def zooms(*regions):
        """Of all views, how large a square of ignored text in the image's middle is compared with the whole image."""
        probe = region(49, 49, 51, 51, ignore=True)
        found = [make(image, [*regions, probe], seeded(seed))[2] for seed in range(30)]
        return [np.ptp(ignored[0], axis=0)[0] / 0.64 for ignored in found if ignored]

    full_width = region(0, 40, 100, 60)
    assert zooms(full_width) == pytest.approx([1] * 30)  # no column is free: the whole image
    assert max(zooms(region(45, 45, 55, 55))) > 1.5  # between the text and the borders
    assert max(zooms()) > 1.5  # an image without text that counts, wherever its ignored text is
    assert max(zooms(region(-50, -50, -10, 150))) > 1.5  # text beside the image takes no room


def test_text_beside_the_cut_is_left_out():
    image, left, right = np.zeros((100, 200, 3), np.uint8), region(10, 40, 30, 60), region(170, 40, 190, 60, True)
    found = [still(tries=10)(image, [left, right], seeded(seed))[1:] for seed in range(60)]
    assert {(len(polygons), len(ignored)) for polygons, ignored in found} == {(1, 0), (1, 1)}


def test_colours():
    grey = np.full((96, 96, 3), 100, np.uint8)
    noisy = noise(96, 96) // 2 + 40  # far from 0 and 255
    luma = noisy @ [0.299, 0.587, 0.114]
    lights = []
    for seed in range(40):
        view, _, _ = still(brightness=0.2)(grey, [], seeded(seed))
        assert (view == view[0, 0, 0]).all()
        lights.append(int(view[0, 0, 0]))
        view, _, _ = still(saturation=0.5)(grey, [], seeded(seed))
        assert (view == 100).all()
        view, _, _ = still(contrast=0.5)(grey, [], seeded(seed))
        assert (view == 100).all()
    assert 80 <= min(lights) < 88
    assert 112 < max(lights) <= 120

    view, _, _ = still(saturation=0.5)(noisy, [], seeded())
    np.testing.assert_allclose(view @ [0.299, 0.587, 0.114], luma, atol=1)
    factor = np.std(view - luma[..., None]) / np.std(noisy - luma[..., None])
    assert 0.5 <= factor <= 1.5
    assert abs(factor - 1) > 0.02
    view, _, _ = still(contrast=0.5)(noisy, [], seeded())
    assert (view @ [0.299, 0.587, 0.114]).mean() == pytest.approx(luma.mean(), abs=0.5)
    assert abs(view.std() / noisy.std() - 1) > 0.02


def test_the_border_keeps_its_colour():
    view, _, _ = still(brightness=0.9)(noise(48, 96), [], seeded(1))
    assert (view[48:] == FILL).all()


def test_a_smaller_scale_leaves_less_detail():
    image = noise(96, 96)
    half, polygons, _ = still(scale=(0.5, 0.5))(image, [region(10, 20, 50, 40)], seeded())
    expected = cv2.resize(cv2.resize(image, (48, 48)), (96, 96))
    np.testing.assert_allclose(half.astype(int), expected, atol=2)
    assert polygons[0].tolist() == [[10, 20], [50, 20], [50, 40], [10, 40]]
    np.testing.assert_array_equal(still(scale=(1.0, 3.0))(image, [], seeded())[0], image)


HARD = {
    "triangle": [[10, 10], [60, 12], [30, 40]],
    "crossing": [[10, 10], [60, 40], [60, 10], [10, 40]],
    "outside": [[-500, -500], [-400, -500], [-400, -450]],
    "half outside": [[-50, 10], [30, 10], [30, 40], [-50, 40]],
    "around the photo": [[-10, -10], [500, -10], [500, 500], [-10, 500]],
    "a line": [[10, 10], [60, 10], [30, 10]],
    "a point": [[10, 10]] * 4,
    "not a number": [[np.nan, 10], [60, 10], [60, 40], [10, np.nan]],
    "far away": [[1e9, 1e9], [2e9, 1e9], [2e9, 2e9]],
}


@pytest.mark.parametrize("name", HARD)
@pytest.mark.parametrize("ignore", [False, True])
def test_hard_regions(name, ignore):
    regions = [TextRegion(np.array(HARD[name], np.float32), "", ignore), region(20, 50, 60, 60)]
    image, sample = noise(72, 128), DetectionSample(DBNet().targets, DetectionAugment(crop=64))
    for widen in (False, True):
        make = DetectionAugment(crop=64, widen=widen)
        for seed in range(20):
            view, polygons, ignored = make(image, regions, seeded(seed))
            assert view.shape == (64, 64, 3)
            assert all(np.isfinite(p).all() for p in polygons + ignored)
            if name in ("outside", "not a number", "far away"):
                assert len(polygons) + len(ignored) <= 1
    assert sample(AnnotatedImage(image, tuple(regions), name), image, seeded())["image"].shape == (64, 64, 3)


@pytest.mark.parametrize("shape", [(1, 1), (1, 9), (9, 1), (2, 900), (40_000, 40)])
def test_images_of_any_size(shape):
    image = noise(*shape)
    for seed in range(10):
        for regions in ([], [region(0, 0, shape[1] / 2, shape[0] / 2)]):
            view, _, _ = DetectionAugment(crop=64, rotation=90)(image, regions, seeded(seed))
            assert view.shape == (64, 64, 3)


def test_equal_generators_give_equal_views_and_the_image_is_kept():
    image, regions = noise(72, 128), [region(20, 50, 60, 60)]
    kept, make = image.copy(), DetectionAugment(crop=64)
    for seed in range(10):
        first, second = (make(image, regions, seeded(seed)) for _ in range(2))
        np.testing.assert_array_equal(first[0], second[0])
        np.testing.assert_array_equal(first[1], second[1])
        first[0][:] = 0
        np.testing.assert_array_equal(image, kept)
    assert regions[0].polygon.tolist() == region(20, 50, 60, 60).polygon.tolist()


def test_a_sample_has_the_targets_of_its_view():
    image = np.zeros((96, 96, 3), np.uint8)
    regions = (region(20, 20, 60, 40), region(20, 60, 60, 80, ignore=True))
    sample = pickle.loads(pickle.dumps(DetectionSample(DBNet().targets, still())))
    arrays = sample(AnnotatedImage(image, regions, "photo"), image, seeded())
    assert arrays["image"].shape == (96, 96, 3)
    assert arrays["gt_shrink"][30, 40] == 1
    assert arrays["gt_shrink"][70, 40] == 0
    assert arrays["gt_shrink_mask"][30, 40] == 1
    assert arrays["gt_shrink_mask"][70, 40] == 0
    example = sample.example()
    assert {k: (v.shape, v.dtype) for k, v in example.items()} == {k: (v.shape, v.dtype) for k, v in arrays.items()}


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"crop": 100}, "crop 100; expected a positive multiple of 32"),
        ({"crop": 0}, "crop 0"),
        ({"scale": (3.0, 0.5)}, "scale"),
        ({"scale": (0.0, 1.0)}, "scale"),
        ({"flip": 1.5}, "flip 1.5; expected 0 .. 1"),
        ({"min_side": -0.1}, "min_side -0.1"),
    ],
)
def test_impossible_settings(changes, message):
    with pytest.raises(ValueError, match=message.replace("(", r"\(")):
        DetectionAugment(**changes)
