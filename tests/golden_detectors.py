"""Configurations and weights of the detection fixtures, as the models take them."""

import functools
import re
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from tcm_jax import pretrained
from tcm_jax.convert import detector_sizes, engine, rules
from tcm_jax.detection.model import DetectionConfig, DetectionModel, detection_config
from tcm_jax.models.tcm import TCMConfig, resnet_clip
from tests.conftest import channels_last, detection_weights, read_json


def tcm_config(model: dict[str, Any]) -> TCMConfig:
    """TcmConfig of a fixture's "model"; what the baseline does not have is absent."""
    backbone, text = model["backbone"], model.get("text_encoder")
    layers, width = tuple(backbone["layers"]), backbone["width"]
    if text is None:
        return TCMConfig(clip=resnet_clip(layers, width), text_matching=False)
    clip = resnet_clip(
        layers,
        width,
        backbone["output_dim"],
        backbone["input_resolution"],
        text_width=text["transformer_width"],
        text_heads=text["transformer_heads"],
        text_layers=text["transformer_layers"],
        text_positions=text["context_length"],
        vision_heads=32,  # fixed in the original
    )
    only = model["use_learnable_prompt_only"]
    learnable = clip.text_positions if only else clip.text_positions - model["context_length"]
    decoder = model["context_decoder"]
    return TCMConfig(
        clip=clip,
        prompt="" if only else model["class_names"][0],
        learnable_prompt=learnable if model["use_learnable_prompt"] else 0,
        language_prompt=model["prompt_generator"] is not None,
        visual_prompt=model["visual_prompt_generator"] is not None,
        context_decoder=model["use_context_decoder"],
        decoder_width=decoder["transformer_width"],
        decoder_layers=decoder["transformer_layers"],
        decoder_heads=decoder["transformer_heads"],
        dropout=decoder["dropout"],
        tau=model["tau"],
        scale_score_map=model["scale_matching_score_map"],
    )


def golden_config(folder: Path, variant: str = "") -> DetectionConfig:
    """Configuration of the fixture in `folder`, tcm_db, tcm_pan or tcm_fce."""
    config = read_json(folder / "config.json")
    model = dict(config["model"])
    for name, value in (config["variants"][variant]["changes"] if variant else {}).items():
        if value == "<absent>":
            model.pop(name)
        elif "." not in name:  # "neck.in_channels" follows from the rest
            model[name] = value
    family = folder.name.removeprefix("tcm_")
    neck, loss = model["neck"], model["bbox_head"]["loss"]
    match family:
        case "db":
            detector = {
                "lateral_channels": neck["lateral_channels"],
                "out_channels": neck["out_channels"],
                "alpha": loss["alpha"],
                "beta": loss["beta"],
                "cross_entropy": loss["bbce_loss"],
            }
        case "pan":
            detector = {"channels": neck["conv_out"]}
        case "fce":
            detector = {"channels": neck["out_channels"]}
    values = {"family": family, "tcm": tcm_config(model), "detector": detector, "auxiliary_coupled": family != "pan"}
    return detection_config(values)


@functools.cache
def load_golden_detector(folder: Path, variant: str = "") -> tuple[DetectionModel, dict[str, Any]]:
    """The task and its Flax variables."""
    task = DetectionModel(golden_config(folder, variant))
    template = pretrained.shapes(jax.eval_shape(task.init, jax.random.key(0)))
    state = detection_weights(folder / "manifest.json", variant)
    unused = map(re.escape, detector_sizes.unused(task.config, state))
    flat = engine.to_flax(state, rules.table("tcm"), template, [*rules.DROPPED, *unused])
    return task, pretrained.unflatten({path: jnp.asarray(leaf) for path, leaf in flat.items()})


def arrays(file: Path) -> dict[str, np.ndarray]:
    """The arrays of a npz file as they are."""
    with np.load(file) as data:
        return dict(data)


def image_of(folder: Path, name: str = "image") -> jax.Array:
    """The input image of a fixture, [b, h, w, 3]."""
    return jnp.asarray(channels_last(arrays(folder / "inputs.npz")[name]))


def load_golden_module(module, folder: Path, part: str, *inputs) -> dict[str, Any]:
    """Variables of `module`, which is the detector's submodule `part`; the fixture's keys may lack that name."""
    shapes = pretrained.shapes(jax.eval_shape(module.init, jax.random.key(0), *inputs))

    def inside(path: str) -> str:
        collection, rest = path.split("/", 1)
        return f"{collection}/{part}/{rest}"

    template = {inside(p): s for p, s in shapes.items() if not p.startswith("intermediates/")}
    state = detection_weights(folder / "manifest.json")
    if any(key.startswith(f"{part}.") for key in state):
        state = {key: x for key, x in state.items() if key.startswith(f"{part}.")}
    else:
        state = {f"{part}.{key}": x for key, x in state.items()}
    flat = engine.to_flax(state, rules.table("tcm"), template, rules.DROPPED)
    return pretrained.unflatten({p.replace(f"/{part}/", "/", 1): jnp.asarray(x) for p, x in flat.items()})
