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
    """One object for a run; made from its config (plain nested dictionaries)."""

    @property
    def config(self) -> Any:
        """The typed values, a RunConfig with the sections of its kind."""

    def init(self, key: jax.Array) -> Mapping[str, Any]:
        """Random variables, {"params": tree} and, of a model with BatchNorm, {"batch_stats": tree}."""

    def loss(self, variables: Mapping[str, Any], batch: Batch, key: jax.Array) -> tuple[jax.Array, dict, Tree]:
        """Of a batch, (loss, metrics, batch_stats): metrics are scalars by name, "loss" among them; the running
        statistics are the new ones, {} without BatchNorm.
        """

    def training_sources(self) -> list[AnySource]:
        """The training data; SourceError says which entry of the config is unavailable."""

    def validation_sources(self) -> Sequence[AnySource]:
        """The validation data; SourceError says which entry of the config is unavailable."""

    def describe(self, source: Any) -> str:
        """A line about a source for the user."""

    def sample(self) -> Prepare:
        """Makes training samples of records."""

    def partition_rules(self) -> Rules:
        """How the parameters are sharded over the mesh, see `tcm_jax.training.partition`."""

    def optimizer(self, params: Tree, records: int) -> Optimizer:
        """The optimizer of the parameters (or their shapes) for that number of training records."""

    def initialize(self, variables: Tree, pretrained: Pretrained) -> tuple[Tree, LoadReport]:
        """Random variables with everything replaced that a model directory holds, and what became of each."""

    def pretrained(self, variables: Tree, **provenance: Any) -> Pretrained:
        """The model to export, from its variables and {"source", "license", "extra"}."""

    def evaluate(self, variables: Tree, sources: Any, mesh: Mesh, check: Callable[[], None]) -> Scores:
        """Scores of the sources; `check` is called often and may raise to end it."""

    def inference(self, batch: int) -> tuple[Callable[..., Any], dict[str, jax.ShapeDtypeStruct]]:
        """What a trained model does with that many images: a function (variables, arrays) and the shapes of the
        arrays by name.
        """
