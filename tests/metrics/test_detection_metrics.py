"""Protocols of text detection, against the original evaluators and by hand."""

import dataclasses

import numpy as np
import pytest

from tcm_jax.metrics import detection as metrics
from tcm_jax.metrics.detection import (
    Evaluation,
    ImagePolygons,
    Score,
    hmean_iou,
    rrc_iou,
    threshold_search,
)
from tcm_jax.metrics.deteval import total_text_deteval
from tests.conftest import read_json

RATES = ("precision", "recall", "hmean")


def read_images(entries: list[dict]) -> list[ImagePolygons]:
    """Images of a fixture, whose polygons are lists x, y, x, y, ..."""

    def polygons(lists):
        return [np.array(values, float).reshape(-1, 2) for values in lists]

    kinds = ("gt", "gt_ignored", "pred")
    return [ImagePolygons(*(polygons(e[k]) for k in kinds), e.get("score"), e["name"]) for e in entries]


@pytest.fixture(scope="module")
def evaluation_files(detection_golden):
    folder = detection_golden / "evaluation"
    return tuple(read_json(folder / f"{name}.json") for name in ("inputs", "outputs", "config"))


def check_score(score: Score, expected: dict, name: str) -> None:
    counts = {
        "num_truth": ("num_gts", "num_gt", "gt_care"),
        "num_predictions": ("num_dets", "num_det", "det_care"),
        "matched_truth": ("num_match", "matched"),
    }
    keys = {key: field for field, aliases in counts.items() for key in aliases} | {rate: rate for rate in RATES}
    for key, value in expected.items():
        assert getattr(score, keys[key]) == pytest.approx(value, rel=1e-9, abs=0), f"{name}: {key}"


def check(evaluation: Evaluation, expected: dict, images: list[ImagePolygons]) -> None:
    check_score(evaluation.total, expected["total"], "total")
    assert set(expected["per_image"]) == {image.name for image in images}
    for image, score in zip(images, evaluation.images, strict=True):
        check_score(score, expected["per_image"][image.name], image.name)


def test_hmean_iou_is_that_of_mmocr(evaluation_files):
    inputs, outputs, config = evaluation_files
    ignore = config["precision_thr"]
    images, invalid = read_images(inputs["images"]), read_images(inputs["invalid_polygon_images"])
    check(hmean_iou(images, config["iou_thr"], ignore), outputs["mmocr_hmean_iou"], images)
    check(hmean_iou(images, 0.7, ignore), outputs["mmocr_hmean_iou_thr07"], images)
    check(hmean_iou(invalid, config["iou_thr"], ignore), outputs["invalid_polygons"]["mmocr_hmean_iou"], invalid)


def test_threshold_search_is_that_of_mmocr(evaluation_files):
    inputs, outputs, config = evaluation_files
    images, expected = read_images(inputs["images"]), outputs["mmocr_threshold_search"]
    search = threshold_search(images, floor=config["score_thr"])
    assert {f"{threshold:.1f}" for threshold in search.evaluations} == set(expected["per_threshold"])
    for threshold, evaluation in search.evaluations.items():
        check_score(evaluation.total, expected["per_threshold"][f"{threshold:.1f}"], f"threshold {threshold}")
        assert hmean_iou(images, min_score=threshold) == evaluation  # the number of a fixed threshold
    check_score(search.best.total, {k.split(":")[1]: v for k, v in expected["best"].items()}, "best")


def test_rrc_iou_is_that_of_the_competition(evaluation_files):
    inputs, outputs, _ = evaluation_files
    for key, expected in (("images", outputs), ("invalid_polygon_images", outputs["invalid_polygons"])):
        images = read_images(inputs[key])
        check(rrc_iou(images), expected["rrc_iou"], images)


def test_deteval_is_that_of_total_text(evaluation_files):
    inputs, outputs, config = evaluation_files
    images, values = read_images(inputs["total_text_images"]), config["deteval"]
    evaluation = total_text_deteval(images, values["tr"], values["tp"], values["fsc_k"], values["k"])
    check(evaluation, outputs["total_text_deteval"], images)


