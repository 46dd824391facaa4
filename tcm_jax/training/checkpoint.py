"""Checkpoints of a run, to resume from, and model directories, to use.

DIR/STEP/state            the arrays; every process writes and reads its shards of them
DIR/STEP/about/metadata   JSON: step, score, mesh; path, shape, dtype and fingerprint of every array; config, versions

A checkpoint is written under a temporary name in the background and counts once it is complete. It can be read on
another mesh, by another number of processes. The only file that knows orbax.
"""

import contextlib
import dataclasses
import errno
import json
import math
import os
import shutil
from collections.abc import Iterator, Mapping, Sequence
from logging import LogRecord
from pathlib import Path
from typing import Any, Self

import jax
import numpy as np
import orbax.checkpoint as ocp
from absl import logging
from etils import epath
from jax.experimental import multihost_utils

from tcm_jax.distributed.multihost import broadcast_from_host0, raise_on_all_hosts
from tcm_jax.files import absolute, is_remote
from tcm_jax.pretrained import Pretrained
from tcm_jax.training.config import CheckpointConfig
from tcm_jax.training.fingerprint import fingerprints, leaves_by_path
from tcm_jax.training.report import shorten
from tcm_jax.training.state import TrainState

FORMAT = "tcm_jax checkpoint/1"
_STATE, _METADATA = "state", "about"
_DISK_FULL = ("No space left on device", "Disk quota exceeded")
_TEMPORARY = "*.orbax-checkpoint-tmp*"
_MAX_SHOWN = 3  # arrays in a message


class CheckpointError(RuntimeError):
    """A checkpoint can't be written or read; the message says which, why, and what remains."""


