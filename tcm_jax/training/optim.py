"""The optimizer: one of `training.methods` over groups of parameters, with frozen parameters and clipping."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from tcm_jax.pretrained import flatten, unflatten
from tcm_jax.training.schedules import Schedule

Tree = Mapping[str, Any]
FROZEN = "frozen"


class Group(NamedTuple):
    """What the parameters of a group have in common."""

    lr_multiplier: float
    weight_decay: float


def clip_factor(norm: jax.Array, clip_norm: float) -> jax.Array:
    """What PyTorch's clip_grad_norm_ multiplies gradients of global norm `norm` with."""
    return jnp.minimum(1.0, clip_norm / (norm + 1e-6))


@dataclass(frozen=True)
class Optimizer:
    """Updates the trainable part of a parameter tree.

    Args:
        method: (learning rate, weight decay) -> transformation, one of `tcm_jax.training.methods`.
        groups: learning-rate multiplier and weight decay by group.
        labels: the group of every parameter by path; "frozen" ones have no state and no gradient.
        schedule: learning-rate multiplier -> schedule.
        clip_norm: largest norm of all trainable gradients together; 0 clips nothing.
        ema: decay of the running average of the parameters; 0 keeps none.
    """

    method: Callable[[jax.Array | float, float], optax.GradientTransformation]
    groups: Mapping[str, Group]
    labels: Mapping[str, str]
    schedule: Callable[[float], Schedule]
    clip_norm: float = 0.0
    ema: float = 0.0

    def __post_init__(self):
        for path, label in self.labels.items():
            if label != FROZEN and label not in self.groups:
                raise ValueError(f"{path} is in group {label!r}; known are {', '.join(self.groups)} and {FROZEN!r}")
        if set(self.labels.values()) <= {FROZEN}:
            raise ValueError("all parameters are frozen; nothing is left to train")
        if self.clip_norm < 0:
            raise ValueError(f"clip_norm is {self.clip_norm}; expected a positive number, or 0 for none")
        if not 0 <= self.ema < 1:
            raise ValueError(f"ema is {self.ema}; expected 0 <= ema < 1")

    def split(self, params: Tree) -> tuple[Tree, Tree]:
        """The trainable and the frozen parameters of a tree, a tree each."""
        parts: tuple[dict, dict] = {}, {}
        for path, leaf in flatten(params).items():
            parts[self.labels[path] == FROZEN][path] = leaf
        return unflatten(parts[0]), unflatten(parts[1])

    def init(self, params: Tree) -> dict[str, optax.OptState]:
        """The first state for the parameters (all of them), by group."""
        trainable = self._by_group(self.split(params)[0])
        return {name: self.method(0.0, 0.0).init(part) for name, part in trainable.items()}

    def update(
        self, gradients: Tree, state: Mapping[str, optax.OptState], trainable: Tree, step: jax.Array
    ) -> tuple[Tree, dict[str, optax.OptState], dict[str, jax.Array]]:
        """One update.

        Args:
            gradients, trainable: trees of the trainable parameters.
            step: number of updates made before this one.

        Returns:
            (new trainable parameters, new state, {"grad_norm": before clipping, "lr": of the multiplier 1}).
        """
        norm = optax.global_norm(gradients)
        if self.clip_norm:
            factor = clip_factor(norm, self.clip_norm)
            gradients = jax.tree.map(lambda g: g * factor, gradients)
        slopes = self._by_group(gradients)
        new: dict[str, Any] = {}
        new_state: dict[str, optax.OptState] = {}
        for name, part in self._by_group(trainable).items():
            group = self.groups[name]
            method = self.method(self.schedule(group.lr_multiplier)(step), group.weight_decay)
            updates, new_state[name] = method.update(slopes[name], state[name], part)
            new |= optax.apply_updates(part, updates)
        return unflatten(new), new_state, {"grad_norm": norm, "lr": self.schedule(1.0)(step)}

    def _by_group(self, trainable: Tree) -> dict[str, dict[str, Any]]:
        """The leaves by path, by group."""
        parts: dict[str, dict[str, Any]] = {}
        for path, leaf in flatten(trainable).items():
            parts.setdefault(self.labels[path], {})[path] = leaf
        return parts

    def describe(self, params: Tree) -> str:
        """One line: number of values in every group."""
        counts = dict.fromkeys([*self.groups, FROZEN], 0)
        for path, leaf in flatten(params).items():
            counts[self.labels[path]] += leaf.size
        return ", ".join(f"{name} {count:,}" for name, count in counts.items() if count)


def merge(trainable: Tree, frozen: Tree) -> Tree:
    """The inverse of `Optimizer.split`."""
    return unflatten(flatten(trainable) | flatten(frozen))
