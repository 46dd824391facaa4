"""FCENet's decoding: against the original, by hand, and for broken maps."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tcm_jax.config import from_dict
from tcm_jax.detection.fce import FCENet
from tcm_jax.detection.fce.decoding import STRIDES, FCEDecoding, reconstruct
from tcm_jax.detection.fce.model import Level
from tcm_jax.detection.interface import Instance
from tcm_jax.detection.polygons import non_maximum_suppression, polygon_iou
from tests.conftest import channels_last, read_json


def same_instances(ours: list[Instance], theirs: list[list[float]]) -> None:
    """One to one, with an IoU above 0.98 and scores within 1e-4."""
    assert len(ours) == len(theirs)
    left = list(theirs)
    for polygon, score in ours:
        overlaps = [polygon_iou(polygon, np.reshape(boundary[:-1], (-1, 2))) for boundary in left]
        best = int(np.argmax(overlaps))
        assert overlaps[best] > 0.98
        assert score == pytest.approx(left.pop(best)[-1], abs=1e-4)


def test_instances_are_the_originals(detection_golden):
    """Of every variant, on all levels and level by level."""
    config = read_json(detection_golden / "postprocess/config.json")["fce"]
    inputs = np.load(detection_golden / "postprocess/inputs.npz")
    expected = read_json(detection_golden / "postprocess/outputs_fce.json")
    assert tuple(config["scales"]) == STRIDES
    found = 0
    for key, boundaries in expected.items():
        case, variant, *level = key.split("/")
        values = config["variants"][variant]
        detector = FCENet(
            fourier_degree=config["fourier_degree"],
            decoding=FCEDecoding(
                num_points=config["num_reconstr_points"],
                nms_threshold=config["nms_thr"],
                alpha=values["alpha"],
                beta=values["beta"],
                score_threshold=values["score_thr"],
            ),
        )
        levels = []
        for name in ("p3", "p4", "p5"):
            maps = (inputs[f"fce_{case}__{kind}_{name}"].astype(np.float32) for kind in ("cls", "reg"))
            logits, coefficients = (jnp.asarray(channels_last(m)[None]) for m in maps)
            if level and name not in level:
                logits = jnp.full_like(logits, -20.0).at[..., ::2].set(20.0)  # no text on the other levels
            levels.append(Level(logits, coefficients))
        ours = detector.decoding(jax.tree.map(lambda x: np.asarray(x)[0], detector.maps(levels)))
        same_instances(ours, boundaries)
        assert [i.score for i in ours] == sorted((i.score for i in ours), reverse=True)
        found += len(ours)
    assert found


def circle(radius: float, degree: int = 5) -> np.ndarray:
    """Coefficients around the pixel itself."""
    coefficients = np.zeros(2 * (2 * degree + 1), np.float32)
    coefficients[degree + 1] = radius
    return coefficients


def blank(height: int = 16, width: int = 24) -> list[tuple[np.ndarray, np.ndarray]]:
    return [
        (np.zeros((height // s, width // s), np.float32), np.zeros((height // s, width // s, 22), np.float32))
        for s in (1, 2, 4)
    ]


def test_reconstruction_by_hand():
    """Radius 2.6 around (3, 1) in pixels of stride 8; truncated toward zero on both sides of zero."""
    points = reconstruct(circle(2.6, degree=1)[None], np.array([3 + 1j]), 8, 4)
    assert points.tolist() == [[[44, 8], [24, 28], [3, 8], [24, -12]]]


def test_two_texts_by_hand():
    """Neighbors that vote for the same outline are one text, with the best vote's outline and score."""
    maps = blank()
    scores, coefficients = maps[0]
    scores[4, 4:7], scores[12, 20] = (0.5, 0.75, 0.625), 0.4375
    coefficients[:] = circle(2)
    first, second = FCEDecoding()(maps)
    assert (first.score, second.score) == (0.75, 0.4375)
    assert first.polygon.dtype == np.float32 and first.polygon.shape == (50, 2)
    assert np.abs(np.linalg.norm(first.polygon - [40, 32], axis=1) - 16).max() < 2
    assert np.abs(np.linalg.norm(second.polygon - [160, 96], axis=1) - 16).max() < 2


def test_levels_compete():
    """The same text on two levels: the better remains."""
    maps = blank()
    maps[0][0][6, 6], maps[0][1][6, 6] = 0.5, circle(4)
    maps[1][0][3, 3], maps[1][1][3, 3] = 0.75, circle(2)
    (text,) = FCEDecoding()(maps)
    assert text.score == 0.75


def test_holes_vote():
    """A pixel below the threshold inside a ring belongs to the text, but one without any score does not."""
    maps = blank()
    scores, coefficients = maps[0]
    scores[4:7, 4:7] = 0.5
    coefficients[5, 5] = circle(3)  # all others: outlines without area
    scores[5, 5] = 0.125
    assert [text.score for text in FCEDecoding()(maps)] == [0.125]
    scores[5, 5] = 0
    assert FCEDecoding()(maps) == []


