"""Checkpoints to model directories and back."""

import dataclasses
import os
import re
from pathlib import Path

import numpy as np

from tcm_jax import pretrained
from tcm_jax.convert import checkpoints, engine, rules
from tcm_jax.convert.architecture import Architecture, config_of, identify, template
from tcm_jax.convert.clip_sizes import ConversionOptions
from tcm_jax.convert.detector_sizes import INITIAL_GAMMA
from tcm_jax.convert.engine import ConversionError
from tcm_jax.detection.model import DetectionConfig
from tcm_jax.models.clip import CLIPConfig
from tcm_jax.pretrained import Pretrained


def flat_variables(architecture: Architecture) -> dict[str, np.ndarray]:
    """Leaves of the model by path, filled from the state dict; views of it where that is possible.

    Raises ConversionError if keys or shapes don't fit the model; all of them are listed.
    """
    table = rules.table(architecture.layout)
    dropped = [*rules.DROPPED, *map(re.escape, architecture.unused)]
    return engine.to_flax(architecture.tensors, table, template(architecture.config), dropped)


def from_checkpoint(
    source: str | os.PathLike,
    options: ConversionOptions | None = None,
    source_name: str | None = None,
    license: str = "unknown",
) -> tuple[Pretrained, Architecture]:
    """Reads a checkpoint as a model directory in memory, together with what it was made from.

    Args:
        source: a file, or a folder of Hugging Face.
        source_name: where the weights come from; default: kind and file name. license: of the weights.

    Raises:
        ConversionError: the source can't be read, or is no model that is known here.
    """
    checkpoint = checkpoints.read(source)
    architecture = identify(checkpoint, options)
    try:
        leaves = flat_variables(architecture)
    except ConversionError as error:
        raise ConversionError(f"{checkpoint.files[0]}: {error}") from error
    model = Pretrained(
        task=rules.TASKS[architecture.layout],
        model=dataclasses.asdict(architecture.config),
        variables=pretrained.unflatten(leaves),
        preprocessing=architecture.preprocessing,
        inference=architecture.inference,
        source=source_name or f"{architecture.origin} checkpoint {Path(source).name}",
        license=license,
        extra={"origin": architecture.origin, "sha256": checkpoint.sha256(), "notes": list(architecture.notes)},
    )
    return model, architecture


def to_state_dict(model: Pretrained) -> dict[str, np.ndarray]:
    """The PyTorch state dict of a model, as the original classes load it with strict=True.

    CLIP4STR gets VL4STR's flat dictionary, CLIP that of OpenAI and OpenCLIP, a detector that of TCM. Floats are
    float32.

    Raises:
        ConversionError: a task that has no PyTorch counterpart here, a field that no configuration has, or leaves
            that the rules don't know or that the configuration lacks.
    """
    try:
        config = config_of(model.task, model.model)
    except (TypeError, ValueError) as error:
        raise ConversionError(str(error)) from error
    flat, shapes, expected = pretrained.flatten(model.variables), pretrained.shapes(model.variables), template(config)
    problems = [
        f"{path} is {shapes.get(path, 'missing')}, expected {expected.get(path, 'nothing')}"
        for path in sorted(shapes.keys() | expected.keys())
        if shapes.get(path) != expected.get(path)
    ]
    if problems:
        raise ConversionError("weights and configuration don't fit:\n  " + "\n  ".join(problems))
    if isinstance(config, DetectionConfig):
        flat |= _unused(config)
    is_resnet = isinstance(config, CLIPConfig) and config.is_resnet
    layout = next(layout for layout, task in rules.TASKS.items() if task == model.task)
    state = engine.to_torch(flat, rules.table("clip-resnet" if is_resnet else layout))
    for key in [k for k in state if k.endswith(".running_mean")]:
        # PyTorch's BatchNorm has a counter too; with a fixed momentum nothing depends on it.
        state[key.replace("running_mean", "num_batches_tracked")] = np.zeros((), np.int64)
    return state


def _unused(config: DetectionConfig) -> dict[str, np.ndarray]:
    """Leaves that TCM's class has even where `config` has no use for them, with values that have no effect.

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
        complete = template(dataclasses.replace(config, tcm=dataclasses.replace(tcm, context_decoder=True)))
        decoder = {p: shape for p, shape in complete.items() if p.startswith("params/context_decoder/")}
        leaves |= {path: np.zeros(shape, np.float32) for path, shape in decoder.items()}
        leaves["params/gamma"] = np.full(complete["params/gamma"], INITIAL_GAMMA)
    return leaves