def box(x0: float, x1: float, y0: float = 0, y1: float = 10) -> np.ndarray:
    return np.array([[x0, y0], [x1, y0], [x1, y1], [x0, y1]], float)


BOW_TIE = np.array([[0, 0], [40, 10], [40, 0], [0, 10]], float)  # its signed area is 0, its repaired one 200


def rates(evaluation: Evaluation) -> tuple[float, ...]:
    return tuple(getattr(evaluation.total, rate) for rate in RATES)


def test_a_prediction_matches_once_and_in_the_order_of_the_ground_truth():
    # Both words have an IoU of 1/2 with the long prediction, of which more is needed.
    words = [box(0, 10), box(10, 20)]
    assert hmean_iou([ImagePolygons(words, [], [box(0, 20)])]).total.matched_truth == 0
    evaluation = hmean_iou([ImagePolygons(words, [], [box(0, 20), box(1, 10)])], iou_threshold=0.4)
    # The first word takes the long one, the second is left with nothing.
    assert evaluation.total == Score(2, 2, 1, 1, 0.5, 0.5, 0.5)


def test_predictions_in_ignored_regions_do_not_count():
    image = ImagePolygons([box(0, 10)], [box(100, 200)], [box(0, 10), box(94, 104), box(96, 106), box(300, 310)])
    assert hmean_iou([image]).total == Score(1, 3, 1, 1, 1 / 3, 1.0, 0.5)
    assert rrc_iou([image]).total == Score(1, 3, 1, 1, 1 / 3, 1.0, 0.5)


def test_a_low_score_leaves_its_word_to_another_prediction():
    image = ImagePolygons([box(0, 10)], [], [box(0, 10), box(0, 11)], [0.35, 0.9])
    search = threshold_search([image], thresholds=(0.3, 0.5))
    assert rates(search.evaluations[0.3]) == (0.5, 1.0, 2 / 3)
    assert rates(search.best) == (1.0, 1.0, 1.0)
    assert search.best_threshold == 0.5


def test_thresholds_are_those_of_mmocr():
    # 6 * 0.1 > 0.6; scores of just the floor are out, although 0.3 >= 0.3.
    image = ImagePolygons([box(0, 10)], [], [box(0, 10), box(0, 10)], [0.6, 0.3])
    counts = [e.total.num_predictions for e in threshold_search([image]).evaluations.values()]
    assert counts == [1, 1, 1, 0, 0, 0, 0]
    assert hmean_iou([image], min_score=0.3).total.num_predictions == 2
    assert threshold_search([image], thresholds=(0.3,)).best.total.num_predictions == 1


def test_intersections_are_computed_once_for_all_thresholds(monkeypatch):
    calls = []
    touching = metrics.touching
    monkeypatch.setattr(metrics, "touching", lambda *args: calls.append(args) or touching(*args))
    threshold_search([ImagePolygons([box(0, 10)], [box(5, 9)], [box(0, 10)], [0.95])])
    assert len(calls) == 2  # with the ground truth, with the ignored regions


@pytest.mark.parametrize(
    ("image", "mmocr", "rrc", "deteval"),
    [
        (ImagePolygons([], [], []), (1, 1, 1), (0, 0, 0), (0, 0, 0)),
        (ImagePolygons([], [box(0, 9)], []), (1, 1, 1), (0, 0, 0), (0, 0, 0)),
        (ImagePolygons([], [box(0, 9)], [box(0, 9)]), (1, 1, 1), (0, 0, 0), (0, 0, 0)),
        (ImagePolygons([], [], [box(0, 9)]), (0, 1, 0), (0, 0, 0), (0, 0, 0)),
        (ImagePolygons([box(0, 9)], [], []), (0, 0, 0), (0, 0, 0), (0, 0, 0)),
    ],
    ids=["nothing", "only ignored", "all ignored", "no truth", "no predictions"],
)
def test_empty_images(image, mmocr, rrc, deteval):
    assert rates(hmean_iou([image])) == mmocr
    assert rates(rrc_iou([image])) == rrc
    assert rrc_iou([image]).images == hmean_iou([image]).images  # they differ in the total only
    assert rates(total_text_deteval([image])) == deteval


