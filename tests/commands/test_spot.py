"""The command that reads the text in photos."""

import json
import re
import sys
import zipfile

import pytest
from PIL import Image

from tcm_jax import predict
from tcm_jax.commands import spot
from tcm_jax.spotting.spotter import Spotter
from tests.conftest import read_json, read_jsonl


@pytest.fixture
def run(tiny_detector, tiny_model, capsys):
    """A function that runs the command; it returns its lines on stdout and all of stderr."""
    models = ["--detector", tiny_detector, "--recognizer", tiny_model, "--min-score", 0]

    def run(*arguments, code=0):
        found = None
        try:
            spot.main(list(map(str, (*models, *arguments))))
        except SystemExit as exit:
            found = exit.code
        captured = capsys.readouterr()
        # Python prints a message as exit code on stderr and exits with 1.
        assert (1 if isinstance(found, str) else found or 0) == code
        return captured.out.splitlines(), captured.err + str(found)

    return run


def test_words_and_lines(run, photos):
    """Tables of path, text and score; --lines joins words, --json has all of it."""
    rows = [json.loads(line) for line in run(photos, "--json")[0]]
    assert [row["image"] for row in rows] == [str(photos / name) for name in ("a.png", "b.png")]
    assert all(len(row["words"]) > 1 for row in rows)
    lines, _ = run(photos)
    assert lines == [f"{row['image']}\t{word['text']}\t{word['score']:.4f}" for row in rows for word in row["words"]]
    lines, _ = run(photos / "a.png", "--lines")
    assert len(lines) == len({word["line"] for word in rows[0]["words"]})
    for number, line in enumerate(lines):
        words = [word for word in rows[0]["words"] if word["line"] == number]
        score = min(word["score"] for word in words)
        assert line == f"{photos}/a.png\t{' '.join(word['text'] for word in words)}\t{score:.4f}"


def test_photos_without_words(run, photos):
    lines, errors = run(photos, "--min-score", 1)
    assert lines == [] and f"{photos}/b.png: no words found" in errors
    assert "no words" not in run(photos / "a.png", "--min-score", 1, "--quiet")[1]


def test_files_and_pictures(run, photos, tmp_path):
    """Any number of outputs at once; photos of the same name have pictures of different names."""
    out = tmp_path / "new/out"
    files = [tmp_path / name for name in ("w.json", "w.hocr", "w.txt")]
    arguments = [argument for file in files for argument in ("--output", file)]
    lines, _ = run(photos, photos / "more/*.jpg", *arguments, "--out", out, "--json")
    rows = [json.loads(line) for line in lines]
    assert read_jsonl(out / "words.jsonl") == read_json(files[0])["photos"] == rows and len(rows) == 3
    assert files[1].read_text().count('"ocrx_word"') == sum(len(row["words"]) for row in rows)
    assert files[2].read_text().startswith(f"== {photos}/a.png ==\n")
    assert sorted(path.name for path in out.iterdir()) == ["a-2.jpg", "a.jpg", "b.jpg", "words.jsonl"]
    assert Image.open(out / "a-2.jpg").size[0] == 640
    run(photos / "a.png", "--output", tmp_path / "one.png", "--output", tmp_path / "one.zip")
    assert Image.open(tmp_path / "one.png").size[0] == 640
    assert zipfile.ZipFile(tmp_path / "one.zip").namelist() == ["res_a.txt"]


