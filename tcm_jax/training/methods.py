"""Optimizers of the released recipes by name, each for one group of parameters.

A method is a function (lr, weight_decay, ...) -> optax.GradientTransformation whose updates are to be added to the
parameters; further arguments are its own: b1, b2 and eps, momentum of SGD. `lr` may be a traced scalar: the
transformation's state does not depend on it, so it can be made anew for every step. The defaults are PyTorch's and
Ranger's own, and MMOCR's momentum.
"""

import math
from collections.abc import Callable

import jax
import jax.numpy as jnp
import optax

from tcm_jax.training.ranger import ranger


def adam(
    lr: float | jax.Array, weight_decay: float = 0.0, b1: float = 0.9, b2: float = 0.999, eps: float = 1e-8
) -> optax.GradientTransformation:
    """PyTorch's Adam: weight decay is added to the gradient, and so is averaged and normalized with it."""
    return optax.chain(optax.add_decayed_weights(weight_decay), scale_by_adam(b1, b2, eps), optax.scale(-lr))


def adamw(
    lr: float | jax.Array, weight_decay: float = 0.0, b1: float = 0.9, b2: float = 0.999, eps: float = 1e-8
) -> optax.GradientTransformation:
    """PyTorch's AdamW: weight decay is decoupled from the gradient and proportional to the learning rate."""

    # Parameters shrink first and move then, each rounded to float32 as in PyTorch: of the released recipe's
    # lr * weight_decay of 1e-8 nothing is left. The difference p - shrink p is rounded once, with or without a fused
    # multiply-add; of p * (1 - shrink) + u the compiler may round the sum alone.
    shrink = 1 - (1 - jnp.float32(lr * weight_decay))

    def decay(updates: optax.Updates, params: optax.Params) -> optax.Updates:
        return jax.tree.map(lambda u, p: p - shrink * p + u - p, updates, params)

    return optax.chain(scale_by_adam(b1, b2, eps), optax.scale(-lr), optax.stateless(decay))


def sgd(lr: float | jax.Array, weight_decay: float = 0.0, momentum: float = 0.9) -> optax.GradientTransformation:
    """PyTorch's SGD with momentum: weight decay is added to the gradient, and the sum of both is accumulated."""
    return optax.chain(optax.add_decayed_weights(weight_decay), optax.trace(momentum), optax.scale(-lr))


def scale_by_adam(b1: float, b2: float, eps: float) -> optax.GradientTransformation:
    """`optax.scale_by_adam` with an exact bias correction: 1 - b2**step, as optax has it, is a difference of nearly
    equal float32 numbers, off in the fifth digit at the first steps.
    """

    def update(
        gradients: optax.Updates, state: optax.ScaleByAdamState, params: optax.Params | None = None
    ) -> tuple[optax.Updates, optax.ScaleByAdamState]:
        step = state.count + 1
        mu = optax.tree.update_moment(gradients, state.mu, b1, 1)
        nu = optax.tree.update_moment(gradients, state.nu, b2, 2)
        bias1, bias2 = (-jnp.expm1(step * math.log(b)) for b in (b1, b2))
        updates = jax.tree.map(lambda m, v: m / bias1 / (jnp.sqrt(v / bias2) + eps), mu, nu)
        return updates, optax.ScaleByAdamState(step, mu, nu)

    return optax.GradientTransformation(optax.scale_by_adam().init, update)


METHODS: dict[str, Callable[..., optax.GradientTransformation]] = {
    "adam": adam,
    "adamw": adamw,
    "ranger": ranger,
    "sgd": sgd,
}
