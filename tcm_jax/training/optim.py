"""The optimizer: AdamW in groups under a one-cycle schedule, with frozen parameters and clipping.

Source: strhub/models/vl_str/system.py of the original (configure_optimizers) and PyTorch's AdamW and
clip_grad_norm_, which the formulas below equal.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from tcm_jax.pretrained import flatten, unflatten
from tcm_jax.training.schedules import Schedule, one_cycle

Tree = Mapping[str, Any]
GroupOf = Callable[[str, int], str]  # path and number of dimensions in PyTorch's layout -> name of the group
FROZEN = "frozen"


@dataclass(frozen=True)
class OptimConfig:
    """Values of the optimizer.

    Args:
        lr: peak learning rate for a batch of `lr_batch` images; it grows in proportion to the batch.
        decoder_lr_multiplier: the decoders learn this much faster than CLIP's towers.
        weight_decay: decoupled, as a share of the learning rate; decoder_weight_decay_multiplier: that of the
            decoders.
        b1, b2, eps: AdamW's.
        warmup_fraction: part of all steps until the peak.
        clip_norm: largest norm of all trainable gradients together.
        text_freeze_layers, image_freeze_layers: see `tcm_jax.tasks.recognition.parameter_group`.
        ema: decay of the running average of the parameters; 0 keeps none.
    """

    lr: float = 8.4e-5
    lr_batch: int = 512
    decoder_lr_multiplier: float = 19.0
    weight_decay: float = 0.2
    decoder_weight_decay_multiplier: float = 1.0
    b1: float = 0.9
    b2: float = 0.98
    eps: float = 1e-6
    warmup_fraction: float = 0.075
    clip_norm: float = 20.0
    text_freeze_layers: int = -1
    image_freeze_layers: int = -1
    ema: float = 0.0

    def __post_init__(self):
        for name in ("lr", "lr_batch", "clip_norm", "eps"):
            if getattr(self, name) <= 0:
                raise ValueError(f"config.optim.{name} is {getattr(self, name)}; expected a positive number")
        for name in ("b1", "b2", "ema"):
            if not 0 <= getattr(self, name) < 1:
                raise ValueError(f"config.optim.{name} is {getattr(self, name)}; expected 0 <= {name} < 1")
        if not 0 <= self.warmup_fraction <= 1:
            raise ValueError(f"config.optim.warmup_fraction is {self.warmup_fraction}; expected a number of 0 .. 1")

    def peak(self, batch: int) -> float:
        """The peak learning rate of CLIP's towers for a global batch of `batch` images."""
        return self.lr * batch / self.lr_batch


class Group(NamedTuple):
    """What the parameters of a group have in common."""

    lr_multiplier: float
    weight_decay: float


def groups(config: OptimConfig) -> dict[str, Group]:
    """The groups of trainable parameters by name."""
    decoder_decay = config.weight_decay * config.decoder_weight_decay_multiplier
    return {
        "encoder_no_decay": Group(1.0, 0.0),
        "encoder_decay": Group(1.0, config.weight_decay),
        "decoder_no_decay": Group(config.decoder_lr_multiplier, 0.0),
        "decoder_decay": Group(config.decoder_lr_multiplier, decoder_decay),
    }


def torch_ndim(path: str, shape: tuple[int, ...]) -> int:
    """Number of dimensions that a parameter has in PyTorch, where heads are not a dimension of their own.

    Attention kernels [d, k, e] and [k, e, d] are matrices there, head biases [k, e] are vectors.
    """
    match path.rsplit("/", 1)[-1], len(shape):
        case "bias", 2:
            return 1
        case "kernel", 3:
            return 2
        case _, ndim:
            return ndim


def label_tree(params: Tree, group_of: GroupOf) -> dict[str, str]:
    """The group of every parameter, {"clip_model/visual/proj": "encoder_decay"}."""
    return {path: group_of(path, torch_ndim(path, leaf.shape)) for path, leaf in flatten(params).items()}