def test_options(run, photos, monkeypatch, tmp_path):
    made = []
    load = Spotter.load

    def recording(*arguments, **options):
        made.append((load(*arguments, **options), options))
        return made[-1][0]

    monkeypatch.setattr(Spotter, "load", recording)
    (tmp_path / "words.txt").write_text("open\nclosed\n")
    run(photos / "a.png")
    lines, _ = run(
        photos / "a.png", "--min-score", 0.25, "--score-threshold", 0.4, "--scale", 160, 64, "--ignore-exif",
        "--dtype", "bfloat16", "--vocabulary-weight", 3, "--allow", "a-c",
        "--lexicon", tmp_path / "words.txt", "--lexicon-distance", 1,
    )  # fmt: skip
    (default, _), (one, options) = made
    assert (default.detector.options.upright, default.detector.model.dtype) == (True, "float32")
    assert one.min_score == 0.25 and one.detector.model.network.detector.decoding.score_threshold == 0.4
    assert (one.detector.options.scales, one.recognizer.model.dtype) == ([(160, 64)], "bfloat16")
    assert not one.detector.options.upright
    assert default.recognizer.options.dictionary_prior == 1 and one.recognizer.options.dictionary_prior == 3
    assert (options["reading"].allow, options["reading"].on_disallowed, options["reading"].lexicon_distance) == (
        "a-c",
        "mask",
        1,
    )
    assert {line.split("\t")[1] for line in lines} <= {"open", "closed"}


def test_allowed_characters(run, photos):
    texts = [line.split("\t")[1] for line in run(photos / "a.png", "--allow", "a-c")[0]]
    assert texts and set("".join(texts)) <= set("abc")


def test_broken_photos_dont_stop_the_others(run, photos, tmp_path):
    (photos / "aa.png").write_bytes((photos / "a.png").read_bytes()[:60])
    output = tmp_path / "words.jsonl"
    _, errors = run(photos, photos / "nowhere.png", "--output", output, code=1)
    assert len(read_jsonl(output)) == 2
    assert "aa.png: damaged or truncated PNG" in errors and "nowhere.png: No such file" in errors
    assert "2 of 4 images can't be read" in errors


def test_interrupted(run, photos, tmp_path, monkeypatch):
    """Ctrl-C keeps what is done, whole."""
    stream = Spotter.stream

    def interrupted(*arguments, **options):
        yield next(stream(*arguments, **options))
        raise KeyboardInterrupt

    monkeypatch.setattr(Spotter, "stream", interrupted)
    output = tmp_path / "words.json"
    _, errors = run(photos, "--out", tmp_path / "out", "--output", output, code=130)
    assert "interrupted after 1 of 2 images" in errors
    assert [row["image"] for row in read_json(output)["photos"]] == [str(photos / "a.png")]
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["a.jpg", "words.jsonl"]


def test_progress(run, photos, monkeypatch):
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    assert "2/2" in run(photos)[1] and "2/2" not in run(photos, "--quiet")[1]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["{}/a.png", "--output", "{}/words.doc"], "words.doc: unknown ending '.doc'; expected one of .json"),
        (["{}/a.png", "{}/b.png", "--output", "{}/all.png"], "holds one picture, and there are 2 images"),
        (["{}/a.png", "{}/more/a.jpg", "--output", "{}/a.zip"], "would both be res_a.txt"),
        (["{}/a.png", "--out", "{}"], "--out .* holds images that are read"),
        (["{}/*.gif"], "no file matches"),
        (["{}/a.png", "--detector", "{}/nowhere"], "nowhere does not exist; expected a model directory"),
        (["{}/a.png", "--min-score", "2"], "min_score is 2"),
        (["{}/a.png", "--lexicon", "{}/nowhere.txt"], "nowhere.txt"),
        (["{}/a.png", "--allow", "\u6f22"], "\u6f22"),
    ],
)
def test_errors_in_words(run, photos, arguments, message):
    lines, errors = run(*(argument.format(photos) for argument in arguments), code=1)
    assert lines == [] and "error: " in errors and re.search(message, errors)
    assert sorted(path.name for path in photos.iterdir()) == ["a.png", "b.png", "more"]


def test_models_of_the_package(photos, monkeypatch, tiny_detector, tiny_model, capsys):
    """They are used where no other is named."""
    monkeypatch.setattr("tcm_jax.detection.detector.DETECTOR", tiny_detector)
    monkeypatch.setattr("tcm_jax.recognition.recognizer.RECOGNIZER", tiny_model)
    spot.main([str(photos / "a.png"), "--min-score", "0"])
    predict.main(["detect", str(photos / "a.png")])
    predict.main(["read", str(photos / "a.png")])
    assert len(capsys.readouterr().out.splitlines()) >= 3
