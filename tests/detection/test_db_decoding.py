"""DB's instances: the original's numbers, maps drawn by hand, and maps that no network should give."""

import cv2
import numpy as np
import pytest

from tcm_jax.detection.db.decoding import DBDecoding, mean_inside
from tcm_jax.detection.polygons import polygon_iou
from tests.conftest import read_json

OPENCV = tuple(int(part) for part in cv2.__version__.split(".")[:2])
ORIGINAL_DEFAULTS = {
    "mask_threshold": 0.3,
    "score_threshold": 0.3,
    "min_width": 5,
    "unclip_ratio": 1.5,
    "arc_length_ratio": 0.01,
}
NAMES = {
    "text_repr_type": "text_representation",
    "mask_thr": "mask_threshold",
    "min_text_score": "score_threshold",
    "min_text_width": "min_width",
    "filter_min_text_poly": "filter_min_width",
    "use_approxPolyDP": "approximate",
    "arcLength_ratio": "arc_length_ratio",
    "unclip_ratio": "unclip_ratio",
    "max_candidates": "max_candidates",
}


def golden_detector(parameters) -> DBDecoding:
    """The detector of a post-processor's parameters."""
    return DBDecoding(
        **ORIGINAL_DEFAULTS | {NAMES[k]: v for k, v in parameters.items() if k not in ("type", "return_vis_map")}
    )


def test_instances_equal_the_original(detection_golden):
    folder = detection_golden / "postprocess"
    config = read_json(folder / "config.json")["db"]
    # OpenCV 4.13 simplifies contours otherwise than before.
    golden = read_json(folder / ("outputs_db.cv5.json" if OPENCV >= (4, 13) else "outputs_db.json"))
    with np.load(folder / "inputs.npz") as inputs:
        for case, boundaries in golden.items():
            name, postprocessor, *rescaled = case.split("/")
            instances = golden_detector(config["postprocessors"][postprocessor])(
                inputs[f"db_{name}"].astype(np.float32) / 255
            )
            assert len(instances) == len(boundaries), case
            scale = config["rescale_scale_factor"][:2] if rescaled else 1
            for ours, theirs in zip(instances, boundaries, strict=True):
                assert ours.score == pytest.approx(theirs[-1], abs=1e-4), case
                assert polygon_iou(ours.polygon / scale, np.reshape(theirs[:-1], (-1, 2))) > 0.98, case


def detector(**changes) -> DBDecoding:
    return DBDecoding(**ORIGINAL_DEFAULTS | changes)


def drawn(*boxes, shape=(64, 96), value=0.9) -> np.ndarray:
    """A map with rectangles (left, top, right, bottom), the latter two included."""
    probabilities = np.zeros(shape, np.float32)
    for left, top, right, bottom in boxes:
        probabilities[top : bottom + 1, left : right + 1] = value
    return probabilities


def bounds(instance) -> list[float]:
    return [*instance.polygon.min(0).tolist(), *instance.polygon.max(0).tolist()]


def test_a_rectangle_grows_by_area_times_ratio_over_perimeter():
    """40 x 10: 400 * 1.5 / 100 = 6 pixels."""
    (quad,) = detector()(drawn((20, 20, 60, 30)))
    assert quad.polygon.dtype == np.float32 and quad.polygon.shape == (4, 2)
    assert bounds(quad) == pytest.approx([14, 14, 66, 36], abs=1e-3)
    assert quad.score == pytest.approx(0.9)
    (poly,) = detector(text_representation="poly")(drawn((20, 20, 60, 30)))
    assert bounds(poly) == [14, 14, 66, 36] and len(poly.polygon) > 8  # rounded corners


def test_instances_may_leave_the_image():
    (quad,) = detector()(drawn((0, 0, 40, 10)))
    assert bounds(quad) == pytest.approx([-6, -6, 46, 16], abs=1e-3)


def test_the_thresholds():
    probabilities = drawn((10, 10, 50, 20), value=0.5)
    assert detector(mask_threshold=0.49, score_threshold=0.5)(probabilities)
    assert not detector(mask_threshold=0.5, score_threshold=0.5)(probabilities)  # must be above
    assert not detector(mask_threshold=0.49, score_threshold=0.51)(probabilities)


def test_narrow_instances():
    """8 x 2 grows by 16 * 1.5 / 20, to a polygon two pixels wider, four in width."""
    probabilities = drawn((10, 10, 18, 12))
    narrow = {"text_representation": "poly", "filter_min_width": True}
    assert detector(min_width=3.9)(probabilities) and not detector(min_width=4.1)(probabilities)
    assert detector(text_representation="poly", min_width=4.1)(probabilities)
    assert detector(min_width=3.9, **narrow)(probabilities)
    assert not detector(min_width=4.1, **narrow)(probabilities)


def test_candidates_are_one_more_than_said():
    probabilities = drawn((10, 10, 50, 20), (10, 40, 50, 50), (60, 10, 90, 50))
    assert [len(detector(max_candidates=n)(probabilities)) for n in (0, 1, 2, 3)] == [1, 2, 3, 3]


def test_the_inside_of_a_ring_is_a_candidate_too():
    probabilities = drawn((20, 20, 80, 50))
    probabilities[30:41, 30:71] = 0.4
    assert len(detector(mask_threshold=0.5)(probabilities)) == 2
    assert len(detector(mask_threshold=0.5, score_threshold=0.5)(probabilities)) == 1


