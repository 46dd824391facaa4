"""The training loop: the device computes a step while the host looks at the results of the one before."""

import itertools
import math
import time
import zlib
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np
from jax.sharding import Mesh

from tcm_jax.distributed import Watch
from tcm_jax.distributed.interrupt import Interrupted, StopSignal
from tcm_jax.files import write_json
from tcm_jax.training.checkpoint import Checkpoints
from tcm_jax.training.mesh import batch_share, shard_batch
from tcm_jax.training.profile import Profile
from tcm_jax.training.report import Meter, RunLog
from tcm_jax.training.state import Step, TrainState
from tcm_jax.training.task import Batch

_AHEAD = 2  # batches that are on the devices before they are needed
_SHOWN = 10  # names in a message


class NonFiniteError(RuntimeError):
    """The loss or the gradient became NaN or infinite; the message has the step and the batch's records."""


class DeviceBatch(NamedTuple):
    """Arrays on the devices, the names of this host's records, and of those that could not be decoded."""

    arrays: Batch
    names: list[str]
    undecodable: list[str]


def device_batches(batches: Iterator[Mapping[str, Any]], mesh: Mesh) -> Iterator[DeviceBatch]:
    """The batches in order, sent to the devices ahead of time, each record with a number of its own ("record")."""
    ready: deque[DeviceBatch] = deque()
    for batch in batches:
        record = np.array([zlib.crc32(name.encode()) for name in batch["name"]], np.uint32)
        arrays = shard_batch({**batch, "record": record}, mesh)
        ready.append(DeviceBatch(arrays, batch["name"], batch["undecodable"]))
        if len(ready) > _AHEAD:
            yield ready.popleft()
    yield from ready


@dataclass
class Loop:
    """Runs steps until the last one.

    Args:
        step: the compiled step of a `TrainProgram`.
        batches: from the step on at which `run` starts.
        mesh: of the devices.
        batch_size: images of a step; total: number of steps of the whole run.
        log_every, checkpoint_every, validate_every: in steps; 0 is never but at the end.
        validate: called with (step, state), gives the score, or None without one. finish: the same, at the end.
        watch: learns of every step that is done.
        profile: learns of every step that begins.
        speed: further metrics from images per second.
        workdir: gets nan_step_N.json.
    """

    step: Step
    batches: Iterator[DeviceBatch]
    mesh: Mesh
    batch_size: int
    total: int
    log_every: int
    checkpoint_every: int
    validate_every: int
    validate: Callable[[int, TrainState], float | None]
    finish: Callable[[int, TrainState], None]
    report: RunLog
    checkpoints: Checkpoints
    stop: StopSignal
    watch: Watch
    profile: Profile
    speed: Callable[[float], Mapping[str, float]]
    workdir: Path

    def __post_init__(self):
        self._meter = Meter()
        self._undecodable: list[str] = []
        self._share = batch_share(self.mesh)
        self._agreed = 0  # the signal that some process got, known to all since the same step

    def run(self, state: TrainState) -> TrainState:
        """Trains from `state`, which is donated, to the last step.

        Raises:
            Interrupted: a signal came; the state is saved.
            NonFiniteError: a loss or gradient is not finite; nothing is saved.
            CheckpointError: a checkpoint can't be written.
        """
        before = None
        for done in itertools.count(int(state.step) + 1):
            if done > self.total:
                return state
            self.profile.before(done)
            start = time.monotonic()
            batch = next(self.batches)
            loss: Any = before and before[1]["loss"]
            if loss is None or loss.is_ready():  # else the devices are still busy with the step before
                self._meter.waited(time.monotonic() - start)
            state, metrics = self.step(state, {**batch.arrays, **self._stop_signal()})
            if before:
                self._look_at(*before)  # while the devices are busy with this step
            before = done, metrics, batch
            last = done == self.total
            if last or self._stopping or due(done, self.checkpoint_every) or due(done, self.validate_every):
                self._look_at(*before)  # a state that is not finite must not be kept
                before = None
                with self._meter.paused():
                    self._at_milestone(done, state, last)
        raise AssertionError("unreachable")

    def _stop_signal(self) -> Batch:
        """This process's word on whether to stop, for all rows of its part of the batch."""
        rows = self.batch_size * len(self._share.parts) // self._share.count
        return shard_batch({"stop": np.full(rows, self.stop.number or 0, np.int32)}, self.mesh)

    @property
    def _stopping(self) -> int:
        """The signal to stop for, or 0. Several processes must all stop after the same step: the one that got the
        signal tells the others through the step, and all find it in the step's metrics.
        """
        alone = jax.process_count() == 1
        return self._agreed or (alone and self.stop.number) or 0

    def _at_milestone(self, done: int, state: TrainState, last: bool) -> None:
        score = None
        if not self._stopping and (last or due(done, self.validate_every)):
            score = self.validate(done, state)
        if not self._stopping and last:
            self.finish(done, state)
        if self._stopping or last or due(done, self.checkpoint_every):
            self.checkpoints.save(done, state, score)
            self.report.sync()
        if self._stopping:
            self.checkpoints.wait()
            raise Interrupted(
                self._stopping,
                f"stopped after step {done:,} of {self.total:,}, which is saved in "
                f"{self.checkpoints.directory}; the same command resumes from there",
            )

    def _look_at(self, done: int, metrics: Mapping[str, jax.Array], batch: DeviceBatch) -> None:
        """Checks and logs the results of a step."""
        values = {name: float(value) for name, value in jax.device_get(metrics).items()}
        self.watch.beat(done)
        self._agreed = int(values.pop("stop")) or self._agreed
        values["records"] = int(values["records"])
        if not (math.isfinite(values["loss"]) and math.isfinite(values["grad_norm"])):
            self._stop_for(done, values, batch.names)
        self._meter.add(self.batch_size)
        self._undecodable += batch.undecodable
        if due(done, self.log_every) or done == self.total:
            self.checkpoints.check()
            values["data_wait"] = self._meter.wait_share()
            rate = values["images_per_second"] = self._meter.rate()
            values |= self.speed(rate)
            values["undecodable"] = len(self._undecodable)
            self.report.write(done, values)
            left = (self.total - done) * self.batch_size / max(rate, 1e-9)
            self.report.progress(done, values["loss"], rate, left)
            if self._undecodable:
                self.report.message(
                    f"{len(self._undecodable):,} images could not be decoded and were replaced: "
                    f"{shorten(self._undecodable)}"
                )
                self._undecodable = []

    def _stop_for(self, done: int, values: Mapping[str, float], names: list[str]) -> None:
        path = self.workdir / f"nan_step_{done}.json"
        # As text: JSON has no NaN.
        write_json(path, {"step": done, "metrics": {k: str(v) for k, v in values.items()}, "records": names})
        self.checkpoints.wait()
        steps = self.checkpoints.steps
        kept = f"the newest checkpoint is that of step {steps[-1]:,}" if steps else "there is no checkpoint yet"
        raise NonFiniteError(
            f"step {done:,}: the loss is {values['loss']}, the gradient norm {values['grad_norm']}. The "
            f"update was not made; {kept}. Records of the batch (all are in {path}): {shorten(names)}"
        )


def due(step: int, every: int) -> bool:
    """Whether something that is done every so many steps (0: never) is to be done after `step`."""
    return every > 0 and step % every == 0


def shorten(names: list[str]) -> str:
    """The first names, and how many more there are."""
    more = f" and {len(names) - _SHOWN:,} more" if len(names) > _SHOWN else ""
    return ", ".join(names[:_SHOWN]) + more
