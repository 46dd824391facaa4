"""Validation during training, and the model directories that a run leaves: best/ and last/."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jax
from jax.sharding import Mesh

from tcm_jax.data.pipeline import AnySource
from tcm_jax.distributed import Watchdog
from tcm_jax.distributed.interrupt import StopSignal
from tcm_jax.distributed.multihost import broadcast_from_host0
from tcm_jax.pretrained import CONFIG
from tcm_jax.training.checkpoint import export_model
from tcm_jax.training.optim import Optimizer, Tree
from tcm_jax.training.report import RunLog
from tcm_jax.training.state import TrainState, averaged_variables
from tcm_jax.training.task import Task

BEST, LAST = "best", "last"


class _StopValidation(Exception):  # noqa: N818 - not an error
    """A signal came in the middle of a validation."""


@dataclass
class Validation:
    """Scores the running model and exports the best and the last one, averaged weights if there are any.

    Args:
        sources: validation data; without any there is no best model.
        provenance: {"source", "license"} of the models.
    """

    task: Task
    optimizer: Optimizer
    sources: Sequence[AnySource]
    mesh: Mesh
    workdir: Path
    provenance: dict[str, str]
    log: RunLog
    stop: StopSignal
    watchdog: Watchdog

    def validate(self, step: int, state: TrainState) -> float | None:
        """Scores every source, exports the model if it is the best so far, and returns the score; None without
        sources, or when a stop signal has cut it short.
        """
        if not self.sources:
            return None

        def check() -> None:
            self.watchdog.step_done(step)  # a long validation is no stall
            if self.stop.received and jax.process_count() == 1:
                raise _StopValidation

        variables = averaged_variables(state, self.optimizer)
        try:
            scores = self.task.evaluate(variables, self.sources, self.mesh, check)
        except _StopValidation:
            return None
        for name, numbers in scores.rows.items():
            self.log.write(step, numbers, f"validation/{name}")
        self.log.message(f"step {step:,}: {scores.text}")
        if self._on_host0(scores.value > self._exported(BEST).get(scores.metric, -1.0)):
            self._export(BEST, step, variables, **{scores.metric: scores.value})
        return scores.value

    def export_last(self, step: int, state: TrainState) -> None:
        """Exports the model as the last one."""
        self._export(LAST, step, averaged_variables(state, self.optimizer))

    def has_exported_last(self, step: int) -> bool:
        """Whether the last model is that of `step`."""
        return self._on_host0(self._exported(LAST).get("step") == step)

    def exported_models(self) -> str:
        """The model directories of the run, for the user."""
        return ", ".join(str(self.workdir / name) for name in (BEST, LAST) if (self.workdir / name).is_dir())

    def _exported(self, name: str) -> dict[str, Any]:
        """What a model directory notes of the run, {"step": ..., "accuracy": ...}; {} if there is none."""
        path = self.workdir / name / CONFIG
        return json.loads(path.read_text("utf-8"))["extra"] if path.is_file() else {}

    def _on_host0(self, answer: bool) -> bool:
        """Process 0's answer, as all processes have to take part in writing."""
        return bool(broadcast_from_host0([int(answer)])[0])

    def _export(self, name: str, step: int, variables: Tree, **extra: Any) -> None:
        extra = {"step": step, **extra}
        export_model(self.workdir / name, self.task.pretrained(variables, **self.provenance, extra=extra))