def test_an_outline_that_closes_on_itself_is_no_text():
    """A C with a narrow gap: widened it becomes a ring, an outline and a hole."""
    probabilities = drawn((10, 10, 110, 20), (10, 10, 20, 110), (10, 100, 110, 110), shape=(128, 128))
    probabilities[10:111, 100:111] = 0.9
    probabilities[57:60, 100:111] = 0
    for representation in ("quad", "poly"):
        assert detector(text_representation=representation, approximate=False)(probabilities) == []


def joined(gap, *widths, value=0.9, height=11) -> np.ndarray:
    """A map with one region: pieces of these widths in a row, with five columns of probability `gap` between them."""
    probabilities = drawn((10, 20, 14 + sum(widths) + 5 * len(widths), 19 + height), shape=(64, 192), value=gap)
    left = 10
    for width in widths:
        probabilities[20 : 20 + height, left : left + width] = value
        left += width + 5
    probabilities[:, left - 5 :] = 0
    return probabilities


def apart(probabilities, **changes) -> list:
    return sorted(detector(separate_words=True, **changes)(probabilities), key=lambda found: bounds(found)[0])


def test_words_that_are_run_together():
    """Both words are 40 x 11 pixels; 0.5 lies between them, the fourth threshold is the first above it."""
    probabilities = joined(0.5, 40, 40)
    assert len(detector()(probabilities)) == 1
    first, second = apart(probabilities)
    assert bounds(second)[0] - bounds(first)[0] == pytest.approx(45, abs=1e-3)
    move = 390 * (1.5 + 3 * 4 * 0.06) / 98  # area * ratio / perimeter, between the centres of pixels
    assert bounds(first) == pytest.approx([10 - move, 20 - move, 49 + move, 30 + move], abs=0.5)  # whole pixels
    assert first.score == pytest.approx(0.9)


def test_a_word_of_words_that_are_run_together():
    """The gaps are of different depth."""
    probabilities = np.maximum(joined(0.4, 20, 45), joined(0, 20, 20, 20))
    probabilities[20:31, 55:60] = 0.6
    assert [round(bounds(found)[0] + 8) // 25 for found in apart(probabilities)] == [0, 1, 2]


@pytest.mark.parametrize(
    "probabilities",
    [
        joined(0.5, 9, 9, 9),  # letters
        joined(0.5, 40, 9),  # a word and a letter
        joined(0.8, 40, 40),  # no gap
        np.maximum(joined(0.5, 40, 40), drawn((30, 25, 90, 28), shape=(64, 192), value=0.9)),  # a bridge
    ],
    ids=["letters", "a letter", "no gap", "a bridge"],
)
def test_what_stays_together(probabilities):
    (one,) = apart(probabilities)
    (same,) = detector()(probabilities)
    np.testing.assert_allclose(one.polygon, same.polygon)


def test_scores_of_separate_words_are_near_their_highest_probabilities():
    probabilities = drawn((20, 20, 60, 30), value=0.4)
    probabilities[22:29, 20:61] = 0.8
    assert detector()(probabilities)[0].score == pytest.approx((4 * 0.4 + 7 * 0.8) / 11)
    assert apart(probabilities)[0].score == pytest.approx(0.8)
    assert apart(probabilities, score_threshold=0.81) == []
    probabilities[0, :] = np.nan
    assert len(apart(probabilities)) == 1 and apart(np.full((32, 32), np.nan)) == []


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
def test_types_of_maps(dtype):
    probabilities = drawn((20, 20, 60, 30)).astype(dtype)
    probabilities.flags.writeable = False  # as of arrays from the device
    assert len(detector()(probabilities)) == 1
    assert len(detector()(np.asfortranarray(probabilities))) == 1


def test_nan_is_background():
    probabilities = drawn((20, 20, 60, 30))
    probabilities[25, 30:40] = np.nan
    probabilities[:10] = np.nan
    (quad,) = [i for i in detector()(probabilities) if i.score > 0.8]
    assert bounds(quad) == pytest.approx([14, 14, 66, 36], abs=1e-3)
    assert quad.score == pytest.approx(0.9 * (41 * 11 - 10) / (41 * 11))
    assert detector()(np.full((32, 32), np.nan)) == []


@pytest.mark.parametrize("representation", ["quad", "poly"])
@pytest.mark.parametrize("shape", [(1, 1), (1, 40), (2, 2), (32, 48)])
def test_empty_and_full_maps(representation, shape):
    assert detector(text_representation=representation)(np.zeros(shape, np.float32)) == []
    full = detector(text_representation=representation)(np.ones(shape, np.float32))
    if shape == (32, 48):  # 47 x 31 pixels between the centres, moved by 14
        assert bounds(full[0]) == pytest.approx([-14, -14, 61, 45], abs=1e-3)


def test_noise_never_raises():
    rng = np.random.default_rng(0)
    for _ in range(20):
        probabilities = rng.random((48, 64)).astype(np.float32)
        probabilities[rng.random(probabilities.shape) < 0.05] = np.nan
        for approximate in (True, False):
            for instance in detector(approximate=approximate, text_representation="poly")(probabilities):
                assert len(instance.polygon) >= 4 and 0.3 <= instance.score <= 1


def test_mean_inside_counts_the_outline():
    """A triangle of ten pixels, on a map that counts them."""
    values = np.arange(64, dtype=np.float32).reshape(8, 8)
    triangle = np.int32([[[2, 3]], [[5, 3]], [[2, 6]]])
    pixels = [26, 27, 28, 29, 34, 35, 36, 42, 43, 50]
    assert mean_inside(values, triangle) == pytest.approx(np.mean(pixels))
