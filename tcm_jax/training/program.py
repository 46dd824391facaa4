"""The training step of a run as one program: what goes in, where it lies on the mesh, what comes out.

Needs no data, no weights and not even the devices: a plan compiles it for machines that are elsewhere.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import jax
import numpy as np
from jax.sharding import Mesh, NamedSharding

from tcm_jax.training import partition
from tcm_jax.training.fingerprint import fingerprint
from tcm_jax.training.mesh import batch_sharding, batch_shards, replicated
from tcm_jax.training.optim import Optimizer, Tree
from tcm_jax.training.state import Step, TrainState, init_state, make_step
from tcm_jax.training.task import Batch, Task

Shapes = Mapping[str, jax.ShapeDtypeStruct]


@dataclass(frozen=True)
class TrainProgram:
    """One step of training.

    Args:
        state, batch: shapes, dtypes and places of the arguments.
        step: (state, batch) -> (new state, metrics). Beside what the task takes a batch has "record", uint32 [b],
            a number for every record, and "stop", int32 [b], which some process has set if it was asked to stop; the
            metrics have "records", one number for the records in their order, and "stop", the largest. All processes
            see the same, whatever the mesh.
    """

    mesh: Mesh
    optimizer: Optimizer
    state: TrainState
    batch: Shapes
    step: Step

    def lower(self) -> jax.stages.Lowered:
        """The step for `jax.jit`'s compiler, its state donated. Arguments of other shapes or places raise an error."""
        out = (_places(self.state), replicated(self.mesh))
        with jax.set_mesh(self.mesh):
            return jax.jit(self.step, donate_argnums=0, out_shardings=out).lower(self.state, self.batch)

    def first_state(self, variables: Tree) -> TrainState:
        """The state before the first update; `variables` are donated."""
        make = jax.jit(lambda v: init_state(v, self.optimizer), donate_argnums=0, out_shardings=_places(self.state))
        return make(variables)


def train_program(task: Task, mesh: Mesh, records: int) -> TrainProgram:
    """The program of a run.

    Args:
        records: of the training data, which an epoch is made of.

    Raises:
        ValueError: the batch can't be spread over the mesh, or the partition rules don't fit the model.
    """
    c = task.config
    parts = c.accumulate * batch_shards(mesh)
    if c.batch % parts:
        raise ValueError(
            f"config.batch is {c.batch}; expected a multiple of {parts}: config.accumulate ({c.accumulate}) times "
            f"the {batch_shards(mesh)} devices of the mesh's axes data and fsdp"
        )
    shapes = jax.eval_shape(task.init, jax.random.key(0))
    params, rules = shapes["params"], task.partition_rules()
    optimizer = task.optimizer(params, records)
    state = jax.eval_shape(lambda v: init_state(v, optimizer), shapes)
    places = partition.shardings(state, params, rules, mesh)
    trainable, _ = optimizer.split(places.params)

    def constrain(gradients: Tree) -> Tree:
        return jax.lax.with_sharding_constraint(gradients, trainable)

    step = with_signals(make_step(task, optimizer, c.seed, c.accumulate, constrain))
    example = {**task.sample().example(), **{name: np.zeros((), dtype) for name, dtype in SIGNALS.items()}}
    batch = {name: jax.ShapeDtypeStruct((c.batch, *x.shape), x.dtype) for name, x in example.items()}
    return TrainProgram(mesh, optimizer, _at(state, places), _at(batch, batch_sharding(mesh)), step)


def predict_program(task: Task, mesh: Mesh, batch: int) -> jax.stages.Lowered:
    """The reading or detecting of `batch` images, its variables sharded as in training."""
    predict, arrays = task.inference(batch)
    shapes = jax.eval_shape(task.init, jax.random.key(0))
    places = partition.shardings(shapes, shapes["params"], task.partition_rules(), mesh)
    with jax.set_mesh(mesh):
        return jax.jit(predict).lower(_at(shapes, places), _at(arrays, batch_sharding(mesh)))


SIGNALS = {"record": np.dtype(np.uint32), "stop": np.dtype(np.int32)}  # [b] each, beside what the task takes


def with_signals(step: Step) -> Step:
    """A step that passes what the processes say in `SIGNALS` on to its metrics."""

    def signalling(state: TrainState, batch: Batch) -> tuple[TrainState, dict[str, jax.Array]]:
        inputs = {name: value for name, value in batch.items() if name not in SIGNALS}
        state, metrics = step(state, inputs)
        return state, metrics | {"records": fingerprint(batch["record"]), "stop": batch["stop"].max()}

    return signalling


def _places(tree: Any) -> Any:
    return jax.tree.map(lambda x: x.sharding, tree)


def _at(tree: Any, places: Any) -> Any:
    """Shapes with their places on the devices; one place for all, or a tree of them."""
    if isinstance(places, NamedSharding):
        one = places
        places = jax.tree.map(lambda _: one, tree)
    return jax.tree.map(lambda x, place: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=place), tree, places)


def sharded_init(task: Task, mesh: Mesh) -> Callable[[jax.Array], Tree]:
    """The task's random variables of a key, born in their shards."""
    shapes = jax.eval_shape(task.init, jax.random.key(0))
    places = partition.shardings(shapes, shapes["params"], task.partition_rules(), mesh)
    return jax.jit(task.init, out_shardings=places)
