"""Checkpoints to model directories and back."""

import dataclasses
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from convert import checkpoints, engine, rules
from convert.architecture import Architecture, Config, identify, template
from convert.checkpoints import Checkpoint
from convert.clip_sizes import Options
from convert.engine import ConversionError
from tcm_jax import pretrained
from tcm_jax.config import from_dict
from tcm_jax.data.images import CLIP_MEAN, CLIP_STD
from tcm_jax.models.clip import ClipConfig
from tcm_jax.models.clip4str import Clip4StrConfig
from tcm_jax.pretrained import Pretrained

CONFIGS: dict[str, type[Config]] = {"clip": ClipConfig, "recognition": Clip4StrConfig}


def flat_variables(architecture: Architecture) -> dict[str, np.ndarray]:
    """Leaves of the model by path, filled from the state dict; views of it where that is possible.

    Raises:
        ConversionError: keys or shapes that don't fit the model, all of them listed.
    """
    table = rules.table(architecture.layout)
    return engine.to_flax(architecture.tensors, table, template(architecture.config), rules.DROPPED)


def from_checkpoint(
    source: str | os.PathLike,
    options: Options | None = None,
    source_name: str | None = None,
    license: str = "unknown",
) -> tuple[Pretrained, Architecture, Checkpoint]:
    """Reads a checkpoint as a model directory in memory, together with what it was made from.

    The normalization of pixels is CLIP's, with which all of these models were trained. The original evaluates
    CLIP4STR with mean and standard deviation 0.5 instead; that choice belongs to evaluation.

    Raises:
        ConversionError: the source can't be read, or isn't a CLIP or CLIP4STR.
    """
    checkpoint = checkpoints.read(source)
    architecture = identify(checkpoint, options)
    # safetensors, which the directory is written with, takes no views.
    flat = {path: np.asarray(leaf, order="C") for path, leaf in flat_variables(architecture).items()}
    config = architecture.config
    model = Pretrained(
        task="clip" if isinstance(config, ClipConfig) else "recognition",
        model=dataclasses.asdict(config),
        variables=pretrained.unflatten(flat),
        preprocessing={"mean": list(CLIP_MEAN), "std": list(CLIP_STD)},
        source=source_name or f"{architecture.origin} checkpoint {Path(source).name}",
        license=license,
        extra={
            "origin": architecture.origin,
            "sha256": checkpoint.sha256(),
            "notes": list(architecture.notes),
        },
    )
    return model, architecture, checkpoint


def config_of(model: Pretrained) -> Config:
    """The configuration of a model directory.

    Raises:
        ConversionError: a task that has no PyTorch counterpart here, or fields that no configuration has.
    """
    if model.task not in CONFIGS:
        raise ConversionError(f"the model's task is {model.task!r}; known are {', '.join(CONFIGS)}")
    try:
        return from_dict(CONFIGS[model.task], model.model, "model")
    except (TypeError, ValueError) as error:
        raise ConversionError(str(error)) from error


def to_state_dict(model: Pretrained) -> dict[str, np.ndarray]:
    """The PyTorch state dict of a model, as the original classes load it with strict=True.

    CLIP4STR gets VL4STR's flat dictionary, CLIP that of OpenAI and OpenCLIP. Floats are float32.

    Raises:
        ConversionError: leaves that the rules don't know or that the configuration lacks.
    """
    config = config_of(model)
    layout: rules.Layout = "clip4str"
    if isinstance(config, ClipConfig):
        layout = "clip-resnet" if config.is_resnet else "clip"
    flat = pretrained.flatten(model.variables)
    problems = _differences(pretrained.shapes(model.variables), template(config))
    if problems:
        raise ConversionError("weights and configuration don't fit:\n  " + "\n  ".join(problems))
    state = engine.to_torch(flat, rules.table(layout))
    for key in [k for k in state if k.endswith(".running_mean")]:
        # PyTorch's BatchNorm has a counter too; with a fixed momentum nothing depends on it.
        state[key.replace("running_mean", "num_batches_tracked")] = np.zeros((), np.int64)
    return state


def _differences(shapes: Mapping[str, Any], expected: Mapping[str, Any]) -> list[str]:
    paths = sorted(shapes.keys() | expected.keys())
    return [
        f"{path} is {shapes.get(path, 'missing')}, expected {expected.get(path, 'nothing')}"
        for path in paths
        if shapes.get(path) != expected.get(path)
    ]
