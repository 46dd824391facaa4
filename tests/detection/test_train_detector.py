"""Whole runs of a tiny detector on rendered scenes; the same shapes and steps, so that one compilation serves all."""

import json
import os
import runpy
import signal
from pathlib import Path

import numpy as np
import pytest

from tcm_jax import Detector, pretrained
from tcm_jax.commands import train
from tcm_jax.distributed.interrupt import Interrupted
from tcm_jax.images.decoding import encode_png
from tcm_jax.tasks import parse
from tcm_jax.training.config import ConfigError
from tcm_jax.training.report import RunLog
from tests.conftest import read_json
from tests.training.conftest import compiled_programs

RECIPE = runpy.run_path(str(Path(__file__).parents[2] / "configs" / "tcm_db.py"))


@pytest.fixture
def config() -> dict:
    return RECIPE["get_config"]("tiny").to_dict() | {
        "dtype": "float32",
        "steps": 4,
        "checkpoint": {"every": 2, "keep": 2},
    }


@pytest.fixture(scope="session")
def finished(made_once) -> Path:
    """The working directory of a run without a break, and what it compiled in compiled.json."""

    def make(workdir: Path) -> None:
        config = RECIPE["get_config"]("tiny").to_dict() | {"dtype": "float32"}
        with compiled_programs() as programs:
            train.run(config | {"eval": config["eval"] | {"every": 2}, "checkpoint": {"every": 2, "keep": 2}}, workdir)
        (workdir / "compiled.json").write_text(json.dumps(programs))

    return made_once("trained-detector", make)


def weights(workdir: Path) -> dict[str, np.ndarray]:
    return pretrained.flatten(pretrained.load(workdir / "last").variables)


def test_what_a_run_leaves(finished):
    lines = [json.loads(line) for line in (finished / "metrics.jsonl").read_text().splitlines()]
    assert [line["step"] for line in lines if line["of"] == "train"] == [1, 2, 3, 4]
    assert lines[0].keys() >= {"loss", "loss_prob", "loss_db", "loss_thr", "loss_score_map", "grad_norm", "lr"}
    assert lines[-1]["of"] == "validation/scenes"
    model = pretrained.load(finished / "last")
    assert model.task == "detection" and set(model.variables) == {"params", "batch_stats"}
    assert model.inference["scale"] == [160, 96]
    assert any(path.endswith("mean") and np.any(x) for path, x in weights(finished).items())  # statistics were kept
    assert isinstance(Detector(finished, quiet=True).detect(np.zeros((64, 96, 3), np.uint8)).instances, tuple)


@pytest.mark.slow
def test_an_interrupted_run_goes_on_as_if_nothing_had_happened(tmp_path, monkeypatch, config, finished):
    write = RunLog.write

    def interrupt(self, done, *args, **kwargs):
        write(self, done, *args, **kwargs)
        if done == 2:
            os.kill(os.getpid(), signal.SIGTERM)

    with monkeypatch.context() as patch:
        patch.setattr(RunLog, "write", interrupt)
        with pytest.raises(Interrupted):
            train.run(config, tmp_path)
    train.run(config, tmp_path)
    mine, expected = weights(tmp_path), weights(finished)
    assert mine.keys() == expected.keys()
    for path in expected:
        np.testing.assert_array_equal(mine[path], expected[path], err_msg=path)


def test_nothing_is_compiled_after_the_first_step_and_the_first_validation(finished):
    compiled = read_json(finished / "compiled.json")
    assert "jit(train_step)" in " ".join(compiled["train 1"])
    assert compiled["train 2"] == compiled["train 1"]
    assert len(compiled["validation/scenes 2"]) > len(compiled["train 2"])
    # The checkpoint of step 2 is written in between.
    assert compiled["train 3"] == compiled["validation/scenes 4"]


@pytest.mark.slow
def test_starting_from_a_detector(tmp_path, config, finished, capsys):
    train.run(config | {"init": str(finished)}, tmp_path)
    assert f"{finished / 'best'}: loaded {len(weights(finished))} tensors" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("section", "values", "message"),
    [
        ("optim", {"method": "adamax"}, "config.optim.method is 'adamax'; expected one of adam"),
        ("optim", {"lr_multiplier": {}}, "config.optim has no field 'lr_multiplier'; did you mean 'lr_multipliers'"),
        ("optim", {"power": -1.0}, "config.optim.power is -1.0"),
        ("data", {"augment": {"crop": 100}}, "crop"),
        ("data", {"augment": {"flipp": 1}}, "config.data.augment has no field 'flipp'; did you mean 'flip'"),
        ("data", {"train": [{"path": "x", "fromat": "mlt"}]}, r"config.data.train\[0\] has no field 'fromat'"),
        ("model", {"family": "dbnet"}, "config.model.family is 'dbnet'; expected one of db, pan, fce"),
        ("inference", {"scales": (1, 2)}, "config.inference has no field 'scales'; did you mean 'scale'"),
        ("inference", {"coarse_scales": (384,)}, "scale is 384"),
    ],
)
def test_mistakes_are_named(config, section, values, message):
    with pytest.raises(ConfigError, match=message):
        parse(config | {section: config[section] | values})


