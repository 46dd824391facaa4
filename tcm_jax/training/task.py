"""What the trainer asks of a kind of model: recognizer or detector."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple, Protocol

import jax
from jax.sharding import Mesh

from tcm_jax.data.pipeline import AnySource, Prepare
from tcm_jax.pretrained import Pretrained
from tcm_jax.training.optim import Optimizer, Tree
from tcm_jax.training.partition import Rules
from tcm_jax.training.transfer import LoadReport

Batch = Mapping[str, jax.Array]


class Scores(NamedTuple):
    """Of one validation.

    Args:
        metric, value: what chooses the best model, such as ("accuracy", 93.1), and its value; higher is better.
        text: for the user, in one line.
        rows: all numbers by data set.
    """

    metric: str
    value: float
    text: str
    rows: Mapping[str, Mapping[str, float]]


class Task(Protocol):
    """One object for a run; made from its config (plain nested dictionaries).

    Attributes:
        config: the typed values.

    Methods:
        init: random variables, {"params": tree} and, of a model with BatchNorm, {"batch_stats": tree}.
        loss: of a batch, (loss, metrics, batch_stats): metrics are scalars by name, "loss" among them; the running
            statistics are the new ones, {} without BatchNorm.
        training_sources, validation_sources: the data; SourceError says which entry of the config is unavailable.
        describe: a line about a source for the user.
        sample: what a training sample is made of.
        partition_rules: where the parameters lie on the mesh, see `tcm_jax.training.partition`.
        optimizer: of the parameters (or their shapes), for so many training records.
        initialize: random variables with everything replaced that a model directory holds, and what became of each.
        pretrained: the model to store, from its variables and {"source", "license", "extra"}.
        evaluate: scores of the sources; `check` is called often and may raise to end it.
        inference: what a trained model does with so many images at once: a function (variables, arrays) and the shapes
            of the arrays by name.
    """

    @property
    def config(self) -> Any: ...  # a RunConfig with the sections of its kind

    def init(self, key: jax.Array) -> Mapping[str, Any]: ...

    def loss(self, variables: Mapping[str, Any], batch: Batch, key: jax.Array) -> tuple[jax.Array, dict, Tree]: ...

    def training_sources(self) -> list[AnySource]: ...

    def validation_sources(self) -> Sequence[AnySource]: ...

    def describe(self, source: Any) -> str: ...

    def sample(self) -> Prepare: ...

    def partition_rules(self) -> Rules: ...

    def optimizer(self, params: Tree, records: int) -> Optimizer: ...

    def initialize(self, variables: Tree, pretrained: Pretrained) -> tuple[Tree, LoadReport]: ...

    def pretrained(self, variables: Tree, **origin: Any) -> Pretrained: ...

    def evaluate(self, variables: Tree, sources: Any, mesh: Mesh, check: Callable[[], None]) -> Scores: ...

    def inference(self, batch: int) -> tuple[Callable[..., Any], dict[str, jax.ShapeDtypeStruct]]: ...