def test_no_images():
    assert rates(hmean_iou([])) == (1, 1, 1)
    assert rates(rrc_iou([])) == rates(total_text_deteval([])) == (0, 0, 0)


def test_polygons_that_cross_themselves_are_repaired_or_dropped():
    image = ImagePolygons([BOW_TIE], [], [BOW_TIE])
    assert hmean_iou([image]).total == Score(1, 1, 1, 1, 1.0, 1.0, 1.0)
    assert rrc_iou([image]).total == Score(0, 0, 0, 0, 0.0, 0.0, 0.0)
    assert total_text_deteval([image]).total.matched_truth == 0  # its signed area is 0
    # MMOCR divides by the area before the repair, so that a bow tie is never ignored.
    assert hmean_iou([ImagePolygons([], [box(-9, 99)], [BOW_TIE])]).total.num_predictions == 1


@pytest.mark.parametrize("flat", [np.zeros((4, 2)), np.array([[0, 5], [5, 5], [9, 5]])])
@pytest.mark.parametrize("evaluate", [hmean_iou, rrc_iou, total_text_deteval])
def test_polygons_without_area_match_nothing(evaluate, flat):
    image = ImagePolygons([box(0, 10), flat], [flat], [flat, box(0, 10)])
    total = evaluate([image]).total
    assert total.matched_truth == total.matched_predictions == 1
    assert total.num_predictions == (1 if evaluate is rrc_iou else 2)


def test_deteval_counts_splits_and_merges():
    word, left, right = box(0, 20), box(0, 9), box(10, 20)
    split = total_text_deteval([ImagePolygons([word], [], [left, right])]).total
    assert split == Score(1, 2, 0.8, 1.6, 0.8, 0.8, pytest.approx(0.8))
    merge = total_text_deteval([ImagePolygons([left, right], [], [word])]).total
    assert merge == Score(2, 1, 1.6, 0.8, 0.8, 0.8, pytest.approx(0.8))
    # A crumb lies beside the one part that is large enough: one to one after all.
    crumb = total_text_deteval([ImagePolygons([word], [], [box(0, 15), box(18, 40)])]).total
    assert crumb == Score(1, 2, 1.0, 1.0, 0.5, 1.0, pytest.approx(2 / 3))
    halves = total_text_deteval([ImagePolygons([word], [], [box(0, 6), box(12, 18)])]).total
    assert halves.matched_truth == 0  # 0.6 of the word are not 0.7


def test_deteval_compares_rounded_shares():
    # 0.704 is 0.7, which is not more than 0.7, and no split either.
    assert total_text_deteval([ImagePolygons([box(0, 1000)], [], [box(0, 704)])]).total.matched_truth == 0
    assert total_text_deteval([ImagePolygons([box(0, 1000)], [], [box(0, 706)])]).total.matched_truth == 1


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"predictions": [box(0, 9), box(0, 9)[:2]]}, r"img_7: predictions\[1\] has shape \(2, 2\); expected"),
        ({"truth": [box(0, 9).ravel()]}, r"img_7: truth\[0\] has shape \(8,\); expected \(3 or more, 2\)"),
        ({"ignored": [box(0, np.nan)]}, r"img_7: ignored\[0\] has coordinates that are not finite"),
        ({"predictions": [box(0, 9)], "scores": []}, "img_7: 0 scores of 1 predictions"),
        ({"predictions": [box(0, 9)], "scores": [np.nan]}, "img_7: a score is NaN"),
    ],
)
def test_broken_input_is_named(values, message):
    with pytest.raises(ValueError, match=message):
        ImagePolygons(**{"truth": [], "ignored": [], "predictions": [], "name": "img_7"} | values)


def test_thresholds_need_scores():
    image = ImagePolygons([], [], [box(0, 9)], name="img_7")
    with pytest.raises(ValueError, match="img_7 has no scores"):
        hmean_iou([image], min_score=0.5)
    with pytest.raises(ValueError, match="img_7 has no scores"):
        threshold_search([image])
    with pytest.raises(ValueError, match="no score thresholds"):
        threshold_search([dataclasses.replace(image, scores=[0.5])], thresholds=())
