"""The optimizer of a detector: multipliers of learning rate and weight decay by parts of parameter names, mmcv's
`custom_keys`.

Source: mmcv/runner/optimizer/default_constructor.py and the release's configs, which all have `RELEASED_KEYS`.
"""

from collections.abc import Iterable, Mapping
from typing import NamedTuple

from tcm_jax.detection.config import DetectionRunConfig
from tcm_jax.pretrained import flatten
from tcm_jax.training.methods import METHODS
from tcm_jax.training.optim import FROZEN, Group, Optimizer, Tree
from tcm_jax.training.schedules import Schedule, poly

DEFAULT = "default"  # the group of parameters that no key matches


class Multipliers(NamedTuple):
    """Of the learning rate and of the weight decay."""

    lr: float = 1.0
    decay: float = 1.0


def multipliers(lr_multipliers: Mapping[str, float], no_decay: Iterable[str]) -> dict[str, Multipliers]:
    """Keys with the values of a recipe's `optim.lr_multipliers` and `optim.no_decay`."""
    keys = {name: Multipliers(lr=factor) for name, factor in lr_multipliers.items()}
    return keys | {name: Multipliers(decay=0.0) for name in no_decay}


# "norm" only meets norm1, norm2 and norm3 of the two decoders; all other normalizations do decay.
RELEASED_KEYS: Mapping[str, Multipliers] = multipliers({"text_encoder": 0.0, "backbone": 0.1}, ["norm"])


def matched_key(name: str, keys: Iterable[str]) -> str | None:
    """The longest of the keys that are part of `name`, of equally long ones the first in the alphabet.

    Args:
        name: of a parameter, in PyTorch's form or a path of our trees: the released keys are the same in both.
    """
    return min((key for key in keys if key in name), key=lambda key: (-len(key), key), default=None)


def group_of(name: str, keys: Mapping[str, Multipliers] = RELEASED_KEYS) -> str:
    """The group of a parameter: its key, "default" without one, "frozen" where the learning rate is 0.

    The release does not freeze such parameters: its schedule raises their rate from 0 to 1e-7 (see
    `tcm_jax.training.schedules.poly`), with weight decay, so that its text encoder differs a little from CLIP's.
    """
    key = matched_key(name, keys)
    if key is None:
        return DEFAULT
    return FROZEN if keys[key].lr == 0 else key


def groups(weight_decay: float, keys: Mapping[str, Multipliers] = RELEASED_KEYS) -> dict[str, Group]:
    """The groups of trainable parameters by name."""
    table = {DEFAULT: Multipliers(), **keys}
    return {name: Group(m.lr, weight_decay * m.decay) for name, m in table.items() if m.lr != 0}


def make_optimizer(config: DetectionRunConfig, params: Tree, records: int) -> Optimizer:
    """The optimizer of a run.

    Args:
        params: the parameters of the detector or their shapes.
        records: of the training data, which an epoch is made of.
    """
    c = config.optim
    keys = multipliers(c.lr_multipliers, c.no_decay)
    labels = {path: group_of(path, keys) for path in flatten(params)}
    total = config.total_steps(records)
    epochs, steps = max(1, round(config.epochs)), max(1, round(records / config.batch))
    if config.steps:
        epochs, steps = total, 1

    def schedule(multiplier: float) -> Schedule:
        return poly(c.lr * multiplier, epochs, steps, c.power, c.min_lr)

    return Optimizer(METHODS[c.method], groups(c.weight_decay, keys), labels, schedule, c.clip_norm, c.ema)
