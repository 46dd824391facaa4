"""Checkpoints of a run, to resume from, and model directories, to use.

A checkpoint is written under a temporary name in the background and counts once it is complete. The only file
that knows orbax.
"""

import dataclasses
import errno
import shutil
from pathlib import Path

import jax
import numpy as np
import orbax.checkpoint as ocp
from absl import logging

from tcm_jax.pretrained import Pretrained
from tcm_jax.training.state import TrainState

_ITEM = "state"
_FULL = ("No space left on device", "Disk quota exceeded")
_TEMPORARY = "*.orbax-checkpoint-tmp*"


class CheckpointError(RuntimeError):
    """A checkpoint can't be written or read; the message says which, why, and what remains."""


class Checkpoints:
    """The checkpoints in a directory; a context manager that waits for the last one to be written.

    Args:
        directory: made if it does not exist.
        keep: number of checkpoints to keep; an older one goes when a newer one is complete.
    """

    def __init__(self, directory: Path, keep: int):
        # What orbax logs as an error it also raises, and the message here is for the user.
        logging.get_absl_logger().addFilter(_not_from_orbax)
        self.directory = directory.absolute()
        # What a run that died was writing. Orbax would remove it in a thread, which can outlive this object.
        for path in self.directory.glob(_TEMPORARY) if jax.process_index() == 0 else ():
            shutil.rmtree(path, ignore_errors=True)
        options = ocp.CheckpointManagerOptions(max_to_keep=keep)
        self._manager = ocp.CheckpointManager(self.directory, options=options)
        self._saving = 0  # step of the latest save

    def __enter__(self) -> "Checkpoints":
        return self

    def __exit__(self, kind, *_) -> None:
        try:
            self.wait()
        except CheckpointError:
            if kind is None:
                raise
        finally:
            self._manager.close()
            logging.get_absl_logger().removeFilter(_not_from_orbax)

    @property
    def steps(self) -> list[int]:
        """Steps with a checkpoint, ascending."""
        return sorted(self._manager.all_steps(read=True))

    def save(self, step: int, state: TrainState) -> None:
        """Starts to write the checkpoint of `step`; returns as soon as `state` may be changed.

        Raises:
            CheckpointError: this or the save before failed; the older checkpoints are as they were.
        """
        try:
            self._manager.wait_until_finished()
            self._saving = step
            needed = sum(leaf.nbytes for leaf in jax.tree.leaves(state))
            if needed > shutil.disk_usage(self.directory).free:
                raise OSError(errno.ENOSPC, f"{needed / 2**20:,.0f} MB are needed")
            self._manager.save(step, args=ocp.args.Composite(**{_ITEM: ocp.args.StandardSave(state)}), force=True)
        except Exception as error:  # orbax and tensorstore raise many kinds
            raise self._failure(error) from error

    def check(self) -> None:
        """Raises CheckpointError if the save in the background has failed."""
        # Orbax's own check_for_errors() misses what its finalizing thread has already collected.
        if not self._manager.is_saving_in_progress():
            self.wait()

    def wait(self) -> None:
        """Waits until everything is written. Raises CheckpointError if that fails."""
        try:
            self._manager.wait_until_finished()
        except Exception as error:
            raise self._failure(error) from error

    def restore(self, like: TrainState) -> TrainState | None:
        """The newest checkpoint that can be read, None if there never was one.

        A newer one that can't be read is moved aside with a warning, to "damaged-STEP".

        Args:
            like: shapes, dtypes and shardings of the state.

        Raises:
            CheckpointError: there are checkpoints, but none can be read.
        """
        damaged = []
        for step in reversed(self.steps):
            try:
                args = ocp.args.Composite(**{_ITEM: ocp.args.StandardRestore(like)})
                state = self._manager.restore(step, args=args)[_ITEM]
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

    def _move_aside(self, newest_good: int) -> None:
        """Renames the directories of later steps, so that these steps can be saved again."""
        later = [step for step in self.steps if step > newest_good]
        for step in later if jax.process_index() == 0 else ():
            target = self.directory / f"damaged-{step}"
            shutil.rmtree(target, ignore_errors=True)
            (self.directory / str(step)).rename(target)
        if later:
            self._manager.reload()

    def _failure(self, error: Exception) -> CheckpointError:
        complete = [step for step in self.steps if step != self._saving]
        remains = (
            f"The checkpoint of step {complete[-1]} is complete; the same command resumes from it."
            if complete
            else "There is no earlier checkpoint."
        )
        return CheckpointError(f"{_reason(self.directory, f'the checkpoint of step {self._saving}', error)} {remains}")


def export(directory: Path, model: Pretrained) -> None:
    """Writes a model directory (`tcm_jax.pretrained`), replacing an older one.

    Raises:
        CheckpointError: it can't be written; an older one is as it was.
    """
    if jax.process_index() != 0:
        return
    try:
        variables = jax.tree.map(np.asarray, model.variables)
        dataclasses.replace(model, variables=variables).save(directory)
    except Exception as error:
        raise CheckpointError(_reason(directory.parent, f"the model {directory.name}", error)) from error


def _reason(directory: Path, what: str, error: Exception) -> str:
    """Why `what` could not be written to `directory`, in one sentence."""
    first = (getattr(error, "strerror", None) or str(error)).strip().split("\n")[0][:500]
    if getattr(error, "errno", None) == errno.ENOSPC or any(words in str(error) for words in _FULL):
        free = shutil.disk_usage(directory).free / 2**20
        return f"{what} can't be written to {directory}: the disk is full ({free:,.0f} MB are free). {first}."
    return f"{what} can't be written to {directory}: {type(error).__name__}: {first}."


def _not_from_orbax(record) -> bool:
    return "orbax" not in record.pathname
