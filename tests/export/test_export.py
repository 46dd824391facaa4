"""Exported programs: equal to the model in a process that has nothing but JAX and NumPy."""

import ast
import json
import subprocess
import sys
from pathlib import Path

import jax
import numpy as np
import pytest

from tcm_jax import Detector, Recognizer
from tcm_jax.commands import export as command
from tcm_jax.export.compare import Comparison
from tcm_jax.images.canvas import bucket_sizes, prepare
from tcm_jax.recognition.words import words
from tests.tiny_detector import SCALE, TINY_DETECTORS, write_tiny_detector
from tests.tiny_model import write_tiny_model

BARE = """
import runpy, sys
runpy.run_path("run.py", run_name="__main__")
foreign = {"tcm_jax", "flax", "cv2", "PIL", "orbax", "optax"} & set(sys.modules)
assert not foreign, foreign
"""


def exported(model: Path, folder: Path, *options: str) -> dict:
    """The manifest of a model that was exported for the CPU."""
    command.main([str(model), "--output", str(folder), "--platforms", "cpu", *options])
    return json.loads((folder / "manifest.json").read_text())


def run(folder: Path, **inputs: np.ndarray) -> tuple[dict[str, np.ndarray], dict[str, str]]:
    """What run.py makes of the inputs, in another process: arrays, and what it prints of each input."""
    np.savez(folder / "inputs.npz", **inputs)
    done = subprocess.run([sys.executable, "-c", BARE, "inputs.npz", "outputs.npz"], cwd=folder, capture_output=True)
    assert done.returncode == 0, done.stderr.decode()
    printed = dict(line.split(" ", 1) for line in done.stdout.decode().splitlines())
    return dict(np.load(folder / "outputs.npz")), printed


def noise(*shape: int) -> np.ndarray:
    return np.random.default_rng(len(shape)).integers(0, 256, shape, np.uint8)


@pytest.mark.slow
def test_a_recognizer_for_any_number_of_words(tmp_path, capsys):
    write_tiny_model(tmp_path / "model")
    manifest = exported(tmp_path / "model", tmp_path / "served" / "words")  # whose parent does not exist
    assert manifest["programs"] == [{"file": "32x32.stablehlo", "canvas": [32, 32]}]
    assert manifest["platforms"] == ["cpu"]
    assert manifest["license"] == "CC0-1.0"
    assert "8 of 8 words equal" in capsys.readouterr().out

    one, five = noise(1, 32, 32, 3), noise(5, 32, 32, 3)
    outputs, printed = run(tmp_path / "served" / "words", one=one, five=five)
    model = Recognizer(tmp_path / "model", quiet=True).model
    for name, images in ("one", one), ("five", five):
        ours = model.predict(model.contents.variables, images)
        np.testing.assert_array_equal(outputs[f"{name}/ids"], ours.ids)
        np.testing.assert_allclose(outputs[f"{name}/probabilities"], ours.probabilities, atol=1e-5)
        texts, probabilities = zip(*ast.literal_eval(printed[name]), strict=True)
        expected = words(model.network.tokenizer, ours)
        assert texts == tuple(word.text for word in expected)
        np.testing.assert_allclose(probabilities, [word.confidence for word in expected], rtol=1e-4)


@pytest.mark.parametrize(
    "family", [pytest.param(f, marks=() if f == "db" else pytest.mark.slow) for f in TINY_DETECTORS]
)
def test_a_detector_for_all_canvases(tmp_path, family, capsys):
    write_tiny_detector(tmp_path / "model", family)
    manifest = exported(tmp_path / "model", tmp_path / "exported", "--scale", "64", "64")
    canvases = bucket_sizes((64, 64))  # 64 x 64, 64 x 32, 32 x 64
    assert [tuple(program["canvas"]) for program in manifest["programs"]] == list(canvases)
    assert capsys.readouterr().out.count("largest difference") == 2 * len(canvases)
    assert "clip_model/text_projection" not in np.load(tmp_path / "exported" / "weights.npz")  # its result is there

    detector = Detector(tmp_path / "model", scale=(64, 64), quiet=True)
    image = noise(60, 71, 3)
    prepared = prepare(image, (64, 64))
    outputs, _ = run(tmp_path / "exported", image=prepared.canvas[: prepared.size[0], : prepared.size[1]])
    sizes = np.array([prepared.size], np.int32)
    text = detector.model.network.text_embedding(detector.model.contents.variables)
    maps, score_map = detector.model.predict(detector.model.contents.variables, prepared.canvas[None], sizes, text)
    leaves = jax.tree.leaves(maps)
    assert set(outputs) == {"image/score_map", *(f"image/map_{i}" for i in range(len(leaves)))}
    for i, leaf in enumerate(leaves):
        np.testing.assert_allclose(outputs[f"image/map_{i}"], leaf, atol=1e-4)
    np.testing.assert_allclose(outputs["image/score_map"], score_map, atol=1e-4)

    np.savez(tmp_path / "exported" / "inputs.npz", image=noise(*SCALE, 3))
    command_line = [sys.executable, "run.py", "inputs.npz", "outputs.npz"]
    done = subprocess.run(command_line, cwd=tmp_path / "exported", capture_output=True)
    assert b"no program fits an image of 192 x 96 pixels" in done.stderr


def test_a_program_that_differs_from_the_model_is_refused():
    Comparison((32, 32), 4, "images", 1e-5, 4).check("float32")
    for comparison in Comparison((32, 32), 4, "images", 2e-4, 4), Comparison((32, 32), 4, "images", 0.0, 3):
        with pytest.raises(ValueError, match="differs from the model: 32 x 32, 4 of images"):
            comparison.check("float32")
    with pytest.raises(ValueError, match="nan"):
        Comparison((32, 32), 4, "images", float("nan"), 4).check("float32")


def test_nothing_is_left_of_an_export_that_fails(tmp_path, monkeypatch):
    write_tiny_model(tmp_path / "model")
    monkeypatch.setattr("tcm_jax.export.compare._difference", lambda *_: 1.0)
    with pytest.raises(SystemExit, match="the exported program differs from the model"):
        exported(tmp_path / "model", tmp_path / "exported")
    assert [path.name for path in tmp_path.iterdir()] == ["model"]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--scale", "128", "96"], "--scale is for detectors"),
        (["--images", "missing.jpg"], "missing.jpg"),
    ],
)
def test_mistakes_are_named(tmp_path, options, message):
    write_tiny_model(tmp_path / "model")
    with pytest.raises(SystemExit, match=message):
        exported(tmp_path / "model", tmp_path / "exported", *options)
    (tmp_path / "taken").mkdir()
    with pytest.raises(SystemExit, match="taken exists"):
        exported(tmp_path / "model", tmp_path / "taken")
