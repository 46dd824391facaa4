"""Complete runs of a tiny recognizer on synthetic words."""

import json
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import jax
import numpy as np
import pytest

from tcm_jax import pretrained
from tcm_jax.commands import train
from tcm_jax.distributed.interrupt import Interrupted
from tcm_jax.training.config import ConfigError
from tcm_jax.training.report import RunLog
from tcm_jax.training.workdir import ResumeError
from tests.conftest import read_json
from tests.training.conftest import CONFIG, compiled_programs

VALIDATION = [{"name": "words", "max_samples": 8, "synthetic": {"seed": 1, "split": "test", "size": 16}}]
INFERENCE = {"views": (0.0, 0.1)}


@pytest.fixture(scope="session")
def finished(made_once) -> Path:
    """The working directory of a run without a break, and what it compiled in compiled.json."""

    def make(workdir: Path) -> None:
        validation = {"every": 3, "batch": 8, "sources": VALIDATION}
        with compiled_programs() as programs:
            train.run(CONFIG | {"eval": validation, "inference": INFERENCE, "profile_steps": 2}, workdir)
        (workdir / "compiled.json").write_text(json.dumps(programs))

    return made_once("trained-recognizer", make)


@pytest.fixture
def config(config) -> dict:
    config["eval"]["sources"] = VALIDATION
    config["inference"] = INFERENCE
    return config


def lines(workdir: Path) -> list[dict]:
    """The lines of metrics.jsonl, without what depends on the clock."""
    found = [json.loads(line) for line in (workdir / "metrics.jsonl").read_text().splitlines()]
    clock = ("time", "data_wait", "step_time", "images_per_second", "images_per_second_per_device")
    return [{k: v for k, v in line.items() if k not in clock} for line in found]


def weights(workdir: Path, name: str = "last") -> dict[str, np.ndarray]:
    return pretrained.flatten(pretrained.load(workdir / name).variables)


def assert_same(workdir: Path, finished: Path) -> None:
    """Both runs ended with the same weights, bit for bit, and wrote the same metrics."""
    mine, expected = weights(workdir), weights(finished)
    assert mine.keys() == expected.keys()
    for path in expected:
        np.testing.assert_array_equal(mine[path], expected[path], err_msg=path)
    assert lines(workdir) == lines(finished)


def test_what_a_run_leaves(finished):
    training = [line for line in lines(finished) if line["of"] == "train"]
    assert [line["step"] for line in training] == [1, 2, 3, 4, 5, 6]
    assert training[0].keys() >= {
        "loss",
        "visual_loss",
        "cross_loss",
        "grad_norm",
        "lr",
        "undecodable",
        "records",
    }
    assert training[-1]["loss"] < training[0]["loss"]
    validation = [line for line in lines(finished) if line["of"] == "validation/words"]
    assert [(line["step"], line["num_samples"]) for line in validation] == [(3, 8), (6, 8)]

    assert json.loads((finished / "config.json").read_text())["batch"] == 8
    versions = json.loads((finished / "versions.json").read_text())
    assert versions["jax"] == jax.__version__
    assert versions["device_kind"]
    assert sorted(path.name for path in (finished / "checkpoints").iterdir()) == ["4", "6"]
    assert list((finished / "tensorboard").glob("events*"))

    last, best = pretrained.load(finished / "last"), pretrained.load(finished / "best")
    assert last.extra == {"step": 6}
    assert best.extra == {"step": 3, "accuracy": validation[0]["accuracy"]}
    assert last.model["charset"] == "0123456789abcdefghijklmnopqrstuvwxyz"
    assert last.preprocessing["mean"] == [0.48145466, 0.4578275, 0.40821073]
    assert last.inference["views"] == [0.0, 0.1]


def test_nothing_is_compiled_after_the_first_step_and_the_first_validation(finished):
    compiled = read_json(finished / "compiled.json")
    assert "jit(train_step)" in " ".join(compiled["train 1"])
    assert compiled["train 2"] == compiled["train 1"]
    assert len(compiled["validation/words 3"]) > len(compiled["train 3"])
    assert compiled["train 4"] == compiled["validation/words 6"]  # the checkpoint of step 4 is written in between


def test_a_profile_of_some_steps(finished):
    (trace,) = (finished / "tensorboard").rglob("*.xplane.pb")
    assert b"jit_train_step" in trace.read_bytes()


