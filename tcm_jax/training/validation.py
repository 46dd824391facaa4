"""Validation during training, and the model directories that a run leaves: best/ and last/."""

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import jax
import numpy as np
from jax.experimental import multihost_utils
from jax.sharding import Mesh, PartitionSpec

from tcm_jax.data.sources import FilteredSource
from tcm_jax.metrics.recognition import Result, combine
from tcm_jax.pretrained import CONFIG
from tcm_jax.tasks.evaluation import Sample, evaluate
from tcm_jax.tasks.recognition import Prediction, Recognition
from tcm_jax.training.checkpoint import export
from tcm_jax.training.interrupt import StopSignal
from tcm_jax.training.optim import Optimizer, Tree
from tcm_jax.training.report import Report
from tcm_jax.training.state import TrainState, averaged_params, shard_batch

BEST, LAST = "best", "last"


class _Stopped(Exception):
    """A signal came in the middle of a validation."""


@dataclass
class Validation:
    """Scores the running model and keeps the best and the last one, averaged parameters if there are any.

    Args:
        task: of the training; its statistics are stored with the models.
        reader: of the validation; another one if that normalizes images in another way.
        sources: what to validate on; none: there is no best model.
        batch: images at a time over all devices; workers: processes that decode them.
        origin: {"source", "license"} of the models.
    """

    task: Recognition
    reader: Recognition
    optimizer: Optimizer
    sources: Sequence[FilteredSource]
    batch: int
    workers: int
    mesh: Mesh
    workdir: Path
    origin: dict[str, str]
    report: Report
    stop: StopSignal

    def __post_init__(self):
        self._predict = jax.jit(self.reader.predict)

    def validate(self, step: int, state: TrainState) -> None:
        """Scores every source and keeps the model if it is the best so far. A stop signal cuts it short."""
        if not self.sources:
            return
        params = averaged_params(state, self.optimizer)
        try:
            results = [self._evaluate(params, source) for source in self.sources]
        except _Stopped:
            return
        for result in results:
            self.report.write(step, _numbers(result), f"validation/{result.name}")
        total = combine(results)
        each = ", ".join(f"{r.name} {r.accuracy:.2f}" for r in results)
        self.report.message(f"step {step:,}: accuracy {total.accuracy:.2f} % of {total.num_samples:,} words ({each})")
        if total.accuracy > stored(self.workdir / BEST).get("accuracy", -1.0):
            self._export(BEST, step, params, accuracy=total.accuracy)

    def finish(self, step: int, state: TrainState) -> None:
        """Keeps the model as the last one."""
        self._export(LAST, step, averaged_params(state, self.optimizer))
        names = [name for name in (BEST, LAST) if (self.workdir / name).is_dir()]
        self.report.message(f"done; models are in {', '.join(str(self.workdir / name) for name in names)}")

    def _evaluate(self, params: Tree, source: FilteredSource) -> Result:
        def predict(images: np.ndarray) -> Prediction:
            arrays = shard_batch({"image": images}, self.mesh)
            prediction = self._predict({"params": params}, arrays["image"])
            return multihost_utils.global_array_to_host_local_array(prediction, self.mesh, PartitionSpec("data"))

        def watch(_: Sample) -> None:
            if self.stop.number and jax.process_count() == 1:
                raise _Stopped

        return evaluate(
            predict,
            source,
            tokenizer=self.task.tokenizer,
            image_size=self.task.config.clip.image_size,
            batch_size=self.batch,
            workers=self.workers,
            on_sample=watch,
        )

    def _export(self, name: str, step: int, params: Tree, **extra: Any) -> None:
        export(self.workdir / name, self.task, params, **self.origin, extra={"step": step, **extra})


def stored(directory: Path) -> dict[str, Any]:
    """What a run noted with a model directory, {"step": ..., "accuracy": ...}; {} if there is none."""
    path = directory / CONFIG
    return json.loads(path.read_text("utf-8"))["extra"] if path.is_file() else {}


def _numbers(result: Result) -> dict[str, float]:
    return {key: value for key, value in asdict(result).items() if key != "name"}
