"""The command that scores a recognizer on test sets."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from tcm_jax import Recognizer
from tcm_jax.commands import evaluate
from tcm_jax.commands.evaluate import words
from tcm_jax.data.words.lmdb import write_lmdb
from tcm_jax.images.decoding import encode_png
from tcm_jax.records import WordCrop
from tcm_jax.text.charset import CHARSET_36, CHARSET_62, CHARSET_94
from tests.conftest import read_json, read_jsonl

LABELS = ["Word", "STOP", "two words", "...", "über"]  # "..." has no letter or digit


def pixels(number: int) -> np.ndarray:
    return np.random.default_rng(number).integers(0, 256, (20, 40, 3), np.uint8)


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    """A benchmark root with the LMDB SVT, and "mine", a folder of words of which one is broken."""
    root = tmp_path_factory.mktemp("data") / "test"
    records = [WordCrop(encode_png(pixels(n)), label, label) for n, label in enumerate(LABELS)]
    write_lmdb(records, root / "SVT")
    (root / "mine").mkdir()
    for number, record in enumerate(records):
        (root / f"mine/{number}.png").write_bytes(record.image)
    (root / "mine/4.png").write_bytes(b"broken")
    rows = [f"{number}.png\t{label}\n" for number, label in enumerate(LABELS)]
    (root / "mine/labels.tsv").write_text("".join(rows))
    return root


@pytest.fixture(scope="module")
def outputs(tmp_path_factory):
    return tmp_path_factory.mktemp("outputs")


@pytest.fixture(scope="module")
def finished(tiny_model, root, outputs):
    """A run in a process of its own with two devices, which share every batch."""
    devices = f"{os.environ['XLA_FLAGS']} --xla_force_host_platform_device_count=2"
    command = [sys.executable, "-m", "tcm_jax.evaluate", root, "--checkpoint", tiny_model, "--any-count"]
    command += ["--batch", "4", "--output", outputs / "two.json", "--predictions", outputs / "two.jsonl"]
    cwd = Path(__file__).parents[2]
    flags = os.environ | {"XLA_FLAGS": devices, "JAX_PLATFORMS": "cpu"}
    process = subprocess.run(list(map(str, command)), env=flags, cwd=cwd, capture_output=True, text=True)
    assert process.returncode == 0, process.stderr
    return process


def error_of(*arguments, capsys) -> str:
    with pytest.raises(SystemExit) as exit:
        evaluate.main(list(map(str, arguments)))
    return f"{exit.value.code}\n{capsys.readouterr().err}"


def test_table(finished):
    lines = finished.stdout.splitlines()
    assert "float32, normalization checkpoint (mean 0.4815" in lines[0]
    assert lines[0].endswith("comparing lower-case letters and digits")
    assert lines[1] == "| Dataset  | # samples | Accuracy | 1 - NED | Confidence | Label Length |"
    assert [line.split()[1] for line in lines[3:5]] == ["SVT", "mine"]
    assert re.fullmatch(r"\| Combined \|         8 \|( +\d+\.\d\d \|){4}", lines[6])
    assert "Images that can't be decoded, counted as wrong: mine 1." in lines


def test_losses_are_reported(finished):
    assert "SVT: kept 4, dropped 1: 1 with characters outside the charset only (top: '.' 3)" in finished.stderr
    assert "Warning: SVT has 4 words, expected 647" in finished.stderr
    assert "1 images can't be decoded and count as wrong: test/mine/labels.tsv:5 4.png" in finished.stderr


def test_predictions(finished, outputs):
    rows = read_jsonl(outputs / "two.jsonl")
    assert [row["label"] for row in rows] == ["word", "stop", "twowords", "uber"] * 2
    assert [row["set"] for row in rows] == ["SVT"] * 4 + ["mine"] * 4
    assert set(rows[0]) == {"set", "name", "label", "prediction", "confidence"}
    assert rows[0]["name"] == "test/SVT:000000001"
    assert (rows[7]["prediction"], rows[7]["confidence"]) == ("", 0)  # the broken one
    for one, other in zip(rows[:3], rows[4:7], strict=True):  # the same images
        assert one["prediction"] == other["prediction"]


def test_json(finished, outputs, tiny_model):
    summary = read_json(outputs / "two.json")
    assert summary["schema_version"] == 1
    assert summary["checkpoint"]["path"] == str(tiny_model)
    assert summary["config"]["charset"] == CHARSET_36
    assert summary["config"]["normalization"]["name"] == "checkpoint"
    assert summary["config"]["model"]["charset"] == CHARSET_94
    assert summary["versions"]["devices"] == 2
    svt, mine = summary["results"]
    assert (svt["name"], svt["num_samples"], svt["raw"]) == ("SVT", 4, 5)
    assert svt["dropped"] == {"with characters outside the charset only": 1}
    assert mine["undecodable"] == summary["combined"]["undecodable"] == 1
    assert summary["combined"]["num_samples"] == 8
    assert summary["seconds"] > 0


def test_options_change_what_is_compared(finished, outputs, root, tiny_model, capsys):
    """Another normalization and other captions, on one device; the JSON goes beside the checkpoint."""
    predictions = outputs / "half.jsonl"
    options = ["--normalization", "half", "--cased", "--captions", "test", "--batch", "8"]
    evaluate.main(
        [
            str(root),
            "--checkpoint",
            str(tiny_model),
            "--sets",
            "mine",
            "--predictions",
            str(predictions),
            *options,
        ]
    )
    assert "normalization half (mean 0.5, 0.5, 0.5; std 0.5, 0.5, 0.5)" in capsys.readouterr().out
    summary = read_json(tiny_model.with_name("tiny.results.json"))
    assert summary["config"]["normalization"] == {"name": "half", "mean": [0.5] * 3, "std": [0.5] * 3}
    assert summary["config"]["charset"] == summary["config"]["model"]["caption_charset"] == CHARSET_62
    rows = read_jsonl(predictions)
    assert [row["label"] for row in rows] == ["Word", "STOP", "twowords", "uber"]
    before = [row["confidence"] for row in read_jsonl(outputs / "two.jsonl") if row["set"] == "mine"]
    assert rows[0]["confidence"] != pytest.approx(before[0], rel=1e-3)
    assert list(outputs.glob(".*")) == []  # no temporary files


def test_only_held_out_records(root, tiny_model, outputs):
    """Every second record: "STOP", and "..." that the cleaning drops."""
    paths = "--predictions", str(outputs / "held.jsonl"), "--output", str(outputs / "held.json")
    evaluate.main([str(root / "mine"), "--checkpoint", str(tiny_model), "--hold-out", "2", "--batch", "8", *paths])
    assert [row["label"] for row in read_jsonl(outputs / "held.jsonl")] == ["stop"]


def test_several_pictures_of_a_word(root, tiny_model, outputs, capsys):
    """As `Recognizer` reads them, which a test compares with readings of one picture."""
    paths = "--predictions", str(outputs / "several.jsonl"), "--output", str(outputs / "several.json")
    options = "--margins", "0", "-0.2", "0.3", "--vocabulary-weight", "3", "--charset", "94", "--batch", "8"
    evaluate.main([str(root / "mine"), "--checkpoint", str(tiny_model), *options, *paths])
    assert ", test-time views 0, -0.2, 0.3, dictionary prior 3; comparing letters" in capsys.readouterr().out
    config = read_json(outputs / "several.json")["config"]
    assert (config["margins"], config["inference"]["dictionary_prior"]) == ([0, -0.2, 0.3], 3)
    rows = {row["label"]: row for row in read_jsonl(outputs / "several.jsonl")}
    recognizer = Recognizer(tiny_model, views=(0, -0.2, 0.3), dictionary_prior=3, quiet=True)
    for reading, label in zip(recognizer.read(map(pixels, range(2))), LABELS, strict=False):
        assert rows[label]["prediction"] == reading.text
        assert rows[label]["confidence"] == pytest.approx(reading.confidence, rel=1e-4)


@pytest.mark.parametrize(
    "options, charset",
    [
        ([], CHARSET_36),
        (["--cased"], CHARSET_62),
        (["--punctuation"], CHARSET_36 + CHARSET_94[62:]),
        (["--cased", "--punctuation"], CHARSET_94),
        (["--charset", "62"], CHARSET_62),
        (["--charset", "abc"], "abc"),
    ],
)
def test_charset(options, charset):
    parser, _ = evaluate._parser("evaluate")
    parsed = parser.parse_args(["data", "--checkpoint", "x", *options])
    assert words.comparison_charset(parsed) == charset


@pytest.mark.parametrize(
    "options, message",
    [
        ([], "SVT has 4 words, expected 647.*\n--any-count evaluates them as they are"),
        (["--sets", "SVT", "CUTE"], "no set is called CUTE; found SVT, mine"),
        (["--charset", "abc", "--cased"], "--charset excludes --cased"),
        (["--charset", "9", "--sets", "mine"], "mine has no word left to score"),
        (["--any-count", "--batch", "0"], "batch_size is 0; expected at least 1"),
        (["--output", "{}/nowhere/a.json"], "--output .*nowhere doesn't exist"),
        (["--predictions", "{}/nowhere/a.jsonl"], "--predictions .*nowhere doesn't exist"),
        (["--checkpoint", "{}/nowhere"], "nowhere does not exist; expected a model directory"),
        (["{}/nothing"], "nothing does not exist; the nearest folder"),
    ],
)
def test_errors_in_words(root, tiny_model, options, message, capsys):
    options = [option.format(root) for option in options]
    error = error_of(root, "--checkpoint", tiny_model, *options, capsys=capsys)
    assert error.startswith("error: ") and re.search(message, error), error


def test_help_explains_the_normalizations(capsys):
    with pytest.raises(SystemExit):
        evaluate.main(["--help"])
    assert "published CLIP4STR numbers" in " ".join(capsys.readouterr().out.split())


def test_readers_can_tell_json_apart(finished, outputs):
    """The file holds plain JSON: no NaN, no Infinity."""
    json.loads((outputs / "two.json").read_text(), parse_constant=lambda name: pytest.fail(name))
