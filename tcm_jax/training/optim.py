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
    """The settings of a group of parameters."""

    lr_multiplier: float
    weight_decay: float


def clip_factor(norm: jax.Array, clip_norm: float) -> jax.Array:
    """What PyTorch's clip_grad_norm_ multiplies gradients of global norm `norm` with."""
    return jnp.minimum(1.0, clip_norm / (norm + 1e-6))


@dataclass(frozen=True)
class Optimizer:
    """Updates the trainable part of a parameter tree.

    optax.partition and optax.inject_hyperparams would do the same, but their state has another tree, which older
    checkpoints would not fit: here it is {group: state of the method over {path: parameter}}.

    Args:
        method: (learning rate, weight decay) -> transformation, one of `tcm_jax.training.methods`.
        groups: learning-rate multiplier and weight decay by group.
        labels: the group of every parameter by path; "frozen" ones have no state and no gradient.
        schedule: learning-rate multiplier -> schedule.
        clip_norm: maximum of the global norm of all trainable gradients; 0 clips nothing.
        ema: decay of the running average of the parameters; 0 keeps none.
    """

    method: Callable[[jax.Array | float, float], optax.GradientTransformation]
    groups: Mapping[str, Group]
    labels: Mapping[str, str]
    schedule: Callable[[float], Schedule]
    clip_norm: float = 0.0
    ema: float = 0.0

    def __post_init__(self) -> None:
        if set(self.labels.values()) <= {FROZEN}:
            raise ValueError("all parameters are frozen; nothing is left to train")

    def split(self, params: Tree) -> tuple[Tree, Tree]:
        """The trainable and the frozen parameters of a tree, a tree each."""
        groups = self._by_group(params)
        frozen = groups.pop(FROZEN, {})
        return unflatten({path: leaf for part in groups.values() for path, leaf in part.items()}), unflatten(frozen)

    def init(self, params: Tree) -> dict[str, optax.OptState]:
        """The first state for the parameters (all of them), by group."""
        groups = self._by_group(params)
        return {name: self.method(0.0, 0.0).init(part) for name, part in groups.items() if name != FROZEN}

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
        norm = optax.tree.norm(gradients)
        if self.clip_norm:
            factor = clip_factor(norm, self.clip_norm)
            gradients = jax.tree.map(lambda g: g * factor, gradients)
        grouped = self._by_group(gradients)
        new: dict[str, Any] = {}
        new_state: dict[str, optax.OptState] = {}
        for name, part in self._by_group(trainable).items():
            group = self.groups[name]
            method = self.method(self.schedule(group.lr_multiplier)(step), group.weight_decay)
            updates, new_state[name] = method.update(grouped[name], state[name], part)
            new |= optax.apply_updates(part, updates)
        return unflatten(new), new_state, {"grad_norm": norm, "lr": self.schedule(1.0)(step)}

    def describe(self, params: Tree) -> str:
        """One line: number of values in every group."""
        groups = self._by_group(params)
        counts = {name: sum(leaf.size for leaf in groups.get(name, {}).values()) for name in (*self.groups, FROZEN)}
        return ", ".join(f"{name} {count:,}" for name, count in counts.items() if count)

    def _by_group(self, params: Tree) -> dict[str, dict[str, Any]]:
        """The leaves by path, by group."""
        groups: dict[str, dict[str, Any]] = {}
        for path, leaf in flatten(params).items():
            groups.setdefault(self.labels[path], {})[path] = leaf
        return groups


def merge(trainable: Tree, frozen: Tree) -> Tree:
    """The inverse of `Optimizer.split`."""
    return unflatten(flatten(trainable) | flatten(frozen))
