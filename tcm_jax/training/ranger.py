"""Ranger: rectified Adam on centralized gradients with lookahead, as TCM's release has it.

Sources: ocrclip/optimizer/ranger2020.py of the release; Liu et al., "On the Variance of the Adaptive Learning Rate
and Beyond" (RAdam, 2020); Yong et al., "Gradient Centralization" (2020); Zhang et al., "Lookahead Optimizer" (2019).

Optax has parts of these names that compute other things: its RAdam adds eps after the bias correction (and decides
in float32 when the rectification starts), its `centralize` knows PyTorch's layout only, and its `lookahead` asks the
trainer to carry two sets of parameters.
"""

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

Axes = Callable[[str, tuple[int, ...]], tuple[int, ...]]  # path and shape of a leaf -> axes of a mean

_MERGING = ("out", "proj", "c_proj")  # projections of heads back to features, [k, e, d]


def ranger(
    lr: float | jax.Array,
    weight_decay: float = 0.0,
    b1: float = 0.95,
    b2: float = 0.999,
    eps: float = 1e-5,
    axes: Axes | None = None,
    sync_period: int = 6,
    slow_step: float = 0.5,
    threshold: float = 5.0,
) -> optax.GradientTransformation:
    """The optimizer as one transformation; its updates are to be added to the parameters.

    Args:
        lr: learning rate; it may be traced and change from step to step.
        weight_decay: times the parameters, it is added to the direction and so is scaled by the step size too.
        axes: of a gradient, those over which its mean is subtracted; default: `centralized_axes`.
        sync_period, slow_step: lookahead's k and alpha.
        threshold: rectification starts where the length of the averaged variance exceeds it.
    """
    sizes, warmup = step_sizes(b1, b2, threshold)
    return optax.chain(
        centralize(axes or centralized_axes),
        _direction(b1, b2, eps, warmup, weight_decay),
        optax.scale_by_schedule(lambda count: jnp.asarray(sizes)[jnp.minimum(count, len(sizes) - 1)]),
        optax.scale(-lr),
        lookahead(sync_period, slow_step),
    )


def centralized_axes(path: str, shape: tuple[int, ...]) -> tuple[int, ...]:
    """All axes of a parameter but those that are the first axis in PyTorch's layout; () for vectors and scalars.

    The first axis is that of the outputs; of a transposed convolution it is that of the inputs.

    Args:
        path: "bbox_head/binarize_3/kernel"; shape: as in the tree of this project's models.
    """
    *_, module, name = ("", *path.split("/"))
    ndim = len(shape)
    if name != "kernel":  # embeddings and the like have PyTorch's layout; a bias of heads [k, e] is a vector there
        return () if name == "bias" else tuple(range(1, ndim))
    if ndim == 3:  # of heads: [d, k, e] or [k, e, d]
        return (0, 1) if module in _MERGING else (0,)
    if ndim == 4 and shape[:2] == (2, 2):  # Deconv; a Conv has odd sizes
        return (0, 1, 3)
    return tuple(range(ndim - 1))


def centralize(axes: Axes) -> optax.GradientTransformation:
    """Subtracts of every gradient its mean over `axes` of it."""

    def subtract_mean(path: tuple[Any, ...], gradient: jax.Array) -> jax.Array:
        over = axes(jax.tree_util.keystr(path, simple=True, separator="/"), gradient.shape)
        return gradient - gradient.mean(over, keepdims=True) if over else gradient

    return optax.stateless(lambda gradients, params: jax.tree_util.tree_map_with_path(subtract_mean, gradients))


def step_sizes(b1: float, b2: float, threshold: float) -> tuple[np.ndarray, int]:
    """Step sizes of rectified Adam.

    Returns:
        (float32 [steps], of the first updates, until they no longer change; number of updates before the
        rectification starts, which follow the averaged gradient alone).

    Raises:
        ValueError: the threshold is below 4, where the variance has no value, or is never reached.
    """
    longest = 2 / (1 - b2) - 1
    if not 4 <= threshold < longest:
        raise ValueError(f"threshold is {threshold}; expected 4 .. {longest:g}, which b2 = {b2} comes to")
    # In float64 on the host: the length is a difference of numbers near `longest`, and with the usual b2 that of the
    # fifth update is 4.996, just not above the threshold.
    t = np.arange(1, 2 + math.ceil(20 / (1 - max(b1, b2))), dtype=np.float64)
    bias = 1 - b2**t
    length = longest - 2 * t * (1 - bias) / bias
    warmup = int(np.argmax(length > threshold))
    n = length[warmup:]
    variance = (n - 4) / (longest - 4) * (n - 2) / n * longest / (longest - 2)
    sizes = np.concatenate([np.ones(warmup), np.sqrt(bias[warmup:] * variance)]) / (1 - b1**t)
    return sizes.astype(np.float32), warmup


class LookaheadState(NamedTuple):
    """Number of updates made, and the parameters at the last synchronization."""

    step: jax.Array
    slow: optax.Params


def lookahead(sync_period: int, slow_step: float) -> optax.GradientTransformation:
    """Every `sync_period` updates slow parameters move `slow_step` of the way to the parameters, which become them.

    It has to be the last transformation, because it assumes that its updates are added to the parameters.
    """

    def init(params: optax.Params) -> LookaheadState:
        # A copy, because a state and the parameters may both be donated.
        return LookaheadState(jnp.zeros((), jnp.int32), jax.tree.map(jnp.copy, params))

    def update(
        updates: optax.Updates, state: LookaheadState, params: optax.Params
    ) -> tuple[optax.Updates, LookaheadState]:
        step = state.step + 1
        sync = step % sync_period == 0

        def slower(slow: jax.Array, value: jax.Array, change: jax.Array) -> jax.Array:
            return jnp.where(sync, slow + slow_step * (value + change - slow), slow)

        slow = jax.tree.map(slower, state.slow, params, updates)
        updates = jax.tree.map(lambda s, p, u: jnp.where(sync, s - p, u), slow, params, updates)
        return updates, LookaheadState(step, slow)

    return optax.GradientTransformation(init, update)


def _direction(b1: float, b2: float, eps: float, warmup: int, weight_decay: float) -> optax.GradientTransformation:
    """Averaged gradient, after `warmup` updates over the root of the averaged square; no bias correction."""

    def update(
        gradients: optax.Updates, state: optax.ScaleByAdamState, params: optax.Params
    ) -> tuple[optax.Updates, optax.ScaleByAdamState]:
        rectified = state.count >= warmup
        mu = optax.tree.update_moment(gradients, state.mu, b1, 1)
        nu = optax.tree.update_moment(gradients, state.nu, b2, 2)
        decay = jax.tree.map(lambda p: weight_decay * p, params)
        # Before the rectification the release adds the decay in place, to the average itself, which keeps it.
        mu = jax.tree.map(lambda m, d: jnp.where(rectified, m, m + d), mu, decay)
        updates = jax.tree.map(lambda m, v, d: jnp.where(rectified, m / (jnp.sqrt(v) + eps) + d, m), mu, nu, decay)
        return updates, optax.ScaleByAdamState(state.count + 1, mu, nu)

    return optax.GradientTransformation(optax.scale_by_adam().init, update)
