"""Checkpoints that can be trusted: complete or not there, and one that is damaged is passed over."""

import errno
import os
import shutil
import time
from pathlib import Path
from types import SimpleNamespace

import jax
import jax.numpy as jnp
import numpy as np
import orbax.checkpoint as ocp
import pytest

from tcm_jax.training.checkpoint import CheckpointError, Checkpoints
from tcm_jax.training.state import TrainState


def state(step: int) -> TrainState:
    return TrainState(jnp.int32(step), {"a": jax.random.normal(jax.random.key(step), (50, 40))}, {}, {}, None)


def save(directory: Path, *steps: int, keep: int = 2) -> None:
    with Checkpoints(directory, keep) as checkpoints:
        for step in steps:
            checkpoints.save(step, state(step))


def restore(directory: Path) -> TrainState | None:
    with Checkpoints(directory, 2) as checkpoints:
        return checkpoints.restore(jax.eval_shape(state, 0))


def truncate(directory: Path) -> None:
    """As after a power failure: no file is complete."""
    for path in directory.rglob("*"):
        if path.is_file():
            os.truncate(path, path.stat().st_size // 2)


def assert_is(found: TrainState | None, step: int) -> None:
    assert found is not None and int(found.step) == step
    np.testing.assert_array_equal(found.params["a"], state(step).params["a"])


def test_the_newest_is_restored_and_the_last_ones_are_kept(tmp_path):
    assert restore(tmp_path / "none") is None
    save(tmp_path, 1, 2, 3)
    with Checkpoints(tmp_path, 2) as checkpoints:
        assert checkpoints.steps == [2, 3]
    assert_is(restore(tmp_path), 3)


def test_one_that_is_not_complete_is_ignored(tmp_path):
    save(tmp_path, 1)
    (tmp_path / "2.orbax-checkpoint-tmp" / "state").mkdir(parents=True)
    (tmp_path / "7").mkdir()
    assert_is(restore(tmp_path), 1)
    assert not list(tmp_path.glob("*tmp*"))


def test_a_damaged_one_is_moved_aside_with_a_warning(tmp_path, caplog):
    save(tmp_path, 1, 2)
    truncate(tmp_path / "2")
    assert_is(restore(tmp_path), 1)
    assert "checkpoint of step 2 is damaged" in caplog.text
    assert (tmp_path / "damaged-2").is_dir()
    save(tmp_path, 2)  # the run comes to that step again
    assert_is(restore(tmp_path), 2)


def test_only_damaged_ones_are_an_error(tmp_path):
    save(tmp_path, 1, 2)
    truncate(tmp_path)
    with pytest.raises(CheckpointError, match=r"no checkpoint can be read:\n.*/2: .*\n.*/1: "):
        restore(tmp_path)


def full_disk(monkeypatch) -> None:
    """The writer fails after the arrays are written and before the checkpoint is complete."""

    def finalize(*_, **__):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(ocp.StandardCheckpointHandler, "finalize", finalize)


def test_full_disk(tmp_path, monkeypatch):
    save(tmp_path, 1, 2)
    with monkeypatch.context() as patch:
        full_disk(patch)
        with pytest.raises(CheckpointError) as error:
            save(tmp_path, 3)
    message = str(error.value)
    assert message.startswith(f"the checkpoint of step 3 can't be written to {tmp_path}: the disk is full (")
    assert message.endswith("The checkpoint of step 2 is complete; the same command resumes from it.")
    assert_is(restore(tmp_path), 2)
    save(tmp_path, 3)
    assert_is(restore(tmp_path), 3)


def test_too_little_room_is_noticed_before_anything_is_written(tmp_path, monkeypatch):
    save(tmp_path, 1)
    monkeypatch.setattr(shutil, "disk_usage", lambda path: SimpleNamespace(free=5000))
    with pytest.raises(CheckpointError, match=r"step 2 .* the disk is full \(0 MB are free\).* are needed"):
        save(tmp_path, 2)
    assert [path.name for path in tmp_path.iterdir()] == ["1"]


def test_full_disk_is_noticed_before_the_next_save(tmp_path, monkeypatch):
    full_disk(monkeypatch)
    with Checkpoints(tmp_path, 2) as checkpoints:
        checkpoints.save(1, state(1))
        with pytest.raises(CheckpointError, match="step 1 .* the disk is full .* There is no earlier checkpoint"):
            for _ in range(1000):
                checkpoints.check()
                time.sleep(0.01)
