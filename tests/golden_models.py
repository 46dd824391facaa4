"""Configurations and weights of the fixtures, as the models take them."""

import functools
from pathlib import Path
from typing import Any

import jax.numpy as jnp
import numpy as np

from tcm_jax import pretrained
from tcm_jax.convert import engine, rules
from tcm_jax.convert.architecture import template
from tcm_jax.models.clip import CLIPConfig
from tcm_jax.models.clip4str import CLIP4STRConfig
from tests.conftest import golden_weights, read_json


def clip_config(config: dict[str, Any], activation: str | None = None) -> CLIPConfig:
    """The sizes in a config.json's "clip" and the activation it names, unless `activation` says otherwise."""
    clip = config["clip"]
    layers, width = clip["vision_layers"], clip["vision_width"]
    patch = clip["vision_patch_size"] or 32
    if activation is None:
        activation = "gelu" if config.get("activation", "").startswith("gelu") else "quick_gelu"
    return CLIPConfig(
        embed_dim=clip["embed_dim"],
        image_size=(clip["image_resolution"],) * 2,
        patch_size=(patch, patch),
        vision_width=width,
        vision_layers=tuple(layers) if isinstance(layers, list) else layers,
        vision_heads=width // 2 if isinstance(layers, list) else width // 64,
        text_width=clip["transformer_width"],
        text_layers=clip["transformer_layers"],
        text_heads=clip["transformer_heads"],
        text_positions=clip["context_length"],
        vocab_size=clip["vocab_size"],
        activation=activation,
    )


def clip4str_config(config: dict[str, Any], folder: Path) -> CLIP4STRConfig:
    """The hyper-parameters in a config.json's "model". Without "clip", that beside the weights counts."""
    model = config["model"]
    if "clip" not in config:
        config = read_json(resolve(folder, config["weights"]).parent / "config.json")
    return CLIP4STRConfig(
        clip=clip_config(config, "quick_gelu"),
        charset=model["charset_train"],
        caption_charset=model["charset_test"],
        max_label_length=model["max_label_length"],
        context_length=model["context_length"],
        decoder_depth=model["dec_depth"],
        decoder_heads=model["dec_num_heads"],
        decoder_mlp_ratio=model["dec_mlp_ratio"],
        dropout=model["dropout"],
        use_language_model=model["use_language_model"],
        use_share_dim=model["use_share_dim"],
        image_detach=model["image_detach"],
        cross_gt_context=model["cross_gt_context"],
        cross_cloze_mask=model["cross_cloze_mask"],
        cross_loss_weight=model["cross_loss_w"],
        cross_token_embedding=model["cross_token_embeding"],
        cls_eot_feature=model["clip_cls_eot_feature"],
        decode_ar=model["decode_ar"],
        refine_iters=model["refine_iters"],
        perm_num=model["perm_num"],
        perm_forward=model["perm_forward"],
        perm_mirrored=model["perm_mirrored"],
    )


def resolve(folder: Path, reference: str) -> Path:
    """A config.json's "weights" or "inputs": "../../manifest.json", "inputs.npz here"."""
    return (folder / reference.split()[0]).resolve()


def golden_state(folder: Path) -> dict[str, np.ndarray]:
    """The PyTorch state dict of the fixture in `folder`."""
    reference = read_json(folder / "config.json").get("weights", "manifest.json")
    return golden_weights(resolve(folder, reference))


def golden_inputs(folder: Path) -> dict[str, np.ndarray]:
    """The arrays of inputs.npz; `images` as our models take them, [b, h, w, 3]."""
    reference = read_json(folder / "config.json").get("inputs", "inputs.npz")
    with np.load(resolve(folder, reference)) as file:
        arrays = dict(file)
    if "images" in arrays:
        arrays["images"] = arrays["images"].transpose(0, 2, 3, 1)
    return arrays


@functools.cache
def load_golden(folder: Path) -> tuple[CLIPConfig | CLIP4STRConfig, dict[str, Any]]:
    """Configuration and Flax variables of the fixture in `folder`, which holds a config.json."""
    config = read_json(folder / "config.json")
    if "model" in config:
        model, layout = clip4str_config(config, folder), "clip4str"
    else:
        model = clip_config(config)
        layout = "clip-resnet" if model.is_resnet else "clip"
    flat = engine.to_flax(golden_state(folder), rules.table(layout), template(model), rules.DROPPED)
    return model, pretrained.unflatten({path: jnp.asarray(leaf) for path, leaf in flat.items()})