def test_quads():
    """Corners of the smallest rectangle; nothing else changes."""
    maps = blank()
    maps[0][0][8, 12], maps[0][1][8, 12] = 0.5, circle(2)
    maps[0][1][8, 12, 4] = 1  # an ellipse: 3 pixels to the right, 1 down
    (poly,), (quad,) = (FCEDecoding(text_representation=name)(maps) for name in ("poly", "quad"))
    assert quad.polygon.shape == (4, 2) and quad.score == poly.score
    assert polygon_iou(poly.polygon, quad.polygon) == pytest.approx(math.pi / 4, abs=0.05)


def test_shortcut_changes_nothing():
    """Noisy outlines of a crowded region: as if all had been compared exactly."""
    rng = np.random.default_rng(0)
    scores = rng.uniform(0.3, 1, (12, 16)).astype(np.float32)
    coefficients = np.stack([circle(r) for r in rng.uniform(0.3, 3, scores.size)]).reshape(12, 16, 22)
    coefficients += 0.25 * rng.standard_normal(coefficients.shape).astype(np.float32)
    rows, columns = np.indices(scores.shape).reshape(2, -1)
    contours = reconstruct(coefficients.reshape(-1, 22), columns + 1j * rows, 8, 50)
    everything = [Instance(c, float(s)) for c, s in zip(contours, scores.ravel(), strict=True)]
    expected = non_maximum_suppression(everything, 0.1)
    nothing = np.zeros((1, 1), np.float32), np.zeros((1, 1, 22), np.float32)
    ours = FCEDecoding(score_threshold=0.2)([(scores, coefficients), nothing, nothing])
    assert len(ours) == len(expected) > 10
    for one, other in zip(ours, expected, strict=True):
        assert one.score == other.score and np.array_equal(one.polygon, other.polygon)


def broken(name: str) -> list[tuple[np.ndarray, np.ndarray]]:
    maps = blank()
    for scores, coefficients in maps:
        match name:
            case "full":
                scores[:], coefficients[:] = 1, circle(3)
            case "full, no outlines":
                scores[:] = 1
            case "nan":
                scores[:], coefficients[:] = np.nan, np.nan
            case "nan outlines":
                scores[:], coefficients[:] = 1, np.nan
            case "infinite outlines":
                scores[:], coefficients[:] = 1, np.inf
            case "huge outlines":
                scores[:], coefficients[:] = 1, 1e30
            case "noise":
                rng = np.random.default_rng(0)
                scores[:], coefficients[:] = rng.random(scores.shape), rng.standard_normal(coefficients.shape)
                scores[::3], coefficients[1::5] = np.nan, np.inf
    return maps


@pytest.mark.parametrize(
    "name",
    ["empty", "full", "full, no outlines", "nan", "nan outlines", "infinite outlines", "huge outlines", "noise"],
)
@pytest.mark.parametrize("text_representation", ["poly", "quad"])
def test_broken_maps(name, text_representation):
    texts = FCEDecoding(text_representation=text_representation)(broken(name))
    assert all(np.isfinite(text.polygon).all() and 0 < text.score <= 1 for text in texts)
    assert bool(texts) == (name in ("full", "noise")), texts


def test_nan_pixels_are_background():
    maps = blank()
    maps[0][1][:] = circle(2)
    maps[0][0][8, 8], maps[0][0][8, 9], maps[0][0][8, 7] = 0.5, np.nan, 0.625
    maps[0][1][8, 7, 3] = np.nan
    assert [text.score for text in FCEDecoding()(maps)] == [0.5]


def test_targets_are_decoded_to_their_polygons():
    """Score 1 and the exact coefficients in the center region: the texts come back, each once."""
    texts = [
        np.array([[20, 30], [180, 20], [184, 60], [24, 70]], np.float32),
        np.array(
            [[40, 150], [90, 110], [160, 110], [210, 150], [190, 175], [150, 140], [95, 140], [60, 175]], np.float32
        ),
    ]
    detector = FCENet()
    targets = detector.targets(texts, [], (256, 256))
    maps = [(targets[name][..., 1], targets[name][..., 3:]) for name in ("p3_maps", "p4_maps", "p5_maps")]
    found = detector.decoding(maps)
    assert len(found) == len(texts)
    for text in texts:
        assert max(polygon_iou(text, instance.polygon) for instance in found) > 0.85


@pytest.mark.parametrize(
    "values, field",
    [
        ({"decoding": {"text_representation": "box"}}, "text_representation"),
        ({"level_ranges": ((0, 1),)}, "level_ranges"),
        ({"fourier_degree": 1}, "fourier_degree"),
        ({"decoding": {"num_points": 10}}, "num_points"),
    ],
)
def test_wrong_values_are_named(values, field):
    with pytest.raises(ValueError, match=field):
        from_dict(FCENet, values)


def test_values_from_a_file_equal_those_from_code():
    listed = from_dict(FCENet, {"level_ranges": [[0, 0.4], [0.3, 0.7], [0.6, 1.0]]})
    assert listed == FCENet() and hash(listed) == hash(FCENet())
