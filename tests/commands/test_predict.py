"""The commands that read word images and detect text in photos."""

import json
import re
import sys

import numpy as np
import pytest
from PIL import Image

from tcm_jax import predict
from tcm_jax.commands import detect as detect_command
from tcm_jax.commands.images import find_images
from tcm_jax.detection.detector import Detector
from tcm_jax.images.decoding import encode_png
from tests.conftest import read_jsonl


@pytest.fixture
def folder(tmp_path):
    folder = tmp_path / "words"
    (folder / "more").mkdir(parents=True)
    for number, name in enumerate(("a.png", "b.png", "more/c.png")):
        pixels = np.random.default_rng(number).integers(0, 256, (20, 40, 3), np.uint8)
        (folder / name).write_bytes(encode_png(pixels))
    return folder


def runner(capsys, *start):
    """A function that runs the command; it returns its lines on stdout and all of stderr."""

    def run(*arguments, code=None):
        command = list(map(str, (*start, *arguments)))
        if code is None:
            predict.main(command)
            captured = capsys.readouterr()
            return captured.out.splitlines(), captured.err
        with pytest.raises(SystemExit) as exit:
            predict.main(command)
        captured = capsys.readouterr()
        # Python prints a message as exit code on stderr and exits with 1.
        assert (1 if isinstance(exit.value.code, str) else exit.value.code) == code
        return captured.out.splitlines(), captured.err + str(exit.value.code)

    return run


@pytest.fixture
def run(tiny_model, capsys):
    return runner(capsys, "read", "--checkpoint", tiny_model, "--quiet")


@pytest.fixture
def detect(tiny_detector, capsys):
    return runner(capsys, "detect", "--checkpoint", tiny_detector, "--quiet")


def test_lines_json_and_picture(run, folder, tmp_path):
    output, sheet = tmp_path / "out.jsonl", tmp_path / "sheet.png"
    lines, _ = run(folder, folder / "more/*.png", "--output", output, "--picture", sheet)
    rows = [json.loads(line) for line in output.read_text().splitlines()]
    assert [row["name"] for row in rows] == [str(folder / name) for name in ("a.png", "b.png", "more/c.png")]
    assert lines == [f"{row['name']}\t{row['text']}\t{row['confidence']:.4f}" for row in rows]
    for row in rows:
        assert set(row) == {"schema_version", "name", "text", "confidence", "char_confidences", "raw_text"}
        assert row["schema_version"] == 1 and len(row["char_confidences"]) == len(row["text"])
    assert Image.open(sheet).size[0] > 100
    assert sorted(path.name for path in tmp_path.iterdir()) == ["out.jsonl", "sheet.png", "words"]


def test_expected_characters_and_words(run, folder, tmp_path):
    assert set("".join(line.split("\t")[1] for line in run(folder, "--allow", "a-c")[0])) <= set("abc")
    (tmp_path / "words.txt").write_text("open\nclosed\n")
    lines, _ = run(folder, "--lexicon", tmp_path / "words.txt", "--lexicon-distance", 1)
    assert {line.split("\t")[1] for line in lines} <= {"open", "closed"}


def test_unreadable_files_dont_stop_the_others(run, folder):
    (folder / "aa.png").write_bytes(b"broken")
    lines, errors = run(folder, folder / "nowhere.png", "--json", code=1)
    assert [json.loads(line)["name"] for line in lines] == [str(folder / "a.png"), str(folder / "b.png")]
    assert f"error: {folder}/aa.png: not a readable image file" in errors
    assert f"error: {folder}/nowhere.png: No such file" in errors
    assert "2 of 4 images can't be read" in errors


def test_only_unreadable_files(run, tmp_path):
    (tmp_path / "a.png").write_bytes(b"broken")
    lines, errors = run(tmp_path, "--picture", tmp_path / "sheet.png", code=1)
    assert lines == [] and "1 of 1 images can't be read" in errors
    assert not (tmp_path / "sheet.png").exists()


@pytest.mark.parametrize(
    "arguments, message",
    [
        (["{}/empty"], "/empty has no image files"),
        (["{}/*.gif"], "no file matches"),
        (["{}/a.png", "--output", "{}/nowhere/out.jsonl"], "--output .*nowhere doesn't exist"),
        (["{}/a.png", "--picture", "{}/sheet.doc"], "sheet.doc: no picture format"),
        (["{}/a.png", "--checkpoint", "{}/nowhere"], "nowhere does not exist; expected a model directory"),
        (["{}/a.png", "--batch", "0"], "batch_size is 0"),
    ],
)
def test_errors_in_words(run, folder, arguments, message):
    (folder / "empty").mkdir()
    lines, errors = run(*(argument.format(folder) for argument in arguments), code=1)
    assert lines == []
    assert errors.startswith("error: ")
    assert re.search(message, errors)


def test_a_name_with_brackets_is_no_pattern(folder):
    path = str((folder / "a.png").rename(folder / "word[1].png"))
    assert find_images([path]) == [path]


