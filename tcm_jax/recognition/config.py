"""The values of a recognizer's training run; see configs/clip4str_base.py."""

from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from typing import Any

from tcm_jax.data.entries import Entry, parse_entries
from tcm_jax.data.words.augment import OPERATIONS
from tcm_jax.data.words.labels import LabelFilter
from tcm_jax.images.decoding import CLIP_MEAN, CLIP_STD
from tcm_jax.models.clip4str import CLIP4STRConfig
from tcm_jax.recognition.options import ReadingOptions
from tcm_jax.text.charset import CHARSET_36
from tcm_jax.training.config import RunConfig
from tcm_jax.training.optim import Group

# Options of the label filter that a config may set; the charset and the length are the model's.
_FILTER = sorted({f.name for f in fields(LabelFilter) if f.init} - {"charset", "max_length"})


@dataclass(frozen=True)
class RecognitionOptimConfig:
    """Values of the optimizer: AdamW in four groups under a one-cycle schedule.

    Args:
        lr: peak learning rate for a batch of `lr_batch` images; it grows in proportion to the batch.
        decoder_lr_multiplier: the decoders learn this much faster than CLIP's towers.
        weight_decay: decoupled, as a share of the learning rate; decoder_weight_decay_multiplier: that of the
            decoders.
        b1, b2, eps: AdamW's.
        warmup_fraction: part of all steps until the peak.
        clip_norm: largest norm of all trainable gradients together.
        text_freeze_layers, image_freeze_layers: see `tcm_jax.recognition.model.parameter_group`.
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

    def __post_init__(self) -> None:
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

    @property
    def groups(self) -> dict[str, Group]:
        """The groups of trainable parameters by name."""
        decoder_decay = self.weight_decay * self.decoder_weight_decay_multiplier
        return {
            "encoder_no_decay": Group(1.0, 0.0),
            "encoder_decay": Group(1.0, self.weight_decay),
            "decoder_no_decay": Group(self.decoder_lr_multiplier, 0.0),
            "decoder_decay": Group(self.decoder_lr_multiplier, decoder_decay),
        }


@dataclass(frozen=True)
class RecognitionDataConfig:
    """Training data.

    Args:
        root: where relative paths of training and evaluation data start.
        train: entries, {path, weight} or {synthetic: {...}, weight}; see `tcm_jax.data.words.build`.
        augment: operations of RandAugment on every image, each done half of the time; 0 for none.
        workers: processes that prepare batches, 0 is a thread.
        filter: options of `LabelFilter`.
        mean, std: of the image normalization, for values in 0..1.
    """

    root: str = "data"
    train: tuple[Mapping[str, Any], ...] = ()
    augment: int = 3
    workers: int = 0
    filter: Mapping[str, Any] = field(default_factory=dict)
    mean: tuple[float, ...] = CLIP_MEAN
    std: tuple[float, ...] = CLIP_STD

    def __post_init__(self) -> None:
        if isinstance(self.augment, bool) or not 0 <= self.augment <= len(OPERATIONS):
            raise ValueError(f"config.data.augment is {self.augment}; expected 0 .. {len(OPERATIONS)} operations")
        for key in self.filter:
            if key not in _FILTER:
                raise ValueError(f"config.data.filter has no field {key!r}; known are {', '.join(_FILTER)}")
        self.entries()

    def entries(self) -> list[Entry]:
        """The typed entries."""
        return parse_entries(self.train, "config.data.train", Entry)


@dataclass(frozen=True)
class RecognitionEvalConfig:
    """Validation during training.

    Args:
        every: steps between validations; 0 validates at the end only. batch: images at a time, rounded up to
            what the mesh divides.
        charset: the characters that are compared, "36" for case- and punctuation-blind.
        normalization: "train" (data.mean and data.std) or "half" (0.5 and 0.5, as the original's benchmark
            script).
        sources: entries, {name, path, max_samples} or with synthetic; none switches validation off.
    """

    every: int = 0
    batch: int = 64
    charset: str = CHARSET_36
    normalization: str = "train"
    sources: tuple[Mapping[str, Any], ...] = ()

    def __post_init__(self) -> None:
        if self.normalization not in ("train", "half"):
            raise ValueError(f'config.eval.normalization is {self.normalization!r}; expected "train" or "half"')
        self.entries()

    def entries(self) -> list[Entry]:
        """The typed entries."""
        return parse_entries(self.sources, "config.eval.sources", Entry)


@dataclass(frozen=True, kw_only=True)
class RecognitionRunConfig(RunConfig):
    """The run of a recognizer."""

    model: CLIP4STRConfig
    inference: ReadingOptions = field(default_factory=ReadingOptions)
    optim: RecognitionOptimConfig
    data: RecognitionDataConfig
    eval: RecognitionEvalConfig = field(default_factory=RecognitionEvalConfig)
