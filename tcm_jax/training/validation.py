"""Validation during training, and the model directories that a run leaves: best/ and last/."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jax
from jax.sharding import Mesh

from tcm_jax.data.pipeline import AnySource
from tcm_jax.distributed import Watch
from tcm_jax.distributed.interrupt import StopSignal
from tcm_jax.distributed.multihost import broadcast_from_host0
from tcm_jax.pretrained import CONFIG
from tcm_jax.training.checkpoint import export
from tcm_jax.training.optim import Optimizer, Tree
from tcm_jax.training.report import RunLog
from tcm_jax.training.state import TrainState, averaged_variables
from tcm_jax.training.task import Task

BEST, LAST = "best", "last"


class _Stopped(Exception):
    """A signal came in the middle of a validation."""


@dataclass
class Validation:
    """Scores the running model and keeps the best and the last one, averaged weights if there are any.

    Args:
        sources: what to validate on; none: there is no best model.
        origin: {"source", "license"} of the models.
    """

    task: Task
    optimizer: Optimizer
    sources: Sequence[AnySource]
    mesh: Mesh
    workdir: Path
    origin: dict[str, str]
    report: RunLog
    stop: StopSignal
    watch: Watch

    def validate(self, step: int, state: TrainState) -> float | None:
        """Scores every source, keeps the model if it is the best so far, and returns the score; None without sources,
        or when a stop signal has cut it short.
        """
        if not self.sources:
            return None
        variables = averaged_variables(state, self.optimizer)
        try:
            scores = self.task.evaluate(variables, self.sources, self.mesh, lambda: self._check(step))
        except _Stopped:
            return None
        for name, numbers in scores.rows.items():
            self.report.write(step, numbers, f"validation/{name}")
        self.report.message(f"step {step:,}: {scores.text}")
        # One process decides, as all of them have to take part in writing.
        if broadcast_from_host0([int(scores.value > stored(self.workdir / BEST).get(scores.metric, -1.0))])[0]:
            self._export(BEST, step, variables, **{scores.metric: scores.value})
        return scores.value

    def finish(self, step: int, state: TrainState) -> None:
        """Keeps the model as the last one."""
        self._export(LAST, step, averaged_variables(state, self.optimizer))
        names = [name for name in (BEST, LAST) if (self.workdir / name).is_dir()]
        self.report.message(f"done; models are in {', '.join(str(self.workdir / name) for name in names)}")

    def _check(self, step: int) -> None:
        self.watch.beat(step)  # a long validation is no stall
        if self.stop.number and jax.process_count() == 1:
            raise _Stopped

    def _export(self, name: str, step: int, variables: Tree, **extra: Any) -> None:
        extra = {"step": step, **extra}
        export(self.workdir / name, self.task.pretrained(variables, **self.origin, extra=extra))


def stored(directory: Path) -> dict[str, Any]:
    """What a run noted with a model directory, {"step": ..., "accuracy": ...}; {} if there is none."""
    path = directory / CONFIG
    return json.loads(path.read_text("utf-8"))["extra"] if path.is_file() else {}
