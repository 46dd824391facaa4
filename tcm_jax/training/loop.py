"""The training loop: the device computes a step while the host logs the results of the one before."""

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

from tcm_jax.distributed import Watchdog
from tcm_jax.distributed.interrupt import Interrupted, StopSignal
from tcm_jax.files import write_json
from tcm_jax.training.checkpoint import Checkpoints
from tcm_jax.training.mesh import batch_share, shard_batch
from tcm_jax.training.profile import Profile
from tcm_jax.training.report import RunLog, ThroughputMeter, shorten
from tcm_jax.training.state import Step, TrainState
from tcm_jax.training.task import Batch
from tcm_jax.training.validation import Validation

_PREFETCHED = 2  # batches that are on the devices before they are needed


class NonFiniteError(RuntimeError):
    """The loss or the gradient became NaN or infinite; the message has the step and the batch's records."""


class DeviceBatch(NamedTuple):
    """Arrays on the devices, the names of this host's records, and of those that could not be decoded."""

    arrays: Batch
    names: list[str]
    undecodable: list[str]


def prefetch_to_device(batches: Iterator[Mapping[str, Any]], mesh: Mesh) -> Iterator[DeviceBatch]:
    """The batches in order, sent to the devices ahead of time, each record with a number of its own ("record")."""
    ready: deque[DeviceBatch] = deque()
    for batch in batches:
        record = np.array([zlib.crc32(name.encode()) for name in batch["name"]], np.uint32)
        arrays = shard_batch({**batch, "record": record}, mesh)
        ready.append(DeviceBatch(arrays, batch["name"], batch["undecodable"]))
        if len(ready) > _PREFETCHED:
            yield ready.popleft()
    yield from ready


@dataclass
class Loop:
    """Runs steps until the last one.

    Args:
        step: the compiled step of a `TrainProgram`.
        batches: from the step on at which `run` starts.
        mesh: of the devices.
        config: of the run; `batch`, `log_every`, `checkpoint.every` and `eval.every` are used.
        total: number of steps of the run.
        validation: scores and exports the model.
        watchdog, profile: are notified of every step.
        speed: (images per second) -> further metrics.
        workdir: gets nan_step_N.json.
    """

    step: Step
    batches: Iterator[DeviceBatch]
    mesh: Mesh
    config: Any
    total: int
    validation: Validation
    log: RunLog
    checkpoints: Checkpoints
    stop: StopSignal
    watchdog: Watchdog
    profile: Profile
    speed: Callable[[float], Mapping[str, float]]
    workdir: Path

    def __post_init__(self) -> None:
        self._meter = ThroughputMeter()
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
        c = self.config
        pending: Any = None  # number, metrics and batch of the last step, if it is not logged yet
        for done in range(int(state.step) + 1, self.total + 1):
            self.profile.before_step(done)
            start = time.monotonic()
            batch = next(self.batches)
            if pending is None or pending[1]["loss"].is_ready():  # else the devices are still busy with that step
                self._meter.waited(time.monotonic() - start)
            state, metrics = self.step(state, {**batch.arrays, **self._stop_flags()})
            if pending:
                self._log_step(*pending)  # while the devices are busy with this step
            pending = done, metrics, batch
            last = done == self.total
            if last or self._stopping or is_due(done, c.checkpoint.every) or is_due(done, c.eval.every):
                self._log_step(*pending)  # a state that is not finite must not be kept
                pending = None
                with self._meter.paused():
                    self._validate_and_save(done, state, last)
        return state

    def _stop_flags(self) -> Batch:
        """The signal that this process got, or 0, for all rows of its part of the batch."""
        rows = self.config.batch * len(self._share.parts) // self._share.count
        return shard_batch({"stop": np.full(rows, self.stop.received or 0, np.int32)}, self.mesh)

    @property
    def _stopping(self) -> int:
        """The signal to stop for, or 0. Several processes must all stop after the same step: the one that got the
        signal passes it to the others through the step, and all find it in the step's metrics.
        """
        alone = jax.process_count() == 1
        return self._agreed or (alone and self.stop.received) or 0

    def _validate_and_save(self, done: int, state: TrainState, last: bool) -> None:
        score = None
        if not self._stopping and (last or is_due(done, self.config.eval.every)):
            score = self.validation.validate(done, state)
        if not self._stopping and last:
            self.validation.export_last(done, state)
        if self._stopping or last or is_due(done, self.config.checkpoint.every):
            self.checkpoints.save(done, state, score)
            self.log.sync()
        if self._stopping:
            self.checkpoints.wait()
            raise Interrupted(
                self._stopping,
                f"stopped after step {done:,} of {self.total:,}, which is saved in "
                f"{self.checkpoints.directory}; the same command resumes from there",
            )

    def _log_step(self, done: int, metrics: Mapping[str, jax.Array], batch: DeviceBatch) -> None:
        """Checks the results of a step and logs them if that is due."""
        values = {name: float(value) for name, value in jax.device_get(metrics).items()}
        self.watchdog.step_done(done)
        self._agreed = int(values.pop("stop")) or self._agreed
        values["records"] = int(values["records"])
        if not (math.isfinite(values["loss"]) and math.isfinite(values["grad_norm"])):
            self._raise_non_finite(done, values, batch.names)
        self._meter.add(self.config.batch)
        self._undecodable += batch.undecodable
        if is_due(done, self.config.log_every) or done == self.total:
            self.checkpoints.check()
            values |= self._meter.read()
            rate = values["images_per_second"]
            self.log.write(done, {**values, **self.speed(rate), "undecodable": len(self._undecodable)})
            left = (self.total - done) * self.config.batch / max(rate, 1e-9)
            self.log.progress(done, values["loss"], rate, left)
            if self._undecodable:
                self.log.message(
                    f"{len(self._undecodable):,} images could not be decoded and were replaced: "
                    f"{shorten(self._undecodable)}"
                )
                self._undecodable = []

    def _raise_non_finite(self, done: int, values: Mapping[str, float], names: list[str]) -> None:
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


def is_due(step: int, every: int) -> bool:
    """Whether something that is done every `every` steps (0: never) is to be done after `step`."""
    return every > 0 and step % every == 0
