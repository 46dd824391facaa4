"""The values of a detector's training run; see configs/tcm_base.py."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from tcm_jax.data.entries import parse_entries
from tcm_jax.data.scenes.build import DetectionEntry
from tcm_jax.detection.model import DetectionConfig
from tcm_jax.detection.options import DetectionOptions
from tcm_jax.training.config import RunConfig
from tcm_jax.training.methods import METHODS


@dataclass(frozen=True)
class DetectionOptimConfig:
    """Values of the optimizer, named as in the release's mmcv configs.

    Args:
        method: one of `tcm_jax.training.methods.METHODS`.
        lr, weight_decay: for parameters that no key below is part of, whatever the batch.
        power, min_lr: of the poly schedule, which falls once an epoch; with `steps` in place of `epochs`, every step.
        lr_multipliers: by part of a parameter's path; 0 freezes. no_decay: parts of paths without weight decay.
        clip_norm: largest norm of all gradients together, 0 for none. ema: decay of the average of the weights.
    """

    method: str = "adam"
    lr: float = 1e-4
    weight_decay: float = 0.0
    power: float = 0.9
    min_lr: float = 1e-7
    lr_multipliers: Mapping[str, float] = field(default_factory=dict)
    no_decay: tuple[str, ...] = ()
    clip_norm: float = 0.0
    ema: float = 0.0

    def __post_init__(self) -> None:
        if self.method not in METHODS:
            raise ValueError(f"config.optim.method is {self.method!r}; expected one of {', '.join(METHODS)}")
        for name in ("weight_decay", "power", "min_lr", "clip_norm"):
            if getattr(self, name) < 0:
                raise ValueError(f"config.optim.{name} is {getattr(self, name)}; expected at least 0")
        if self.lr <= 0 or not 0 <= self.ema < 1:
            raise ValueError(f"config.optim: lr is {self.lr}, ema {self.ema}; expected lr > 0 and 0 <= ema < 1")


@dataclass(frozen=True)
class DetectionDataConfig:
    """Training data.

    Args:
        root: where relative paths of training and evaluation data start.
        train: entries, see `tcm_jax.data.scenes.build`.
        augment: values of `DetectionAugment`; its `crop` is the side of the training images.
        workers: processes that prepare batches, 0 is a thread.
    """

    root: str = "data"
    train: tuple[Mapping[str, Any], ...] = ()
    augment: Mapping[str, Any] = field(default_factory=dict)
    workers: int = 0

    def __post_init__(self) -> None:
        self.entries()

    def entries(self) -> list[DetectionEntry]:
        """The typed entries."""
        return parse_entries(self.train, "config.data.train", DetectionEntry)


@dataclass(frozen=True)
class DetectionEvalConfig:
    """Validation during training: H-mean at an IoU of 0.5, with the decoding's score threshold.

    Args:
        every: steps between validations; 0 validates at the end only.
        sources: entries; none switches validation off.
    """

    every: int = 0
    sources: tuple[Mapping[str, Any], ...] = ()

    def __post_init__(self) -> None:
        self.entries()

    def entries(self) -> list[DetectionEntry]:
        """The typed entries."""
        return parse_entries(self.sources, "config.eval.sources", DetectionEntry)


@dataclass(frozen=True, kw_only=True)
class DetectionRunConfig(RunConfig):
    """The run of a detector."""

    model: DetectionConfig
    inference: DetectionOptions
    optim: DetectionOptimConfig
    data: DetectionDataConfig
    eval: DetectionEvalConfig = field(default_factory=DetectionEvalConfig)
