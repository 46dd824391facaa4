"""DB's targets: the original's maps, distances by hand, and polygons that are hard to draw."""

import numpy as np
import pytest

from tcm_jax.detection import polygons as geometry
from tcm_jax.detection.db.targets import db_targets, outline_distance
from tests.conftest import compare, read_json

RULES = {"shrink_ratio": 0.4, "threshold_min": 0.3, "threshold_max": 0.7, "min_short_size": 8}


def targets(polygons, ignored=(), size=(64, 96), **changes):
    return db_targets(polygons, ignored, size, **(RULES | changes))


def rectangle(left, top, right, bottom):
    return np.array([[left, top], [right, top], [right, bottom], [left, bottom]], np.float32)


def golden_layouts(folder):
    """Name, texts, ignored regions and the quantities of each text, of every layout."""
    for name, layout in read_json(folder / "polygons.json")["layouts"].items():
        text, ignored = ([np.float32(p).reshape(-1, 2) for p in layout[kind]] for kind in ("text", "ignore"))
        yield name, text, ignored, layout["db_per_polygon"]


def leaves(polygons, height, width):
    points = np.concatenate([*polygons, np.zeros((1, 2))])
    return bool((points < 0).any() or (points >= (width, height)).any())


def test_maps_equal_the_original(detection_golden):
    folder = detection_golden / "targets"
    rules = read_json(folder / "config.json")["db"]
    rules = {name.replace("thr_", "threshold_"): value for name, value in rules.items()}
    with np.load(folder / "outputs_db_pan.npz") as golden:
        for name, text, ignored, _ in golden_layouts(folder):
            expected = {key: golden[f"{name}__db__{key}"] for key in ("gt_shrink", "gt_shrink_mask", "gt_thr_mask")}
            thresholds = golden[f"{name}__db__gt_thr"]
            ours = db_targets(text, ignored, thresholds.shape, **rules)
            allowed = 16 if leaves(text + ignored, *thresholds.shape) else 2  # pixels, between OpenCV's generations
            for key, theirs in expected.items():
                assert ours[key].shape == theirs.shape
                assert (ours[key] != theirs).sum() <= allowed, f"{name} {key}"
            compare(f"{name} gt_thr", ours["gt_thr"], thresholds)


def test_quantities_of_polygons_equal_the_original(detection_golden):
    folder = detection_golden / "targets"
    ratio = read_json(folder / "config.json")["db"]["shrink_ratio"]
    for name, text, _, quantities in golden_layouts(folder):
        for i, (polygon, expected) in enumerate(zip(text, quantities, strict=True)):
            label = f"{name} {i}"
            pixels = geometry.to_pixels(polygon)
            signed_area = expected["signed_area"]  # computed in float32
            assert geometry.area(polygon) == pytest.approx(abs(signed_area), rel=1e-5, abs=1e-3), label
            assert geometry.area(pixels) == expected["int_area"], label
            assert geometry.perimeter(pixels) == pytest.approx(expected["int_perimeter"], rel=1e-6), label
            distance = geometry.shrink_distance(polygon, ratio)
            assert distance == expected["shrink_distance"], label
            pieces = geometry.shrink(polygon, distance)
            assert [p.tolist() for p in pieces] == expected["shrunk_pieces"], label
            reach = geometry.area(polygon) * (1 - ratio**2) / geometry.perimeter(polygon)
            assert reach == pytest.approx(expected["pad_distance"], rel=1e-6), label
            assert [p.tolist() for p in geometry.expand(polygon, reach)] == expected["padded"], label


def test_a_rectangle_by_hand():
    """40 x 20: both outlines move by 800 * 0.84 / 120 = 5.6 pixels, the inner one by whole pixels, 6."""
    maps = targets([rectangle(20, 20, 60, 40)])
    assert {name: (m.dtype, m.shape) for name, m in maps.items()} == {
        "gt_shrink": (np.float32, (64, 96)),
        "gt_shrink_mask": (np.uint8, (64, 96)),
        "gt_thr": (np.float32, (64, 96)),
        "gt_thr_mask": (np.uint8, (64, 96)),
    }
    inner = np.zeros((64, 96))
    inner[26:35, 26:55] = 1
    np.testing.assert_array_equal(maps["gt_shrink"], inner)
    assert maps["gt_shrink_mask"].all()
    # On the outline itself the original has up to 2e-4 pixels more.
    row = 0.3 + 0.4 * np.clip(1 - np.abs(np.arange(96) - 20) / 5.6, 0, 1)
    np.testing.assert_allclose(maps["gt_thr"][30, :40], row[:40], atol=2e-5)
    assert np.flatnonzero(maps["gt_thr_mask"][30]).tolist() == list(range(14, 67))  # pixels are rounded
    assert maps["gt_thr"][20, 40] == pytest.approx(0.7, abs=2e-5) and maps["gt_thr"].min() == np.float32(0.3)


