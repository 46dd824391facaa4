"""Checkpoints to model directories and back."""

import dataclasses
import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from tcm_jax import pretrained
from tcm_jax.config import from_dict
from tcm_jax.convert import checkpoints, engine, rules
from tcm_jax.convert.architecture import Architecture, Config, identify, template
from tcm_jax.convert.checkpoints import Checkpoint
from tcm_jax.convert.clip_sizes import Options
from tcm_jax.convert.detector_sizes import INITIAL_GAMMA
from tcm_jax.convert.engine import ConversionError
from tcm_jax.detection.model import DetectionConfig, detection_config
from tcm_jax.models.clip import CLIPConfig
from tcm_jax.models.clip4str import CLIP4STRConfig
from tcm_jax.pretrained import Pretrained

CONFIGS: dict[str, type[Config]] = {
    "clip": CLIPConfig,
    "recognition": CLIP4STRConfig,
    "detection": DetectionConfig,
}


def flat_variables(architecture: Architecture) -> dict[str, np.ndarray]:
    """Leaves of the model by path, filled from the state dict; views of it where that is possible.

    Raises:
        ConversionError: keys or shapes that don't fit the model, all of them listed.
    """
    table = rules.table(architecture.layout)
    dropped = [*rules.DROPPED, *map(re.escape, architecture.unused)]
    return engine.to_flax(architecture.tensors, table, template(architecture.config), dropped)


def from_checkpoint(
    source: str | os.PathLike,
    options: Options | None = None,
    source_name: str | None = None,
    license: str = "unknown",
) -> tuple[Pretrained, Architecture, Checkpoint]:
    """Reads a checkpoint as a model directory in memory, together with what it was made from.

    Raises:
        ConversionError: the source can't be read, or is no model that is known here.
    """
    checkpoint = checkpoints.read(source)
    architecture = identify(checkpoint, options)
    try:
        leaves = flat_variables(architecture)
    except ConversionError as error:
        raise ConversionError(f"{checkpoint.files[0]}: {error}") from error
    # safetensors, which the directory is written with, takes no views.
    flat = {path: np.asarray(leaf, order="C") for path, leaf in leaves.items()}
    config = architecture.config
    model = Pretrained(
        task=next(task for task, cls in CONFIGS.items() if isinstance(config, cls)),
        model=dataclasses.asdict(config),
        variables=pretrained.unflatten(flat),
        preprocessing=architecture.preprocessing,
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
        if model.task == "detection":
            return detection_config(model.model)
        return from_dict(CONFIGS[model.task], model.model, "model")
    except (TypeError, ValueError) as error:
        raise ConversionError(str(error)) from error


def to_state_dict(model: Pretrained) -> dict[str, np.ndarray]:
    """The PyTorch state dict of a model, as the original classes load it with strict=True.

    CLIP4STR gets VL4STR's flat dictionary, CLIP that of OpenAI and OpenCLIP, a detector that of TCM. Floats are
    float32.

    Raises:
        ConversionError: leaves that the rules don't know or that the configuration lacks.
    """
    config = config_of(model)
    flat = pretrained.flatten(model.variables)
    problems = _differences(pretrained.shapes(model.variables), template(config))
    if problems:
        raise ConversionError("weights and configuration don't fit:\n  " + "\n  ".join(problems))
    if isinstance(config, DetectionConfig):
        flat |= _unused(config)
    state = engine.to_torch(flat, rules.table(_layout(config)))
    for key in [k for k in state if k.endswith(".running_mean")]:
        # PyTorch's BatchNorm has a counter too; with a fixed momentum nothing depends on it.
        state[key.replace("running_mean", "num_batches_tracked")] = np.zeros((), np.int64)
    return state


def _layout(config: Config) -> rules.Layout:
    match config:
        case CLIPConfig():
            return "clip-resnet" if config.is_resnet else "clip"
        case CLIP4STRConfig():
            return "clip4str"
        case DetectionConfig():
            return "tcm"


def _unused(config: DetectionConfig) -> dict[str, np.ndarray]:
    """Leaves that TCM's class has even where `config` has no use for them, as good as not there.

    Empty contexts, a context decoder that gives zeros, and both factors as the release initialises them.
    """
    tcm = config.tcm
    if not tcm.text_matching:
        return {}
    leaves: dict[str, np.ndarray] = {}
    if not tcm.learnable_prompt:
        leaves["params/contexts"] = np.zeros((1, 0, tcm.clip.text_width), np.float32)
    if not tcm.visual_prompt:
        leaves["params/vis_gamma"] = np.asarray(INITIAL_GAMMA)
    if not tcm.context_decoder:
        whole = template(dataclasses.replace(config, tcm=dataclasses.replace(tcm, context_decoder=True)))
        decoder = {p: shape for p, shape in whole.items() if p.startswith("params/context_decoder/")}
        leaves |= {path: np.zeros(shape, np.float32) for path, shape in decoder.items()}
        leaves["params/gamma"] = np.full(whole["params/gamma"], INITIAL_GAMMA)
    return leaves


def _differences(shapes: Mapping[str, Any], expected: Mapping[str, Any]) -> list[str]:
    paths = sorted(shapes.keys() | expected.keys())
    return [
        f"{path} is {shapes.get(path, 'missing')}, expected {expected.get(path, 'nothing')}"
        for path in paths
        if shapes.get(path) != expected.get(path)
    ]