def test_poly_falls_by_the_epoch_or_by_the_step(config):
    """Power 1 and no least rate: 1 - e / epochs."""
    optim = config["optim"] | {"lr": 1.0, "power": 1.0, "min_lr": 0.0}
    by_step = parse(config | {"optim": optim, "steps": 4}).optimizer({"a": np.zeros(1)}, records=100)
    assert [float(by_step.schedule(1.0)(step)) for step in range(4)] == [1.0, 0.75, 0.5, 0.25]
    by_epoch = parse(config | {"optim": optim, "steps": 0, "epochs": 2, "batch": 2}).optimizer(
        {"a": np.zeros(1)}, records=4
    )
    assert [float(by_epoch.schedule(0.5)(step)) for step in range(4)] == [0.5, 0.5, 0.25, 0.25]


GOOD = [[30, 60], [90, 60], [90, 90], [30, 90]]
PHOTOS = [  # the polygons of each
    [GOOD, [[10, 10], [60, 12], [30, 40]]],  # three points
    [GOOD, [[10, 10], [60, 50], [60, 10], [10, 50]]],  # crosses itself
    [GOOD, [[200, 200], [260, 200], [260, 240], [200, 240]]],  # outside
    [GOOD, [[-20, 20], [40, 20], [40, 60], [-20, 60]]],  # partly outside
    [GOOD, [[5, 5], [50, 5], [90, 5], [20, 5]]],  # no area
    [GOOD, [[5, 5], [float("nan"), 5], [50, 30], [5, 30]], [[5, 5], [50, 30]]],  # not finite; two points
    [],
    [GOOD],  # can't be decoded
]


def photos(folder: Path) -> Path:
    """A folder with `PHOTOS`."""
    (folder / "images").mkdir(parents=True)
    rows = []
    for i, polygons in enumerate(PHOTOS):
        data = encode_png(np.random.default_rng(i).integers(0, 256, (96, 96, 3), np.uint8))
        (folder / "images" / f"{i}.png").write_bytes(data if i < len(PHOTOS) - 1 else data[:100])
        instances = [{"polygon": polygon, "text": "word", "ignore": False} for polygon in polygons]
        rows.append({"image": f"images/{i}.png", "width": 96, "height": 96, "instances": instances})
    (folder / "labels.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return folder


@pytest.mark.slow
@pytest.mark.parametrize("recipe", ["tcm_db", "tcm_pan", "tcm_fce"])
def test_hard_annotations_are_trained_on_and_evaluated(tmp_path, recipe, capsys):
    config = runpy.run_path(str(Path(__file__).parents[2] / "configs" / f"{recipe}.py"))["get_config"]("tiny").to_dict()
    photos(tmp_path / "photos")
    config["data"] |= {"root": str(tmp_path), "train": [{"path": "photos"}]}
    config["eval"] = {"every": 0, "sources": [{"name": "hard", "path": "photos"}]}
    train.run(config, tmp_path / "run")
    output = capsys.readouterr().out
    assert "1 without area" in output and "1 with coordinates that are not finite" in output
    assert "1 with fewer than 3 points" in output
    lines = [json.loads(line) for line in (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()]
    assert (
        sum(line.get("undecodable", 0) for line in lines if line["of"] == "train") == 1
    )  # four steps of two: an epoch
    assert np.isfinite([line["loss"] for line in lines if line["of"] == "train"]).all()
    (validation,) = (line for line in lines if line["of"] == "validation/hard")
    assert (validation["num_photos"], validation["undecodable"]) == (8, 1)
    assert validation["num_truth"] == 7 + 4  # the good one of seven photos, and four of the others


@pytest.mark.slow
def test_photos_without_any_text_can_be_learned_from(tmp_path, config):
    (tmp_path / "images").mkdir()
    (tmp_path / "images" / "a.png").write_bytes(encode_png(np.full((96, 96, 3), 90, np.uint8)))
    (tmp_path / "labels.jsonl").write_text('{"image": "images/a.png", "width": 96, "height": 96, "instances": []}\n')
    config["data"] |= {"root": str(tmp_path), "train": [{"path": "labels.jsonl"}]}
    config["eval"] = {"every": 0, "sources": [{"name": "empty", "path": "labels.jsonl"}]}
    train.run(config, tmp_path / "run")
    lines = [json.loads(line) for line in (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()]
    assert np.isfinite([line["loss"] for line in lines if line["of"] == "train"]).all()
    assert [line["num_truth"] for line in lines if line["of"] == "validation/empty"] == [0]
