"""The training step of a run as one program: what goes in, how it is sharded over the mesh, what comes out.

Needs no data, no weights and not even the devices: a plan compiles it for machines that are elsewhere.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import jax
import numpy as np
from jax.sharding import Mesh

from tcm_jax.training import partition
from tcm_jax.training.fingerprint import fingerprint
from tcm_jax.training.mesh import batch_sharding, batch_shards, replicated
from tcm_jax.training.optim import Optimizer, Tree
from tcm_jax.training.state import Step, TrainState, init_state, make_step
from tcm_jax.training.task import Batch, Task

SIGNALS = {"record": np.dtype(np.uint32), "stop": np.dtype(np.int32)}  # [b] each, beside what the task takes


@dataclass(frozen=True)
class TrainProgram:
    """One step of training.

    Args:
        state: shapes, dtypes and shardings of the state; batch: shapes and dtypes of a batch.
        step: (state, batch) -> (new state, metrics), see `with_signals`.
    """

    mesh: Mesh
    optimizer: Optimizer
    state: TrainState
    batch: Mapping[str, jax.ShapeDtypeStruct]
    step: Step

    def lower(self) -> jax.stages.Lowered:
        """The step for JAX's compiler, its state donated. Arguments of other shapes or shardings raise an error."""
        inputs = (self._shardings, batch_sharding(self.mesh))
        outputs = (self._shardings, replicated(self.mesh))
        with jax.set_mesh(self.mesh):
            step = jax.jit(self.step, donate_argnums=0, in_shardings=inputs, out_shardings=outputs)
            return step.lower(self.state, self.batch)

    def first_state(self, variables: Tree) -> TrainState:
        """The state before the first update; `variables` are donated."""
        make = jax.jit(lambda v: init_state(v, self.optimizer), donate_argnums=0, out_shardings=self._shardings)
        return make(variables)

    @property
    def _shardings(self) -> TrainState:
        return jax.tree.map(lambda x: x.sharding, self.state)


def train_program(task: Task, mesh: Mesh, records: int) -> TrainProgram:
    """The program of a run.

    Args:
        records: number of training records, which make an epoch.

    Raises:
        ValueError: the mesh does not divide the batch, or the partition rules don't fit the model.
    """
    c = task.config
    shards = c.accumulate * batch_shards(mesh)
    if c.batch % shards:
        raise ValueError(
            f"config.batch is {c.batch}; expected a multiple of {shards}: config.accumulate ({c.accumulate}) times "
            f"the {batch_shards(mesh)} devices of the mesh's axes data and fsdp"
        )
    variables = jax.eval_shape(task.init, jax.random.key(0))
    optimizer = task.optimizer(variables["params"], records)
    state = jax.eval_shape(lambda v: init_state(v, optimizer), variables)
    shardings = partition.shardings(state, variables["params"], task.partition_rules(), mesh)
    state = jax.tree.map(lambda x, s: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=s), state, shardings)
    trainable, _ = optimizer.split(shardings.params)

    def constrain(gradients: Tree) -> Tree:
        return jax.lax.with_sharding_constraint(gradients, trainable)

    step = with_signals(make_step(task, optimizer, c.seed, c.accumulate, constrain))
    example = {**task.sample().example(), **{name: np.zeros((), dtype) for name, dtype in SIGNALS.items()}}
    batch = {name: jax.ShapeDtypeStruct((c.batch, *x.shape), x.dtype) for name, x in example.items()}
    return TrainProgram(mesh, optimizer, state, batch, step)


def predict_program(task: Task, mesh: Mesh, batch: int) -> jax.stages.Lowered:
    """The inference on `batch` images, its variables sharded as in training."""
    predict, arrays = task.inference(batch)
    variables, shardings = _variables(task, mesh)
    with jax.set_mesh(mesh):
        return jax.jit(predict, in_shardings=(shardings, batch_sharding(mesh))).lower(variables, arrays)


def sharded_init(task: Task, mesh: Mesh) -> Callable[[jax.Array], Tree]:
    """The function key -> random variables of the task, each device making its own shards."""
    return jax.jit(task.init, out_shardings=_variables(task, mesh)[1])


def with_signals(step: Step) -> Step:
    """A step that returns the `SIGNALS` of all processes as metrics, which every process reads alike on any mesh.

    Beside what the task takes a batch has "record", uint32 [b], a number for every record, and "stop", int32 [b], the
    signal that a process got, or 0. The metrics have "records", one number for the records in their order, and "stop",
    the maximum.
    """

    def train_step(state: TrainState, batch: Batch) -> tuple[TrainState, dict[str, jax.Array]]:
        state, metrics = step(state, {name: value for name, value in batch.items() if name not in SIGNALS})
        return state, metrics | {"records": fingerprint(batch["record"]), "stop": batch["stop"].max()}

    return train_step


def _variables(task: Task, mesh: Mesh) -> tuple[Any, Any]:
    """Shapes and shardings of the task's variables."""
    shapes = jax.eval_shape(task.init, jax.random.key(0))
    return shapes, partition.shardings(shapes, shapes["params"], task.partition_rules(), mesh)