def test_later_text_covers_earlier_text():
    maps = targets([rectangle(10, 10, 60, 50), rectangle(20, 15, 80, 45)])
    assert maps["gt_shrink"][30, 40] == 2 and set(np.unique(maps["gt_shrink"])) == {0, 1, 2}


def test_small_text_is_ignored_and_has_no_number():
    small, large = rectangle(5, 5, 50, 11), rectangle(20, 25, 80, 55)
    maps = targets([small, large])
    assert set(np.unique(maps["gt_shrink"])) == {0, 1}
    assert maps["gt_shrink_mask"][8, 30] == 0 and maps["gt_thr_mask"][8, 30] == 0
    assert targets([small], min_short_size=6)["gt_shrink"].max() == 1


def test_text_that_vanishes_is_ignored_but_keeps_its_number():
    """A line two pixels wide loses one at each side."""
    maps = targets([rectangle(10, 10, 50, 12), rectangle(62, 10, 92, 50)], min_short_size=2)
    assert set(np.unique(maps["gt_shrink"])) == {0, 2}
    assert maps["gt_shrink_mask"][11, 30] == 0 and maps["gt_thr_mask"][11, 30] == 0


def test_ignored_regions_count_less_than_text():
    maps = targets([rectangle(10, 10, 80, 50)], [rectangle(30, 20, 50, 40)])
    assert maps["gt_shrink"][30, 40] == 1 and maps["gt_shrink_mask"][30, 40] == 0
    assert maps["gt_shrink_mask"].sum() == 64 * 96 - 21 * 21


def test_distance_is_measured_across_an_edge_only_within_its_circle():
    """Pixels above the edge 0..8 of a triangle; a quirk of the original."""
    triangle = np.float32([[0, 50], [8, 50], [4, 90]])
    above = outline_distance(triangle, 10.0, (0, 40, 20, 50))
    assert above[8, 4] == pytest.approx(0.2)
    assert above[8, 0] == pytest.approx(0.2)
    assert above[7, 1] == pytest.approx(np.sqrt(10) / 10)  # to the end: the pixel is outside the circle
    assert above[4, 4] == pytest.approx(np.sqrt(52) / 10)
    assert above[0, 19] == 1


def test_text_beyond_the_image():
    """Nothing is drawn of it, and what reaches in is drawn as if the image went on."""
    box = rectangle(70, 20, 130, 50)
    maps, wide = targets([box]), targets([box], size=(64, 160))
    for name in maps:
        np.testing.assert_array_equal(maps[name], wide[name][:, :96])
    for x, y in ((200, 0), (-200, 0), (0, 200), (0, -200)):
        maps, empty = targets([box + np.float32([x, y])]), targets([])
        assert all((maps[name] == empty[name]).all() for name in maps)


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize(
    "polygon",
    [
        np.zeros((0, 2)),
        np.full((1, 2), 7.0),
        np.full((4, 2), 7.0),
        np.array([[5, 5], [40, 5], [20, 5]]),
        np.full((4, 2), np.nan),
        np.array([[5, 5], [np.inf, 5], [40, 40], [5, 40]]),
        np.array([[5, 5], [60, 50], [60, 5], [5, 50]]),
        np.repeat(rectangle(5, 5, 60, 50), 3, axis=0),
        rectangle(-1e30, -1e30, 1e30, 1e30),
    ],
    ids=["nothing", "a point", "one point", "a line", "NaN", "infinity", "bow tie", "repeated points", "huge"],
)
def test_no_polygon_raises(polygon):
    for maps in (targets([polygon]), targets([], [polygon]), targets([polygon], min_short_size=0)):
        assert all(np.isfinite(m).all() for m in maps.values())
        assert maps["gt_thr"].min() >= np.float32(0.3) and maps["gt_thr"].max() < 0.7001


def test_arguments_are_left_alone():
    text, ignored = rectangle(70, 20, 130, 50), [rectangle(0, 0, 9, 9)]
    targets([text, np.zeros((3, 2))], ignored)
    assert (text == rectangle(70, 20, 130, 50)).all() and len(ignored) == 1
