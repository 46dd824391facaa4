"""The command that scores a detector and a recognizer together."""

import json
import re
import zipfile

import cv2
import numpy as np
import pytest

from tcm_jax import Spotter
from tcm_jax.commands import evaluate
from tcm_jax.images.decoding import encode_png
from tests.conftest import read_json
from tests.tiny_detector import write_tiny_detector


def photo(number: int) -> np.ndarray:
    """Smooth noise."""
    coarse = np.random.default_rng(number).integers(0, 256, (10, 12, 3), np.uint8)
    return cv2.resize(coarse, (120, 96), interpolation=cv2.INTER_CUBIC)


@pytest.fixture(scope="module")
def folder(tmp_path_factory, tiny_model):
    """A detector, and a set of two photos in which the models find and read the first word, and misread the others;
    a third one is broken.
    """
    folder = tmp_path_factory.mktemp("spotting")
    write_tiny_detector(folder / "one")
    spotter = Spotter.load(folder / "one", tiny_model, min_score=0.0)
    images = folder / "street/images"
    images.mkdir(parents=True)
    rows = []
    for i in range(2):
        (images / f"{i}.png").write_bytes(encode_png(photo(i)))
        words = spotter(photo(i)).words
        regions = [
            {"polygon": word.polygon.tolist(), "text": word.text if j == 0 else "~other~", "ignore": False}
            for j, word in enumerate(words)
        ]
        rows.append({"image": f"images/{i}.png", "width": 120, "height": 96, "instances": regions})
    (images / "2.png").write_bytes(b"broken")
    rows.append(rows[0] | {"image": "images/2.png"})
    (folder / "street/labels.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return folder


def run(folder, tiny_model, *arguments) -> None:
    models = ("--checkpoint", folder / "one", "--recognizer", tiny_model)
    evaluate.main(list(map(str, [folder / "street", *models, *arguments])))


def test_table_and_json(folder, tiny_model, capsys):
    run(folder, tiny_model, "--min-score", "0")
    text = capsys.readouterr().out
    lines = text.splitlines()
    assert f"Detecting with {folder / 'one'}" in lines[0] and f"Reading with {tiny_model}" in lines[1]
    assert "score of at least 0" in lines[2]
    rules = [line.split("|")[3].strip() for line in lines[5:9]]
    assert rules == ["found", "text equal", "end-to-end (RRC)", "word spotting (RRC)"]
    assert "Images that can't be decoded, counted as images without detections: street 1." in text

    (model,) = read_json(folder / "one.results.json")["models"]
    assert model["recognizer"]["license"] == "CC0-1.0" and model["config"]["min_score"] == 0
    (result,) = model["results"]
    assert (result["name"], result["num_photos"], result["undecodable"]) == ("street", 3, 1)
    detection, equal = result["detection"], result["equal"]
    assert equal["matched_truth"] == 2 < detection["matched_truth"]  # the first word of each photo that is not broken
    assert detection["num_truth"] == equal["num_truth"] and detection["num_predictions"] == equal["num_predictions"]
    assert re.search(rf" text equal \|[ \d]+\|[ ]+{100 * equal['precision']:.2f} ", text)


def test_scores_that_count(folder, tiny_model, tmp_path):
    """A least score of the reading, and of the detection."""
    run(folder, tiny_model, "--min-score", "1", "--output", tmp_path / "read.json")
    run(folder, tiny_model, "--min-score", "0", "--score-threshold", "1.01", "--output", tmp_path / "found.json")
    for name in ("read", "found"):
        (result,) = read_json(tmp_path / f"{name}.json")["models"][0]["results"]
        assert result["detection"]["num_predictions"] == 0 and result["detection"]["num_truth"] > 2


def test_submission_and_overlays(folder, tiny_model, tmp_path):
    run(folder, tiny_model, "--min-score", "0", "--submission", tmp_path / "rrc", "--overlays", tmp_path / "drawn")
    words = Spotter.load(folder / "one", tiny_model, min_score=0.0)(photo(0)).words
    with zipfile.ZipFile(tmp_path / "rrc/street.zip") as archive:
        assert archive.namelist() == ["res_0.txt", "res_1.txt", "res_2.txt"] and archive.read("res_2.txt") == b""
        lines = archive.read("res_0.txt").decode().splitlines()
    assert [line.split(",", 8)[8] for line in lines] == [word.text for word in words]
    names = sorted(path.name for path in (tmp_path / "drawn/street").iterdir())
    assert [name[3:] for name in names] in (["-0.jpg", "-1.jpg"], ["-1.jpg", "-0.jpg"])


def test_refused(folder, tiny_model, tmp_path, capsys):
    def error_of(*arguments) -> str:
        with pytest.raises(SystemExit) as exit:
            run(folder, tiny_model, *arguments)
        return str(exit.value.code)

    assert "--deteval is for detectors alone" in error_of("--deteval")
    assert "min_score is 2.0; expected a probability" in error_of("--min-score", "2")
    assert "is a model for 'detection'; reading words needs" in error_of("--recognizer", folder / "one")
    with pytest.raises(SystemExit, match="--min-score is of words that are read; give a --recognizer too"):
        evaluate.main([str(folder / "street"), "--checkpoint", str(folder / "one"), "--min-score", "0.5"])
    with pytest.raises(SystemExit, match="--recognizer is for detectors; .*tiny is a recognizer"):
        evaluate.main([str(folder / "street"), "--checkpoint", str(tiny_model), "--recognizer", str(tiny_model)])

    textless = tmp_path / "textless"
    (textless / "images").mkdir(parents=True)
    (textless / "images/0.png").write_bytes(encode_png(photo(0)))
    region = {"polygon": [[1, 1], [50, 1], [50, 20]], "text": "", "ignore": False}
    row = {"image": "images/0.png", "width": 120, "height": 96, "instances": [region]}
    (textless / "labels.jsonl").write_text(json.dumps(row) + "\n")
    with pytest.raises(SystemExit, match="textless has no texts to compare with"):
        arguments = [textless, "--checkpoint", folder / "one", "--recognizer", tiny_model]
        evaluate.main(list(map(str, arguments)))