def test_detections_and_overlays(detect, photos, tmp_path):
    out = tmp_path / "new/out"
    for _ in range(2):  # a second run into the same folder is like the first
        lines, errors = detect(photos, photos / "more/*.jpg", "--out", out)
        rows = read_jsonl(out / "detections.jsonl")
        names = [str(photos / name) for name in ("a.png", "b.png", "more/a.jpg")]
        assert [row["image"] for row in rows] == names and errors == ""
        assert lines == [f"{row['image']}\t{len(row['instances'])}" for row in rows]
        assert [row["overlay"] for row in rows] == ["a.jpg", "b.jpg", "a-2.jpg"]
        assert sorted(path.name for path in out.iterdir()) == ["a-2.jpg", "a.jpg", "b.jpg", "detections.jsonl"]
    for row in rows:
        assert set(row) == {"schema_version", "image", "width", "height", "instances", "overlay"}
        assert (row["schema_version"], row["width"], row["height"]) == (1, 120, 90)
        assert len(row["instances"]) > 0 and set(row["instances"][0]) == {"polygon", "score"}
        assert Image.open(out / row["overlay"]).size[0] > 2 * 640  # two panels


def test_detections_without_files(detect, photos, monkeypatch):
    monkeypatch.chdir(photos)
    lines, _ = detect("a.png", "--json")
    assert json.loads(lines[0])["image"] == "a.png"
    assert sorted(path.name for path in photos.iterdir()) == ["a.png", "b.png", "more"]


def test_detections_without_overlays(detect, photos, tmp_path):
    detect(photos, "--out", tmp_path / "out", "--no-overlay")
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["detections.jsonl"]
    assert "overlay" not in read_jsonl(tmp_path / "out/detections.jsonl")[0]


def test_options_of_detection(detect, photos, monkeypatch):
    made = []

    class Recording(Detector):
        def __init__(self, *arguments, **options):
            super().__init__(*arguments, **options)
            made.append(self)

    monkeypatch.setattr(detect_command, "Detector", Recording)
    detect(photos / "a.png")
    settings = ("score_threshold=.9", "approximate=False", "max_candidates=7", "text_representation=poly")
    detect(
        photos / "a.png", "--scale", 160, 64, "--exact", "--ignore-exif", "--dtype", "bfloat16",
        *(argument for setting in settings for argument in ("--set", setting)),
    )  # fmt: skip
    default, one = made
    assert (default.options.canvases, default.options.upright, default.model.dtype) == ("few", True, "float32")
    assert (one.options.canvases, one.options.upright, one.model.dtype) == ("exact", False, "bfloat16")
    assert one.options.scales == [(160, 64)]
    decoder = one.model.network.detector.decoding
    assert (decoder.score_threshold, decoder.approximate, decoder.max_candidates) == (0.9, False, 7)
    assert decoder.text_representation == "poly"


def test_broken_photos_dont_stop_the_others(detect, photos, tmp_path):
    (photos / "aa.png").write_bytes((photos / "a.png").read_bytes()[:60])
    lines, errors = detect(photos, photos / "nowhere.png", "--out", tmp_path / "out", code=1)
    assert len(lines) == len(read_jsonl(tmp_path / "out/detections.jsonl")) == 2
    assert "aa.png: damaged or truncated PNG" in errors and "nowhere.png: No such file" in errors
    assert "2 of 4 images can't be read" in errors
    assert not (tmp_path / "out/aa.jpg").exists()


def test_interrupted_detection(detect, photos, tmp_path, monkeypatch):
    """Ctrl-C keeps what is done, whole."""
    stream = Detector.stream

    def interrupted(*arguments, **options):
        yield next(stream(*arguments, **options))
        raise KeyboardInterrupt

    detect(photos, "--out", tmp_path / "out")
    monkeypatch.setattr(Detector, "stream", interrupted)
    _, errors = detect(photos, "--out", tmp_path / "out", code=130)
    assert "interrupted after 1 of 2 images" in errors
    assert [row["image"] for row in read_jsonl(tmp_path / "out/detections.jsonl")] == [str(photos / "a.png")]
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["a.jpg", "b.jpg", "detections.jsonl"]
    Image.open(tmp_path / "out/a.jpg").load()


def test_progress_of_detection(tiny_detector, photos, capsys, monkeypatch):
    """A bar on a terminal, for more than one photo."""
    command = ["detect", "--checkpoint", str(tiny_detector)]
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    predict.main([*command, str(photos)])
    output = capsys.readouterr()
    assert "2/2" in output.err and "images" in output.err and len(output.out.splitlines()) == 2
    predict.main([*command, str(photos / "a.png")])
    assert "1/1" not in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["{}/a.png", "--out", "{}"], "--out .* holds images that are read"),
        (["{}/a.png", "--out", "{}/a.png"], "File exists"),
        (["{}/a.png", "--checkpoint", "{}/nowhere"], "nowhere does not exist; expected a model directory"),
        (["{}/a.png", "--set", "score_threshold"], "--set score_threshold: expected NAME=VALUE"),
        (["{}/a.png", "--set", "score_treshold=1"], "did you mean 'score_threshold'"),
        (["{}/a.png", "--set", "score_threshold=high"], "score_threshold is 'high'; expected float"),
        (["{}/a.png", "--scale", "0", "10"], "scale is .0, 10."),
    ],
)
def test_errors_of_detection_in_words(detect, photos, arguments, message):
    lines, errors = detect(*(argument.format(photos) for argument in arguments), code=1)
    assert lines == [] and errors.startswith("error: ") and re.search(message, errors)


def test_the_other_task(detect, run, photos, tiny_model, tiny_detector):
    _, errors = detect(photos, "--checkpoint", tiny_model, code=1)
    assert "is a model for 'recognition'; detecting text needs one for 'detection'" in errors
    _, errors = run(photos, "--checkpoint", tiny_detector, code=1)
    assert "is a model for 'detection'; reading words needs one for 'recognition'" in errors
