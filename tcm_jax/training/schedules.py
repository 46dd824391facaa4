"""Learning-rate schedules: traceable functions step (0 for the first update) -> rate."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

Schedule = Callable[[Any], jax.Array]


def one_cycle(
    peak: float, total_steps: int, warmup_fraction: float, div_factor: float = 25.0, final_div_factor: float = 1e4
) -> Schedule:
    """PyTorch's OneCycleLR with cosine annealing.

    It rises from start = peak / div_factor to its peak at step `warmup_fraction * total_steps - 1` and falls
    to start / final_div_factor at the last step.
    """
    start = peak / div_factor
    end = start / final_div_factor
    top = warmup_fraction * total_steps - 1
    last = total_steps - 1

    def between(a: float, b: float, fraction: jax.Array) -> jax.Array:
        # (1 + cos x) / 2 = cos(x / 2)^2, which stays exact where the cosine comes near -1.
        return b + (a - b) * jnp.cos(jnp.pi / 2 * fraction) ** 2

    def schedule(step: Any) -> jax.Array:
        step = jnp.asarray(step, jnp.float32)
        up = between(start, peak, step / max(top, 1e-9))
        down = between(peak, end, (step - top) / max(last - top, 1e-9))
        return jnp.where(step <= top, up, down)

    return schedule


def poly(base: float, epochs: int, steps_per_epoch: int, power: float = 0.9, minimum: float = 1e-7) -> Schedule:
    """mmcv's poly policy by epoch: (base - minimum) (1 - epoch / epochs)^power + minimum, the same for all steps of
    an epoch (mmcv/runner/hooks/lr_updater.py).

    `minimum` is the same for every group of parameters, whatever the multiplier in its `base`: rates of groups are not
    multiples of each other, and a base of 0 rises to `minimum`.

    Raises:
        ValueError: epochs or steps_per_epoch below 1.
    """
    if epochs < 1 or steps_per_epoch < 1:
        raise ValueError(f"{epochs} epochs of {steps_per_epoch} steps; expected at least 1 of each")

    def schedule(step: Any) -> jax.Array:
        left = jnp.maximum(epochs - jnp.asarray(step) // steps_per_epoch, 0)  # as integers, so that the end is exact
        return (base - minimum) * (left / epochs) ** power + minimum

    return schedule
