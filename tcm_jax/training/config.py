"""The typed values that all training runs have; see the files in configs/."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tcm_jax.files import is_remote
from tcm_jax.models.layers import DTYPES, REMAT_POLICIES, compute_dtype
from tcm_jax.training.mesh import MeshConfig


class ConfigError(ValueError):
    """A config has a wrong key or value; the message names it and what was expected."""


@dataclass(frozen=True)
class CheckpointConfig:
    """When a checkpoint is written and which ones are kept.

    Args:
        every: steps between checkpoints, 0: at the end only.
        keep: number of the newest checkpoints that are kept.
        keep_every: those of steps that are multiples of this are kept as well, 0: none.
        keep_best: number of those with the highest validation score that are kept as well.
    """

    every: int = 0
    keep: int = 3
    keep_every: int = 0
    keep_best: int = 0

    def __post_init__(self) -> None:
        _check_min(self, "config.checkpoint", every=0, keep=1, keep_every=0, keep_best=0)


@dataclass(frozen=True, kw_only=True)
class RunConfig:
    """A training run; each task adds its model, optim, data and eval.

    Args:
        task: "recognition" or "detection".
        mesh: how the devices are arranged.
        remat: what blocks keep of the forward pass for the backward pass: "none" keeps all of it, "dots" the results
            of matrix products, "full" nothing but the input.
        seed: of the weights, the order of the data and all random numbers.
        batch: images of one optimizer step over all devices; accumulate: number of micro-batches it is split into.
        steps, epochs: length of the run; exactly one is not 0.
        dtype: of the computation, "float32", "bfloat16" or "auto" (bfloat16 except on a CPU).
        init: model directory to start from, "" for random weights.
        log_every: steps between lines of the log.
        profile_steps: number of steps that are traced for TensorBoard's profiler, from the eleventh on; 0 for none.
        stall_seconds: after that long without a step, the stacks of all threads are printed.
        lost_seconds: a process that was silent for that long is lost and ends all others.
    """

    task: str
    checkpoint: CheckpointConfig = field(default_factory=CheckpointConfig)
    mesh: MeshConfig = field(default_factory=MeshConfig)
    remat: str = "none"
    seed: int = 0
    batch: int = 64
    accumulate: int = 1
    steps: int = 0
    epochs: float = 0
    dtype: str = "auto"
    init: str = ""
    log_every: int = 10
    profile_steps: int = 0
    stall_seconds: float = 600
    lost_seconds: float = 60

    def __post_init__(self) -> None:
        if (self.steps > 0) == (self.epochs > 0):
            raise ValueError(
                f"config.steps is {self.steps} and config.epochs is {self.epochs}; give exactly one of them"
            )
        if self.dtype not in DTYPES:
            raise ValueError(f'config.dtype is {self.dtype!r}; expected "float32", "bfloat16" or "auto"')
        if self.remat not in REMAT_POLICIES:
            raise ValueError(f"config.remat is {self.remat!r}; expected one of {', '.join(REMAT_POLICIES)}")
        if self.accumulate < 1 or self.batch < 1 or self.batch % self.accumulate:
            raise ValueError(
                f"config.batch is {self.batch}; expected a positive multiple of config.accumulate ({self.accumulate})"
            )
        _check_min(self, "config", log_every=1, profile_steps=0, stall_seconds=1, lost_seconds=1)
        if self.init and not is_remote(self.init) and not Path(self.init).is_dir():
            raise ValueError(f"config.init is {self.init!r}; there is no such directory")

    @property
    def compute_dtype(self) -> Any:
        """The dtype that `dtype` stands for on this machine."""
        return compute_dtype(self.dtype)

    def total_steps(self, records: int) -> int:
        """Optimizer steps of the run on `records` training records."""
        return self.steps or max(1, round(self.epochs * records / self.batch))


def _check_min(config: Any, section: str, **minima: int) -> None:
    """Raises ValueError if a value of `config` is below its minimum."""
    for name, minimum in minima.items():
        if getattr(config, name) < minimum:
            raise ValueError(f"{section}.{name} is {getattr(config, name)}; expected at least {minimum}")


def config_differences(old: Mapping[str, Any], new: Mapping[str, Any], prefix: str = "config") -> list[str]:
    """Where two configs differ, one line per key: "config.batch: 64 -> 32"."""
    lines = []
    for key in sorted(set(old) | set(new)):
        a, b, name = old.get(key), new.get(key), f"{prefix}.{key}"
        if isinstance(a, Mapping) and isinstance(b, Mapping):
            lines += config_differences(a, b, name)
        elif a != b:
            lines.append(f"{name}: {a!r} -> {b!r}")
    return lines