class Checkpoints:
    """The checkpoints in a directory; a context manager that waits for the last one to be written.

    Every method but `steps` is to be called by all processes.

    Args:
        directory: made if it does not exist; also gs://BUCKET/...
        config: which ones are kept; one is removed when a newer one is complete.
        metadata: JSON values of the run that every checkpoint holds.
    """

    def __init__(
        self, directory: str | os.PathLike, config: CheckpointConfig, metadata: Mapping[str, Any] | None = None
    ) -> None:
        # What orbax logs as an error it also raises, and the message here is for the user.
        logging.get_absl_logger().addFilter(_not_from_orbax)
        self.directory = epath.Path(absolute(directory))
        self._config, self._metadata = config, dict(metadata or {})
        # What a run that died was writing. Orbax would remove it in a thread, which can outlive this object.
        for path in self.directory.glob(_TEMPORARY) if jax.process_index() == 0 else ():
            path.rmtree(missing_ok=True)
        self._scores: dict[int, float | None] = {}
        options = ocp.CheckpointManagerOptions(preservation_policy=self)
        self._manager = ocp.CheckpointManager(self.directory, options=options)
        for step in self.steps if config.keep_best else ():
            with contextlib.suppress(OSError, ValueError):  # `restore` reports a checkpoint that is damaged
                self._scores[step] = self.metadata(step)["score"]
        self._saving = 0  # step of the latest save

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type | None, *_: object) -> None:
        try:
            with contextlib.suppress(CheckpointError) if kind else contextlib.nullcontext():
                self.wait()
        finally:
            self._manager.close()
            logging.get_absl_logger().removeFilter(_not_from_orbax)

    @property
    def steps(self) -> list[int]:
        """Steps with a checkpoint, ascending."""
        return sorted(self._manager.all_steps(read=True))

    def should_preserve(self, checkpoints: Sequence[Any], *, context: Any) -> list[bool]:
        """Which of these checkpoints are kept; orbax's interface of a policy."""
        steps = [checkpoint.step for checkpoint in checkpoints]
        kept = steps_to_keep(steps, self._scores, self._config)
        return [step in kept for step in steps]

    def save(self, step: int, state: TrainState, score: float | None = None) -> None:
        """Starts to write the checkpoint of `step`; returns as soon as `state` may be changed.

        Args:
            score: of a validation of this state, higher is better; None if there was none.

        Raises:
            CheckpointError: this or the save before failed; the older checkpoints are as they were.
        """
        with self._write_errors():
            self._manager.wait_until_finished()
            self._saving = step
            self._check_space(sum(leaf.nbytes for leaf in jax.tree.leaves(state)))
            metadata = self._metadata | {"format": FORMAT, "step": step, "score": score, **_describe(state)}
            items = {_STATE: ocp.args.StandardSave(state), _METADATA: ocp.args.JsonSave(metadata)}
            self._scores[step] = score
            self._manager.save(step, args=ocp.args.Composite(**items), force=True)

    def check(self) -> None:
        """Raises CheckpointError if the save in the background has failed."""
        # Orbax's own check_for_errors() misses what its finalizing thread has already collected.
        if not self._manager.is_saving_in_progress():
            self.wait()

    def wait(self) -> None:
        """Waits until everything is written. Raises CheckpointError if that fails."""
        with self._write_errors():
            self._manager.wait_until_finished()

    def metadata(self, step: int) -> dict[str, Any]:
        """The metadata of the checkpoint of `step`.

        Raises:
            OSError, ValueError: it is missing, broken or of another format.
        """
        path = self.directory / str(step) / _METADATA / "metadata"
        metadata = json.loads(path.read_text())
        if not isinstance(metadata, dict) or metadata.get("format") != FORMAT:
            raise ValueError(f"{path} is not of the format {FORMAT!r}")
        return metadata

    def restore(self, like: TrainState) -> TrainState | None:
        """The newest checkpoint that all processes can read, None if there never was one.

        A newer one that is damaged is moved aside with a warning, to "damaged-STEP". It is damaged if something is
        missing, can't be decoded, or has another fingerprint than it had when it was saved.

        Args:
            like: shapes, dtypes and shardings of the state; any shardings, whatever it was saved with.

        Raises:
            CheckpointError: there are checkpoints, but none can be read, or the newest good one holds other arrays.
        """
        damaged = []
        for step in reversed(broadcast_from_host0(self.steps)):
            try:
                state = self._read(step, like)
            except CheckpointError:
                raise
            except Exception as error:
                reason = str(error).strip().split("\n")[0][:300]
                damaged.append(f"{self.directory / str(step)}: {type(error).__name__}: {reason}")
                logging.warning("the checkpoint of step %d is damaged and moved aside: %s", step, damaged[-1])
                continue
            self._move_aside(step)
            return state
        if damaged:
            raise CheckpointError("no checkpoint can be read:\n  " + "\n  ".join(damaged))
        return None

    def _read(self, step: int, like: TrainState) -> TrainState:
        """The checkpoint of `step`; raises on all processes if one of them can't read it."""
        saved = raise_on_all_hosts(lambda: self.metadata(step))["arrays"]
        if lines := _differences(saved, leaves_by_path(like)):
            raise CheckpointError(
                f"{self.directory / str(step)} holds other arrays than this run has; give another directory, or the "
                "config it was saved with. What differs:\n  " + shorten(lines, _MAX_SHOWN, "\n  ")
            )
        # The manager's own restore waits for all processes, for ever if one of them has failed.
        reader = ocp.StandardCheckpointHandler()
        path = self.directory / str(step) / _STATE
        state = raise_on_all_hosts(lambda: reader.restore(path, args=ocp.args.StandardRestore(like)))
        found = fingerprints(leaves_by_path(state))
        if wrong := [name for name, value in found.items() if value != saved[name]["fingerprint"]]:
            raise ValueError(f"not as it was saved: {shorten(wrong, _MAX_SHOWN)}")
        return state

    def _move_aside(self, newest_good: int) -> None:
        """Renames the directories of later steps, so that these steps can be saved again."""
        later = [step for step in broadcast_from_host0(self.steps) if step > newest_good]

        def rename() -> None:
            for step in later if jax.process_index() == 0 else ():
                target = self.directory / f"damaged-{step}"
                target.rmtree(missing_ok=True)
                (self.directory / str(step)).rename(target)

        if later:
            raise_on_all_hosts(rename)
            self._manager.reload()

    def _check_space(self, needed: int) -> None:
        """Raises OSError if a local disk has less than `needed` bytes free."""
        if is_remote(self.directory):
            return
        # Process 0 decides: if one alone gave up, the others would wait for it.
        needed_mb = math.ceil(needed / 2**20)
        if needed_mb > broadcast_from_host0([shutil.disk_usage(self.directory).free // 2**20])[0]:
            raise OSError(errno.ENOSPC, f"{needed_mb:,} MB are needed")

    @contextlib.contextmanager
    def _write_errors(self) -> Iterator[None]:
        """Any error becomes a CheckpointError that names what was being written and what remains."""
        try:
            yield
        except Exception as error:  # orbax and tensorstore raise many kinds
            complete = [step for step in self.steps if step != self._saving]
            remains = (
                f"The checkpoint of step {complete[-1]} is complete; the same command resumes from it."
                if complete
                else "There is no earlier checkpoint."
            )
            reason = _write_error(self.directory, f"the checkpoint of step {self._saving}", error)
            raise CheckpointError(f"{reason} {remains}") from error


def steps_to_keep(steps: Sequence[int], scores: Mapping[int, float | None], config: CheckpointConfig) -> set[int]:
    """Which of `steps` are kept: the newest, the multiples of `keep_every`, those of the best finite scores.

    Of equal scores the later step is the better one.
    """
    scored = [(score, step) for step in steps if (score := scores.get(step)) is not None and math.isfinite(score)]
    best = [step for _, step in sorted(scored, reverse=True)[: config.keep_best]]
    multiples = [step for step in steps if config.keep_every and step % config.keep_every == 0]
    return {*sorted(steps)[-config.keep :], *multiples, *best}


def export_model(directory: str | os.PathLike, model: Pretrained) -> None:
    """Writes a model directory (`tcm_jax.pretrained`), replacing an older one; to be called by all processes.

    An array that is sharded over processes is gathered on the devices, one at a time.

    Raises:
        CheckpointError: it can't be written; an older one is as it was.
    """
    first = jax.process_index() == 0

    def to_host(x: jax.Array) -> np.ndarray | None:
        local = x.is_fully_addressable or x.is_fully_replicated
        array = np.asarray(x) if local else multihost_utils.process_allgather(x, tiled=True)
        return array if first else None

    raise_on_all_hosts(lambda: None)  # a barrier: no process may still read the older one
    try:
        variables = jax.tree.map(to_host, model.variables)
        raise_on_all_hosts(lambda: dataclasses.replace(model, variables=variables).save(directory) if first else None)
    except Exception as error:
        path = epath.Path(directory)
        raise CheckpointError(_write_error(path.parent, f"the model {path.name}", error)) from error


def _describe(state: TrainState) -> dict[str, Any]:
    """The mesh and the arrays of a state, as JSON values."""
    leaves = leaves_by_path(state)
    values = fingerprints(leaves)
    arrays = {
        path: {"shape": list(leaf.shape), "dtype": str(leaf.dtype), "fingerprint": values[path]}
        for path, leaf in leaves.items()
    }
    meshes = [leaf.sharding.mesh for leaf in leaves.values() if isinstance(leaf.sharding, jax.sharding.NamedSharding)]
    return {"mesh": dict(meshes[0].shape) if meshes else {}, "arrays": arrays}


def _differences(saved: Mapping[str, Mapping[str, Any]], wanted: Mapping[str, Any]) -> list[str]:
    """Where the arrays of a checkpoint and those of a run differ, one line per path."""
    a = {path: f"{entry['dtype']} {tuple(entry['shape'])}" for path, entry in saved.items()}
    b = {path: f"{leaf.dtype} {tuple(leaf.shape)}" for path, leaf in wanted.items()}
    return [
        f"{path}: {a.get(path, 'missing')} in the checkpoint, {b.get(path, 'missing')} in the run"
        for path in sorted(a.keys() | b.keys())
        if a.get(path) != b.get(path)
    ]


def _write_error(directory: Path, name: str, error: Exception) -> str:
    """Why `name` could not be written to `directory`, in one sentence."""
    reason = (getattr(error, "strerror", None) or str(error)).strip().split("\n")[0][:500]
    full = getattr(error, "errno", None) == errno.ENOSPC or any(words in str(error) for words in _DISK_FULL)
    if full and not is_remote(directory):
        free = shutil.disk_usage(directory).free / 2**20
        reason = f"the disk is full ({free:,.0f} MB are free). {reason}"
    else:
        reason = f"{type(error).__name__}: {reason}"
    return f"{name} can't be written to {directory}: {reason}."


def _not_from_orbax(record: LogRecord) -> bool:
    return "orbax" not in record.pathname