def clip_factor(norm: jax.Array, clip_norm: float) -> jax.Array:
    """What PyTorch's clip_grad_norm_ multiplies gradients of global norm `norm` with."""
    return jnp.minimum(1.0, clip_norm / (norm + 1e-6))


@dataclass(frozen=True)
class Optimizer:
    """AdamW over the trainable part of a parameter tree.

    Args:
        config: values; its clip_norm, b1, b2 and eps.
        groups: learning-rate multiplier and weight decay by group.
        labels: the group of every parameter by path; "frozen" ones have no state and no gradient.
        schedule: step -> learning rate, before the multipliers.
    """

    config: OptimConfig
    groups: Mapping[str, Group]
    labels: Mapping[str, str]
    schedule: Schedule

    def __post_init__(self):
        for path, label in self.labels.items():
            if label != FROZEN and label not in self.groups:
                raise ValueError(f"{path} is in group {label!r}; known are {', '.join(self.groups)} and {FROZEN!r}")
        if set(self.labels.values()) <= {FROZEN}:
            raise ValueError("all parameters are frozen; nothing is left to train")

    def split(self, params: Tree) -> tuple[Tree, Tree]:
        """The trainable and the frozen parameters of a tree, a tree each."""
        parts: tuple[dict, dict] = {}, {}
        for path, leaf in flatten(params).items():
            parts[self.labels[path] == FROZEN][path] = leaf
        return unflatten(parts[0]), unflatten(parts[1])

    def init(self, params: Tree) -> optax.OptState:
        """The first state for the parameters (all of them)."""
        return self._adam().init(self.split(params)[0])

    def update(
        self, gradients: Tree, state: optax.OptState, trainable: Tree, step: jax.Array
    ) -> tuple[Tree, optax.OptState, dict[str, jax.Array]]:
        """One update.

        Args:
            gradients, trainable: trees of the trainable parameters.
            step: number of updates made before this one.

        Returns:
            (new trainable parameters, new state, {"grad_norm": before clipping, "lr": of CLIP's towers}).
        """
        norm = optax.global_norm(gradients)
        factor = clip_factor(norm, self.config.clip_norm)
        gradients = jax.tree.map(lambda g: g * factor, gradients)
        directions, state = self._adam().update(gradients, state)
        lr = self.schedule(step)
        directions = flatten(directions)
        new = {}
        for path, value in flatten(trainable).items():
            group = self.groups[self.labels[path]]
            rate = lr * group.lr_multiplier
            new[path] = value - rate * (directions[path] + group.weight_decay * value)
        return unflatten(new), state, {"grad_norm": norm, "lr": lr}

    def _adam(self) -> optax.GradientTransformation:
        return optax.scale_by_adam(self.config.b1, self.config.b2, self.config.eps)


def merge(trainable: Tree, frozen: Tree) -> Tree:
    """The inverse of `Optimizer.split`."""
    return unflatten(flatten(trainable) | flatten(frozen))


def make_optimizer(config: OptimConfig, params: Tree, group_of: GroupOf, batch: int, total_steps: int) -> Optimizer:
    """The optimizer of a run.

    Args:
        params: the parameters or their shapes.
        group_of: the task's rule, path and number of dimensions in PyTorch's layout -> group.
        batch: images of an optimizer step, over all devices and micro-batches.
        total_steps: optimizer steps of the whole run.
    """
    schedule = one_cycle(config.peak(batch), total_steps, config.warmup_fraction)
    return Optimizer(config, groups(config), label_tree(params, group_of), schedule)


def describe(optimizer: Optimizer, params: Tree) -> str:
    """One line: number of values in every group."""
    counts = dict.fromkeys([*optimizer.groups, FROZEN], 0)
    for path, leaf in flatten(params).items():
        counts[optimizer.labels[path]] += leaf.size
    return ", ".join(f"{name} {count:,}" for name, count in counts.items() if count)
