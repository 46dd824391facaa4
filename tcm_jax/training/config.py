"""The values of a training run, typed; see the files in configs/."""

from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

import jax

from tcm_jax.config import from_dict
from tcm_jax.data.build import Entry, parse_entries
from tcm_jax.data.labels import LabelFilter
from tcm_jax.models.clip4str import Clip4StrConfig
from tcm_jax.tasks.loading import DTYPES, compute_dtype
from tcm_jax.text.charset import CHARSET_36, load_charset
from tcm_jax.training.optim import OptimConfig

# Options of the label filter that a config may set; the charset and the length are the model's.
_FILTER = sorted({f.name for f in fields(LabelFilter) if f.init} - {"charset", "max_length"})


class ConfigError(ValueError):
    """A config has a wrong key or value; the message names it and what was expected."""


@dataclass(frozen=True)
class DataConfig:
    """Training data.

    Args:
        root: where relative paths of training and evaluation data start.
        train: entries, {path, weight} or {synthetic: {...}, weight}; see `tcm_jax.data.build`.
        augment: RandAugment on every image; workers: processes that prepare batches, 0 is a thread.
        filter: options of `LabelFilter`.
        mean, std: of the image normalization, for values in 0..1.
    """

    root: str = "data"
    train: tuple[Mapping[str, Any], ...] = ()
    augment: bool = True
    workers: int = 0
    filter: Mapping[str, Any] = field(default_factory=dict)
    mean: tuple[float, ...] = (0.48145466, 0.4578275, 0.40821073)
    std: tuple[float, ...] = (0.26862954, 0.26130258, 0.27577711)

    def __post_init__(self):
        for key in self.filter:
            if key not in _FILTER:
                raise ValueError(f"config.data.filter has no field {key!r}; known are {', '.join(_FILTER)}")
        self.entries()

    def entries(self) -> list[Entry]:
        return parse_entries(self.train, "config.data.train")


@dataclass(frozen=True)
class EvalConfig:
    """Validation during training.

    Args:
        every: steps between validations; 0 validates at the end only. batch: images at a time.
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

    def __post_init__(self):
        if self.normalization not in ("train", "half"):
            raise ValueError(f'config.eval.normalization is {self.normalization!r}; expected "train" or "half"')

        self.entries()

    def entries(self) -> list[Entry]:
        return parse_entries(self.sources, "config.eval.sources")


@dataclass(frozen=True)
class CheckpointConfig:
    """Steps between checkpoints (0: at the end only) and the number of them that are kept."""

    every: int = 0
    keep: int = 3


@dataclass(frozen=True)
class RunConfig:
    """A training run.

    Args:
        task: "recognition". seed: of the weights, the order of the data and all random numbers.
        batch: images of one optimizer step over all devices; accumulate: micro-batches it is cut in.
        steps, epochs: how long; exactly one is not 0.
        dtype: of the computation, "float32", "bfloat16" or "auto" (bfloat16 but on a CPU).
        init: model directory to start from, "" for random weights.
        log_every: steps between lines of the log.
    """

    task: str
    model: Clip4StrConfig
    optim: OptimConfig
    data: DataConfig
    eval: EvalConfig = field(default_factory=EvalConfig)
    checkpoint: CheckpointConfig = field(default_factory=CheckpointConfig)
    seed: int = 0
    batch: int = 64
    accumulate: int = 1
    steps: int = 0
    epochs: float = 0
    dtype: str = "auto"
    init: str = ""
    log_every: int = 10

    def __post_init__(self):
        if self.task != "recognition":
            raise ValueError(f'config.task is {self.task!r}; expected "recognition"')
        if (self.steps > 0) == (self.epochs > 0):
            raise ValueError(
                f"config.steps is {self.steps} and config.epochs is {self.epochs}; give exactly one of them"
            )
        if self.dtype not in DTYPES:
            raise ValueError(f'config.dtype is {self.dtype!r}; expected "float32", "bfloat16" or "auto"')
        devices = jax.device_count()
        if self.accumulate < 1 or self.batch < 1 or self.batch % (self.accumulate * devices):
            raise ValueError(
                f"config.batch is {self.batch}; expected a multiple of config.accumulate ({self.accumulate}) "
                f"times the number of devices ({devices})"
            )
        if self.log_every < 1 or self.checkpoint.keep < 1 or self.eval.batch % devices:
            raise ValueError(
                f"config.log_every is {self.log_every}, config.checkpoint.keep {self.checkpoint.keep}, "
                f"config.eval.batch {self.eval.batch}; expected at least 1, and for the last one a multiple "
                f"of the number of devices ({devices})"
            )
        if self.init and not Path(self.init).is_dir():
            raise ValueError(f"config.init is {self.init!r}; there is no such directory")

    @property
    def compute_dtype(self):
        """The dtype that `dtype` stands for on this machine."""
        return compute_dtype(self.dtype)

    def total_steps(self, records: int) -> int:
        """Optimizer steps of the run on `records` training records."""
        return self.steps or max(1, round(self.epochs * records / self.batch))


def parse(config: Mapping[str, Any]) -> RunConfig:
    """The typed form of a config (plain nested dictionaries); charsets by name become their characters.

    Raises:
        ConfigError: a key or value is wrong; the message names it.
    """
    missing = [name for name in ("task", "model", "optim", "data") if name not in config]
    if missing:
        raise ConfigError(f"the config has no {', '.join(missing)}")
    sections = {name: dict(config.get(name, {})) for name in ("model", "eval")}
    try:
        for section, key in (("model", "charset"), ("model", "caption_charset"), ("eval", "charset")):
            if key in sections[section]:
                sections[section][key] = load_charset(sections[section][key])
        return from_dict(RunConfig, {**config, **sections})
    except (OSError, TypeError, ValueError) as error:
        raise ConfigError(str(error)) from error


def differences(old: Mapping[str, Any], new: Mapping[str, Any], prefix: str = "config") -> list[str]:
    """Where two configs differ, one line per key: "config.batch: 64 -> 32"."""
    lines = []
    for key in sorted(set(old) | set(new)):
        a, b, name = old.get(key), new.get(key), f"{prefix}.{key}"
        if isinstance(a, Mapping) and isinstance(b, Mapping):
            lines += differences(a, b, name)
        elif a != b:
            lines.append(f"{name}: {a!r} -> {b!r}")
    return lines
