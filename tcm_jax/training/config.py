"""The values that all training runs have, typed; see the files in configs/."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import jax

from tcm_jax.tasks.loading import DTYPES, compute_dtype


class ConfigError(ValueError):
    """A config has a wrong key or value; the message names it and what was expected."""


@dataclass(frozen=True)
class CheckpointConfig:
    """Steps between checkpoints (0: at the end only) and the number of them that are kept."""

    every: int = 0
    keep: int = 3


@dataclass(frozen=True, kw_only=True)
class RunConfig:
    """A training run; each objective adds its model, optim, data and eval.

    Args:
        task: "recognition" or "detection".
        seed: of the weights, the order of the data and all random numbers.
        batch: images of one optimizer step over all devices; accumulate: micro-batches it is cut in.
        steps, epochs: how long; exactly one is not 0.
        dtype: of the computation, "float32", "bfloat16" or "auto" (bfloat16 but on a CPU).
        init: model directory to start from, "" for random weights.
        log_every: steps between lines of the log.
    """

    task: str
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
        if self.log_every < 1 or self.checkpoint.keep < 1:
            raise ValueError(
                f"config.log_every is {self.log_every}, config.checkpoint.keep {self.checkpoint.keep}; "
                "expected at least 1"
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
