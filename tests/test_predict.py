"""The command that reads images."""

import json
import re

import numpy as np
import pytest
from PIL import Image

from tcm_jax import predict
from tcm_jax.data.images import encode_png


@pytest.fixture
def folder(tmp_path):
    folder = tmp_path / "words"
    (folder / "more").mkdir(parents=True)
    for number, name in enumerate(("a.png", "b.png", "more/c.png")):
        pixels = np.random.default_rng(number).integers(0, 256, (20, 40, 3), np.uint8)
        (folder / name).write_bytes(encode_png(pixels))
    return folder


@pytest.fixture
def run(tiny_model, capsys):
    """Runs the command; returns its lines on stdout and all of stderr."""

    def run(*arguments, code=None):
        command = ["read", "--checkpoint", str(tiny_model), "--quiet", *map(str, arguments)]
        if code is None:
            predict.main(command)
            captured = capsys.readouterr()
            return captured.out.splitlines(), captured.err
        with pytest.raises(SystemExit) as exit:
            predict.main(command)
        captured = capsys.readouterr()
        assert exit.value.code not in (0, None)
        return captured.out.splitlines(), captured.err + str(exit.value.code)

    return run


def test_lines_json_and_picture(run, folder, tmp_path):
    output, sheet = tmp_path / "out.jsonl", tmp_path / "sheet.png"
    lines, _ = run(folder, folder / "more/*.png", "--output", output, "--picture", sheet)
    rows = [json.loads(line) for line in output.read_text().splitlines()]
    assert [row["name"] for row in rows] == [str(folder / name) for name in ("a.png", "b.png", "more/c.png")]
    assert lines == [f"{row['name']}\t{row['text']}\t{row['confidence']:.4f}" for row in rows]
    for row in rows:
        assert set(row) == {"schema_version", "name", "text", "confidence", "char_confidences"}
        assert row["schema_version"] == 1 and len(row["char_confidences"]) == len(row["text"])
    assert Image.open(sheet).size[0] > 100
    assert sorted(path.name for path in tmp_path.iterdir()) == ["out.jsonl", "sheet.png", "words"]


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
    assert predict._find_images([path]) == [path]
