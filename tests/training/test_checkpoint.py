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

from tcm_jax.training.checkpoint import CheckpointError, Checkpoints, steps_to_keep
from tcm_jax.training.config import CheckpointConfig
from tcm_jax.training.fingerprint import fingerprint
from tcm_jax.training.state import TrainState


def state(step: int) -> TrainState:
    return TrainState(jnp.int32(step), {"a": jax.random.normal(jax.random.key(step), (50, 40))}, {}, {}, None)


def save(directory: Path, *steps: int, keep: int = 2) -> None:
    with Checkpoints(directory, CheckpointConfig(keep=keep)) as checkpoints:
        for step in steps:
            checkpoints.save(step, state(step))


def restore(directory: Path) -> TrainState | None:
    with Checkpoints(directory, CheckpointConfig()) as checkpoints:
        return checkpoints.restore(jax.eval_shape(state, 0))


def truncate(directory: Path) -> None:
    """As after a power failure: no file is complete."""
    for path in directory.rglob("*"):
        if path.is_file():
            os.truncate(path, path.stat().st_size // 2)


def assert_is(found: TrainState | None, step: int) -> None:
    assert found is not None
    assert int(found.step) == step
    np.testing.assert_array_equal(found.params["a"], state(step).params["a"])


def test_the_newest_is_restored_and_the_last_ones_are_kept(tmp_path):
    assert restore(tmp_path / "none") is None
    save(tmp_path, 1, 2, 3)
    with Checkpoints(tmp_path, CheckpointConfig()) as checkpoints:
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


def flip(path: Path, *positions: float) -> None:
    """Changes bytes in place, at parts of the file's length."""
    data = bytearray(path.read_bytes())
    for position in positions:
        data[int(position * len(data))] ^= 1
    path.write_bytes(data)


def test_flipped_bits_are_noticed(tmp_path, caplog):
    """The format itself has no checksum of the arrays: without fingerprints this would be read as it is."""
    save(tmp_path, 1, 2)
    largest = max((tmp_path / "2" / "state").rglob("*"), key=lambda path: path.stat().st_size)
    flip(largest, 0.5)
    assert_is(restore(tmp_path), 1)
    assert "ValueError: not as it was saved: params/a" in caplog.text


@pytest.mark.parametrize(
    "lost",
    ["state", "state/manifest.ocdbt", "state/_METADATA", "about", "about/metadata", "state/d", "state/ocdbt.process_0"],
)
def test_a_missing_part_is_noticed(tmp_path, lost):
    save(tmp_path, 1, 2)
    path = tmp_path / "2" / lost
    shutil.rmtree(path) if path.is_dir() else path.unlink()
    assert_is(restore(tmp_path), 1)
    assert (tmp_path / "damaged-2").is_dir()


def test_it_describes_itself(tmp_path):
    metadata = {"config": {"batch": 8}, "versions": {"jax": jax.__version__}}
    with Checkpoints(tmp_path, CheckpointConfig(), metadata) as checkpoints:
        checkpoints.save(3, state(3), score=0.5)
        checkpoints.wait()
        found = checkpoints.metadata(3)
    arrays = found.pop("arrays")
    assert found == metadata | {"format": "tcm_jax checkpoint/1", "step": 3, "score": 0.5, "mesh": {}}
    assert arrays["params/a"].pop("fingerprint") == int(fingerprint(state(3).params["a"]))
    assert arrays["params/a"] == {"shape": [50, 40], "dtype": "float32"}
    assert arrays["step"]["shape"] == []


def test_another_model_is_not_a_damaged_checkpoint(tmp_path):
    save(tmp_path, 1)
    other = TrainState(jnp.int32(0), {"a": jnp.zeros((50, 4)), "b": jnp.zeros(3, jnp.bfloat16)}, {}, {}, None)
    with Checkpoints(tmp_path, CheckpointConfig()) as checkpoints, pytest.raises(CheckpointError) as error:
        checkpoints.restore(other)
    assert str(error.value).splitlines()[1:] == [
        "  params/a: float32 (50, 40) in the checkpoint, float32 (50, 4) in the run",
        "  params/b: missing in the checkpoint, bfloat16 (3,) in the run",
    ]
    assert_is(restore(tmp_path), 1)


@pytest.mark.parametrize(
    ("config", "kept"),
    [
        (CheckpointConfig(keep=2), {7, 8}),
        (CheckpointConfig(keep=1, keep_every=3), {3, 6, 8}),
        (CheckpointConfig(keep=1, keep_best=2), {2, 5, 8}),
        (CheckpointConfig(keep=2, keep_every=4, keep_best=1), {4, 5, 7, 8}),
    ],
)
def test_which_ones_stay(config, kept):
    scores = {1: 0.1, 2: 0.9, 3: 0.3, 4: float("nan"), 5: 0.9, 6: None}
    assert steps_to_keep(range(1, 9), scores, config) == kept


def test_the_best_stay_also_when_a_run_is_resumed(tmp_path):
    scores = {1: 0.2, 2: 0.8, 3: None, 4: 0.5, 5: 0.1, 6: 0.3}
    config = CheckpointConfig(keep=1, keep_best=1, keep_every=4)
    for steps in ((1, 2, 3), (4, 5, 6)):
        with Checkpoints(tmp_path, config) as checkpoints:
            for step in steps:
                checkpoints.save(step, state(step), scores[step])
    with Checkpoints(tmp_path, config) as checkpoints:
        assert checkpoints.steps == [2, 4, 6]


@pytest.mark.parametrize(
    ("values", "message"),
    [({"keep": 0}, "config.checkpoint.keep is 0; expected at least 1"), ({"keep_best": -1}, "keep_best is -1")],
)
def test_wrong_numbers(values, message):
    with pytest.raises(ValueError, match=message):
        CheckpointConfig(**values)


@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "float16", "int32", "uint32", "int8", "bool"])
def test_fingerprint(dtype):
    """It differs when one element or the order differs, or two signs do; and is that of the same bits elsewhere."""
    x = np.arange(60).reshape(3, 4, 5).astype(jnp.dtype(dtype))
    changed, swapped = x.copy(), x.copy()
    changed[2, 0, 0] = not x[2, 0, 0] if dtype == "bool" else 1
    swapped[0, 0, 0], swapped[2, 3, 4] = x[2, 3, 4], x[0, 0, 0]
    variants = [x, changed, swapped, x.reshape(-1)[:-1]]
    if dtype not in ("bool", "uint32"):
        signs = x.copy()
        signs[1] *= -1
        variants.append(signs)
    found = [int(fingerprint(jnp.asarray(variant))) for variant in variants]
    assert len(set(found)) == len(variants)
    assert found[0] == int(fingerprint(jnp.asarray(x.copy())))


def test_fingerprint_of_a_scalar_and_of_nothing():
    assert int(fingerprint(jnp.int32(5))) != int(fingerprint(jnp.int32(6)))
    assert int(fingerprint(jnp.zeros((0, 3)))) == 0


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
    with Checkpoints(tmp_path, CheckpointConfig()) as checkpoints:
        checkpoints.save(1, state(1))

        def check_for_ten_seconds() -> None:
            for _ in range(1000):
                checkpoints.check()
                time.sleep(0.01)

        with pytest.raises(CheckpointError, match=r"step 1 .* the disk is full .* There is no earlier checkpoint"):
            check_for_ten_seconds()