def test_a_finished_run_has_nothing_to_do(finished, tmp_path, config, capsys):
    shutil.copytree(finished, tmp_path, dirs_exist_ok=True)
    train.run(config, tmp_path)
    assert "all steps are done" in capsys.readouterr().out
    assert lines(tmp_path) == lines(finished)


@pytest.mark.slow
def test_an_interrupted_run_resumes_as_if_nothing_had_happened(tmp_path, monkeypatch, config, finished):
    """Twice: after the first step, and after a checkpoint."""
    write, signals = RunLog.write, {1: signal.SIGTERM, 4: signal.SIGINT}

    def interrupt(self, done, *args, **kwargs):
        write(self, done, *args, **kwargs)
        if done in signals:
            os.kill(os.getpid(), signals[done])

    with monkeypatch.context() as patch:
        patch.setattr(RunLog, "write", interrupt)
        for number in signals.values():
            with pytest.raises(Interrupted) as error:
                train.run(config, tmp_path)
            assert error.value.status == 128 + number
    train.run(config, tmp_path)
    assert_same(tmp_path, finished)


def test_a_damaged_checkpoint_is_passed_over(tmp_path, config, finished, caplog):
    shutil.copytree(finished, tmp_path, dirs_exist_ok=True)
    shutil.rmtree(tmp_path / "last")
    for path in (tmp_path / "checkpoints" / "6").rglob("*"):
        if path.is_file():
            os.truncate(path, path.stat().st_size // 2)
    train.run(config, tmp_path)
    assert "checkpoint of step 6 is damaged" in caplog.text
    assert_same(tmp_path, finished)


def test_a_run_stopped_before_its_last_model_writes_it(tmp_path, config, finished):
    shutil.copytree(finished, tmp_path, dirs_exist_ok=True)
    shutil.rmtree(tmp_path / "last")
    train.run(config, tmp_path)
    assert weights(tmp_path).keys() == weights(finished).keys()


def test_another_model_does_not_resume(config, finished):
    config["model"]["decoder_heads"] = 4
    config["optim"]["text_freeze_layers"] = -1
    config["log_every"] = 2  # may change
    before = (finished / "config.json").read_text()
    with pytest.raises(ResumeError) as error:
        train.run(config, finished)
    message = str(error.value)
    assert "config.model.decoder_heads: 2 -> 4" in message
    assert "config.optim.text_freeze_layers: 0 -> -1" in message
    assert "log_every" not in message
    assert (finished / "config.json").read_text() == before


@pytest.mark.slow
def test_starting_from_a_model(tmp_path, config, finished, capsys):
    config["init"] = str(finished)  # a working directory stands for its best model
    train.run(config, tmp_path)
    assert f"{finished / 'best'}: loaded {len(weights(finished))} tensors" in capsys.readouterr().out
    assert lines(tmp_path)[0]["loss"] < lines(finished)[2]["loss"]
    assert pretrained.load(tmp_path / "last").source == "trained from random weights"


def test_a_directory_without_a_model_to_start_from(tmp_path, config):
    with pytest.raises(ConfigError, match=r"config.init: .* has no .*weights.safetensors"):
        train.run(config | {"init": str(tmp_path)}, tmp_path / "run")


def command_line(folder: Path, *arguments: str) -> subprocess.CompletedProcess:
    """The outcome of `python -m tcm_jax.train` with the tiny config in a file."""
    (folder / "tiny.py").write_text(
        f"from ml_collections import ConfigDict\n\ndef get_config():\n    return ConfigDict({CONFIG!r})\n"
    )
    command = [sys.executable, "-m", "tcm_jax.train", f"--workdir={folder / 'run'}", *arguments]
    return subprocess.run(command, capture_output=True, text=True)


def test_a_wrong_key_on_the_command_line(tmp_path):
    result = command_line(tmp_path, f"--config={tmp_path / 'tiny.py'}", "--config.bathc=8")
    assert result.returncode == 1
    assert 'Did you mean "batch" instead of "bathc"' in result.stderr
    assert "Traceback" not in result.stderr


def test_a_wrong_value_on_the_command_line(tmp_path):
    result = command_line(tmp_path, f"--config={tmp_path / 'tiny.py'}", "--config.epochs=2")
    assert result.returncode == 1
    assert result.stderr == "error: config.steps is 6 and config.epochs is 2; give exactly one of them\n"
    assert not (tmp_path / "run").exists()
