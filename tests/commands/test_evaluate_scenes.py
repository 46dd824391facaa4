"""The command that scores detectors on photos."""

import json
import re
import zipfile
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image

from tcm_jax import Detector
from tcm_jax.commands import evaluate
from tcm_jax.commands.evaluate import images as scenes
from tcm_jax.commands.evaluate.exports import image_stems, submission
from tcm_jax.images.decoding import encode_png
from tests.conftest import read_json
from tests.tiny_detector import write_tiny_detector


def photo(number: int, height: int = 96, width: int = 120) -> np.ndarray:
    """Smooth noise."""
    coarse = np.random.default_rng(number).integers(0, 256, (height // 12 + 2, width // 12 + 2, 3), np.uint8)
    return cv2.resize(coarse, (width, height), interpolation=cv2.INTER_CUBIC)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Two detectors, `one` and `two`, and two data sets whose text is what `one` finds there in part."""
    folder = tmp_path_factory.mktemp("evaluation")
    write_tiny_detector(folder / "one")
    write_tiny_detector(folder / "two", "pan")
    detector = Detector(folder / "one", quiet=True)
    number = 0
    for name, photos in (("street", 4), ("signs", 1)):
        images = folder / name / "images"
        images.mkdir(parents=True)
        rows = []
        for i in range(photos):
            (images / f"{i}.png").write_bytes(encode_png(photo(number)))
            found = detector.detect(photo(number)).instances
            regions = [
                {"polygon": instance.polygon.tolist(), "text": "WORD", "ignore": j == 1}
                for j, instance in enumerate(found[: i + 1])
            ]
            rows.append({"image": f"images/{i}.png", "width": 120, "height": 96, "instances": regions})
            number += 1
        (folder / name / "labels.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    (folder / "street/images/3.png").write_bytes(b"broken")
    return folder


def run(folder: Path, *arguments, models=("one",), sets=("street", "signs")) -> None:
    checkpoints = [word for model in models for word in ("--checkpoint", folder / model)]
    evaluate.main(list(map(str, [*(folder / name for name in sets), *checkpoints, *arguments])))


def error_of(*arguments, capsys) -> str:
    with pytest.raises(SystemExit) as exit:
        evaluate.main(list(map(str, arguments)))
    return f"{exit.value.code}\n{capsys.readouterr().err}"


def test_table_and_json(folder, capsys):
    run(folder)
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith(f"Evaluating {folder / 'one'} on cpu") and "shorter side of 96, at most 192" in lines[0]
    assert "all detections that the decoding gives (quads, score_threshold 0.5)" in lines[1]
    assert lines[2] == "| Dataset | # images | # texts | Precision | Recall | H-mean | best H-mean | at score |"
    assert lines[3] == "|:--------|---------:|--------:|----------:|-------:|-------:|------------:|---------:|"
    assert re.fullmatch(r"\| street  \|        4 \| +\d+ \|( +\d+\.\d\d \|){4} +0\.\d \|", lines[4])
    assert re.fullmatch(r"\| signs   \|        1 \|       1 \| +\d+\.\d\d \| 100\.00 \|.*", lines[5])
    assert "Images that can't be decoded, counted as images without detections: street 1." in lines

    document = read_json(folder / "one.results.json")
    assert document["schema_version"] == 1 and document["versions"]["jax"]
    (model,) = document["models"]
    assert model["checkpoint"]["path"] == str(folder / "one") and model["config"]["scale"] == [192, 96]
    street, signs = model["results"]
    assert (street["name"], street["num_photos"], street["undecodable"]) == ("street", 4, 1)
    # Three photos show all of their text, the broken one's four are lost but for the ignored one.
    assert street["num_truth"] == 1 + 1 + 2 + 3 and street["num_ignored"] == 3
    assert street["fixed"]["matched_truth"] == 4 and signs["fixed"]["recall"] == 1
    assert [row["score_threshold"] for row in street["search"]] == [0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9]
    assert street["best"] in street["search"] and street["deteval"] is None


def test_what_counts(folder, tmp_path, capsys):
    """A least score, DetEval, and every second photo only."""
    output = tmp_path / "scores.json"
    run(folder, "--score-threshold", "0.55", "--deteval", "--hold-out", "2", "--output", output, sets=("street",))
    text = capsys.readouterr().out
    assert "with a score of at least 0.55" in text
    assert "| DetEval Precision | DetEval Recall | DetEval H-mean |" in text
    (result,) = read_json(output)["models"][0]["results"]
    assert result["num_photos"] == 2 and result["undecodable"] == 1
    found = Detector(folder / "one", quiet=True).detect(folder / "street/images/1.png").instances
    count = sum(instance.score >= 0.55 for instance in found)
    assert result["fixed"]["num_predictions"] <= count < len(found)
    assert result["deteval"]["num_truth"] == result["num_truth"]


def test_decoding_and_scale(folder, tmp_path):
    run(folder, "--set", "mask_threshold=0.9", "--scale", "64", "128", "--output", tmp_path / "a.json")
    config = read_json(tmp_path / "a.json")["models"][0]["config"]
    assert config["scale"] == [128, 64] and config["model"]["detector"]["decoding"]["mask_threshold"] == 0.9


def test_several_models(folder, tmp_path, capsys):
    run(folder, "--output", tmp_path / "both.json", models=("one", "two"))
    text = capsys.readouterr().out
    rows = [line.split() for line in text[text.index("| H-mean (best)") :].splitlines()]
    assert rows[0] == ["|", "H-mean", "(best)", "|", "street", "|", "signs", "|"]
    assert [row[1] for row in rows[2:4]] == [str(folder / "one"), str(folder / "two")]
    one, two = read_json(tmp_path / "both.json")["models"]
    assert f"{100 * two['results'][1]['fixed']['hmean']:.2f}" == rows[3][6]
    assert f"({100 * one['results'][0]['best']['hmean']:.2f})" == rows[2][4]
    assert two["config"]["model"]["family"] == "pan"


def test_submission(folder, tmp_path):
    run(folder, "--submission", tmp_path / "rrc")
    with zipfile.ZipFile(tmp_path / "rrc/street.zip") as archive:
        assert archive.namelist() == [f"res_{i}.txt" for i in range(4)]
        assert archive.read("res_3.txt") == b""  # the broken one
        rows = [list(map(int, line.split(","))) for line in archive.read("res_0.txt").decode().splitlines()]
    found = Detector(folder / "one", quiet=True).detect(folder / "street/images/0.png").instances
    assert len(rows) == len(found)
    for row, instance in zip(rows, found, strict=True):
        assert len(row) == 8
        points = np.reshape(row, (4, 2))
        assert {tuple(p) for p in points} == {tuple(p) for p in np.round(instance.polygon).astype(int)}
        # The server refuses the other direction.
        following = np.roll(points, -1, axis=0)
        assert ((following[:, 0] - points[:, 0]) * (following[:, 1] + points[:, 1])).sum() <= 0
    first = (tmp_path / "rrc/street.zip").read_bytes()
    run(folder, "--submission", tmp_path / "rrc")
    assert (tmp_path / "rrc/street.zip").read_bytes() == first


def test_overlays(folder, tmp_path):
    run(folder, "--overlays", tmp_path / "drawn", "--score-threshold", "2", sets=("street",))
    pictures = sorted((tmp_path / "drawn/street").iterdir())
    assert [path.name for path in pictures] == [f"000-{i}.jpg" for i in range(3)]  # nothing found, worst first
    colours = np.array(Image.open(pictures[0])).astype(int)
    blue = np.abs(colours - (70, 150, 255)).sum(2) < 60
    assert blue.sum() > 100  # the annotation


def test_names_of_sets(tmp_path):
    """The last part of a path, and of a file that of its name; more only where it is needed."""
    file = tmp_path / "labels.jsonl"
    file.touch()
    assert scenes._names(["a/ic15/test", "a/tt/test", "b/ctw/", str(file)]) == ["ic15-test", "tt-test", "ctw", "labels"]


class Named:
    def __init__(self, *names):
        self.names = names

    def __len__(self):
        return len(self.names)

    def image_name(self, index):
        return self.names[index]


def test_photos_of_the_same_name(tmp_path):
    assert image_stems(Named("a/1.png", "a/2.jpg")) == ["1", "2"]
    clash = pytest.raises(ValueError, match="a/1.png and b/1.jpg can't be told apart by 1")
    with clash, submission(tmp_path / "a.zip", Named("a/1.png", "b/1.jpg")):
        pass
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--cased"], "--cased is for recognizers; .*one is a detector"),
        (["--batch", "4"], "--batch is for recognizers"),
        (["--format", "icdar"], "icdar"),
        (["--hold-out", "-1"], "--hold-out is -1"),
        (["--hold-out", "9"], "street has no image left to score"),
        (["--set", "mask_treshold=0.3"], "did you mean 'mask_threshold'"),
        (["--set", "mask_threshold"], "--set mask_threshold: expected NAME=VALUE"),
        (["--scale", "0", "0"], "scale is .0, 0."),
        (["--output", "{}/nowhere/a.json"], "--output .*nowhere doesn't exist"),
        (["--submission", "{}/a", "--checkpoint", "{}/two"], "--submission takes one --checkpoint, but 2 are given"),
        (["--checkpoint", "{}/nowhere"], "nowhere does not exist; expected a model directory"),
        (["{}/nothing"], "nothing"),
        (["{}/street"], "sets of the same name: .*street"),
    ],
)
def test_errors_in_words(folder, options, message, capsys):
    options = [option.format(folder) for option in options]
    error = error_of(folder / "street", "--checkpoint", folder / "one", *options, capsys=capsys)
    assert error.startswith("error: ") and re.search(message, error), error


def test_models_of_different_kinds(folder, tiny_model, capsys):
    error = error_of(folder / "street", "--checkpoint", folder / "one", "--checkpoint", tiny_model, capsys=capsys)
    assert re.search("models of one kind can be compared; .*one is a detector, .*tiny is a recognizer", error)
    error = error_of(folder / "street", "--checkpoint", tiny_model, "--deteval", capsys=capsys)
    assert re.search("--deteval is for detectors; .*tiny is a recognizer", error)
    error = error_of(folder / "street", "--checkpoint", tiny_model, "--checkpoint", tiny_model, capsys=capsys)
    assert "--checkpoint is given 2 times" in error
