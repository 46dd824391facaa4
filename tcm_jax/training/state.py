"""The training state and the step that updates it."""

from collections.abc import Callable
from typing import Any

import flax.struct
import jax
import jax.numpy as jnp

from tcm_jax.training.optim import Optimizer, Tree, merge
from tcm_jax.training.task import Batch, Task

Metrics = dict[str, jax.Array]
Step = Callable[["TrainState", Batch], tuple["TrainState", Metrics]]


class TrainState(flax.struct.PyTreeNode):
    """All that a run carries from step to step.

    Args:
        step: number of updates made, int32 scalar.
        params: all parameters, float32.
        batch_stats: running statistics of BatchNorm, {} for a model without.
        opt_state: of the trainable parameters.
        ema: {"params": running average of the trainable parameters, "batch_stats": that of the statistics}, or None.
    """

    step: jax.Array
    params: Tree
    batch_stats: Tree
    opt_state: Any
    ema: dict[str, Tree] | None

    @property
    def variables(self) -> dict[str, Tree]:
        """What the model is applied with."""
        return variables_of(self.params, self.batch_stats)


def variables_of(params: Tree, batch_stats: Tree) -> dict[str, Tree]:
    """Flax's collections; a model without BatchNorm has no "batch_stats"."""
    return {"params": params, "batch_stats": batch_stats} if batch_stats else {"params": params}


def init_state(variables: Tree, optimizer: Optimizer) -> TrainState:
    """The state before the first update; traceable."""
    params, batch_stats = variables["params"], variables.get("batch_stats", {})
    # A copy, not the parameters themselves: a state is donated, and a buffer can't be donated twice.
    average = {"params": optimizer.split(params)[0], "batch_stats": batch_stats}
    ema = jax.tree.map(jnp.copy, average) if optimizer.ema else None
    return TrainState(jnp.zeros((), jnp.int32), params, batch_stats, optimizer.init(params), ema)


def averaged_variables(state: TrainState, optimizer: Optimizer) -> dict[str, Tree]:
    """The variables to evaluate and to export: the running average if there is one."""
    if state.ema is None:
        return state.variables
    return variables_of(merge(state.ema["params"], optimizer.split(state.params)[1]), state.ema["batch_stats"])


def make_step(
    task: Task,
    optimizer: Optimizer,
    seed: int,
    accumulate: int = 1,
    constrain: Callable[[Tree], Tree] = lambda gradients: gradients,
) -> Step:
    """The function (state, batch) -> (new state, metrics) of one optimizer step; to be jitted, the state donated.

    The random numbers of a step depend on (seed, step) alone. With `accumulate` > 1 the batch is split into that
    many micro-batches, and their losses and gradients are averaged. An update whose loss or gradient norm is
    not finite is not made: parameters, optimizer and average stay as they were, `step` advances. `constrain` sets the
    sharding of the gradients of the trainable parameters.

    Metrics are float32 scalars: the task's, "grad_norm" before clipping, and "lr".
    """

    def loss_and_gradients(
        trainable: Tree, frozen: Tree, batch_stats: Tree, batch: Batch, key: jax.Array
    ) -> tuple[tuple[Tree, Metrics], Tree]:
        def loss(trainable: Tree) -> tuple[jax.Array, tuple[Metrics, Tree]]:
            # Frozen parameters are constants here, so that nothing is ever computed of their gradients.
            total, metrics, new = task.loss(variables_of(merge(trainable, frozen), batch_stats), batch, key)
            return total, (metrics, new)

        (_, (metrics, new)), gradients = jax.value_and_grad(loss, has_aux=True)(trainable)
        return (constrain(gradients), metrics), new

    def accumulated(
        trainable: Tree, frozen: Tree, batch_stats: Tree, batch: Batch, key: jax.Array
    ) -> tuple[tuple[Tree, Metrics], Tree]:
        if accumulate == 1:
            return loss_and_gradients(trainable, frozen, batch_stats, batch, key)

        def split(x: jax.Array) -> jax.Array:
            # Micro-batch i has the rows i, i + a, i + 2a ...: every device keeps the rows it holds.
            return x.reshape(-1, accumulate, *x.shape[1:]).swapaxes(0, 1)  # [a, b / a, ...]

        def add(carry: tuple[Any, Tree], inputs: tuple[jax.Array, Batch]) -> tuple[tuple[Any, Tree], None]:
            (total, batch_stats), (i, part) = carry, inputs
            result, batch_stats = loss_and_gradients(trainable, frozen, batch_stats, part, jax.random.fold_in(key, i))
            return (jax.tree.map(jnp.add, total, result), batch_stats), None

        parts = jax.tree.map(split, dict(batch))
        first = jax.tree.map(lambda x: x[0], parts)
        shapes, _ = jax.eval_shape(loss_and_gradients, trainable, frozen, batch_stats, first, key)
        zeros = jax.tree.map(lambda x: jnp.zeros(x.shape, x.dtype), shapes)
        (total, batch_stats), _ = jax.lax.scan(add, (zeros, batch_stats), (jnp.arange(accumulate), parts))
        return jax.tree.map(lambda x: x / accumulate, total), batch_stats

    def step(state: TrainState, batch: Batch) -> tuple[TrainState, Metrics]:
        # Not the device's own generator ("rbg"): every device would draw the masks of the global batch.
        key = jax.random.fold_in(jax.random.key(seed, impl="threefry2x32"), state.step)
        trainable, frozen = optimizer.split(state.params)
        (gradients, metrics), batch_stats = accumulated(trainable, frozen, state.batch_stats, batch, key)
        new, opt_state, more = optimizer.update(gradients, state.opt_state, trainable, state.step)
        metrics = metrics | more
        ema = state.ema
        if ema is not None:
            decay, now = optimizer.ema, {"params": new, "batch_stats": batch_stats}
            ema = jax.tree.map(lambda average, x: decay * average + (1 - decay) * x, ema, now)

        finite = jnp.isfinite(metrics["loss"]) & jnp.isfinite(metrics["grad_norm"])
        state = state.replace(step=state.step + 1)
        new_state = TrainState(state.step, merge(new, frozen), batch_stats, opt_state, ema)
        return jax.tree.map(lambda a, b: a if a is b else jnp.where(finite, a, b), new_state, state), metrics

    return step
