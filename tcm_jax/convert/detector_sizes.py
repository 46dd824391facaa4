"""Configuration of a text detector, TCM's or its baseline's, from the keys and shapes of a state dict."""

import dataclasses
from collections.abc import Mapping
from typing import Any

import numpy as np

from tcm_jax.convert import clip_sizes, mmcv_config
from tcm_jax.convert.clip_sizes import ConversionOptions, DetectedArchitecture, Sizes, merge
from tcm_jax.convert.engine import ConversionError
from tcm_jax.detection.model import DETECTORS, DetectionConfig
from tcm_jax.models.tcm import RELEASED_PROMPT, TCMConfig, resnet_clip

# Image size (long, short) of the released tests on ICDAR2015.
SCALES = {"db": (4068, 1024), "pan": (1333, 736), "fce": (2260, 2260)}
INITIAL_GAMMA = np.float32(1e-3)  # of both factors that refine the embeddings

# Components of TCM by their field in `TCMConfig`: the keys that have no use without it. The release's class makes
# vis_gamma, gamma and the context decoder in any case.
COMPONENTS = {
    "learnable_prompt": ("contexts",),
    "language_prompt": ("prompt_generator.",),
    "visual_prompt": ("visual_prompt_generator.", "vis_gamma"),
    "context_decoder": ("context_decoder.", "gamma"),
    "scale_score_map": ("logit_scale",),
    "fast": ("meta_query", "pix_w"),
}


def unused(config: DetectionConfig, tensors: Mapping[str, np.ndarray]) -> tuple[str, ...]:
    """Keys of the components that `config` is without."""
    off = tuple(key for field, keys in COMPONENTS.items() if not getattr(config.tcm, field) for key in keys)
    return tuple(key for key in tensors if key.startswith(off))


def detector(family: str, sizes: Sizes, options: ConversionOptions) -> DetectedArchitecture:
    """Detects a detector of `family`; raises ConversionError if sizes are missing or contradict the options."""
    asked = options.fields.get("family", family)
    if asked != family:
        raise ConversionError(f"{sizes.path} is a {family} detector, not {asked!r}")
    cls = DETECTORS[family]
    values = dataclasses.asdict(DetectionConfig(family, TCMConfig(), cls()))
    values["detector"] |= _channels(family, sizes)
    has_text = "text_encoder.ln_final.weight" in sizes
    values["tcm"] |= _tcm(sizes, options) if has_text else {"text_matching": False, "clip": _resnet(sizes)}
    try:
        file = mmcv_config.read(sizes.checkpoint.config, family)
        values = merge(values, {"tcm": file.tcm if has_text else {}, "detector": {"decoding": file.decoding}})
    except ValueError as error:
        sizes.notes.append(f"the configuration in the file is not used: {error}")
        file = mmcv_config.MMCVConfig({}, {}, {})
    scale = file.preprocessing.pop("scale", None)
    scale = options.scale or scale
    preprocessing = {"mean": list(cls.mean), "std": list(cls.std), **file.preprocessing, "multiple": 32}
    tcm_fields = {*file.tcm, *mmcv_config.mapping(options.fields.get("tcm"))}
    decoding = {*file.decoding, *mmcv_config.mapping(options.fields.get("detector"))}
    if has_text and "prompt" not in tcm_fields:
        room = values["tcm"]["clip"]["text_positions"] - values["tcm"]["learnable_prompt"]
        if 0 < room < 14:  # of the released words
            raise ConversionError(
                f"{sizes.path} has room for a prompt of {room} tokens; say which words with --set tcm.prompt=..."
            )
    assumed = {
        "the attention pooling's 32 heads": has_text,
        "the prompt": has_text and values["tcm"]["prompt"] and "prompt" not in tcm_fields,
        "the decoders' 4 heads": has_text and "decoder_heads" not in tcm_fields,
        "decoding": not decoding,
        "the scale": not scale,
    }
    if any(assumed.values()):
        sizes.notes.append(f"as in the released models: {', '.join(n for n, is_so in assumed.items() if is_so)}")
    origin = f"TCM-{family.upper()}" if has_text else f"{family.upper()} with CLIP's ResNet"
    return DetectedArchitecture(origin, "tcm", values, preprocessing, {"scale": list(scale or SCALES[family])})


def _resnet(sizes: Sizes) -> dict[str, Any]:
    """The backbone. The release's attention pooling has 32 heads, whatever its width."""
    fields = clip_sizes.resnet(sizes.inner("backbone."))
    clip = resnet_clip(fields["vision_layers"], fields["vision_width"])
    return {**dataclasses.asdict(clip), "vision_heads": 32}


def _tcm(sizes: Sizes, options: ConversionOptions) -> dict[str, Any]:
    """Fields of `TCMConfig`."""
    clip = _resnet(sizes) | clip_sizes.text_tower(sizes.inner("text_encoder."))
    table = "attnpool.positional_embedding"
    clip["image_size"] = clip_sizes.grid_size(sizes.inner("backbone."), table, (32, 32), options.image_size)
    clip["activation"] = options.activation or "quick_gelu"
    fields: dict[str, Any] = {
        "clip": clip,
        "language_prompt": "prompt_generator.prompt_proj.1.weight" in sizes,
        "visual_prompt": "visual_prompt_generator.text_proj.1.weight" in sizes,
        "context_decoder": "context_decoder.text_proj.1.weight" in sizes,
        "scale_score_map": "logit_scale" in sizes,
        "fast": "meta_query" in sizes,
    }
    for field, name in (("visual_prompt", "visual_prompt_generator"), ("context_decoder", "context_decoder")):
        if fields[field]:
            fields["decoder_width"] = sizes.axis(f"{name}.text_proj.1.weight", 0, 2)
            fields["decoder_layers"] = sizes.blocks(f"{name}.decoder.{{}}")
    if "gamma" in sizes and (sizes.tensors["gamma"] == INITIAL_GAMMA).all():
        sizes.notes.append(
            "gamma is as it was initialised; a model trained with use_context_decoder=False needs "
            "--set tcm.context_decoder=false"
        )
    positions, contexts = clip["text_positions"], sizes.tensors.get("contexts", np.zeros(0))
    if contexts.ndim != 3 or contexts.shape[1] > positions:
        raise ConversionError(
            f"{sizes.path}: contexts has shape {contexts.shape}; expected (1, n, width) with n up to {positions}, the "
            "positions of the text tower"
        )
    # Learnable vectors at all positions of the text tower leave no room for words.
    count = contexts.shape[1]
    return {**fields, "learnable_prompt": count, "prompt": RELEASED_PROMPT if count < positions else ""}


def _channels(family: str, sizes: Sizes) -> dict[str, Any]:
    """Fields of the family's detector that the tensors show."""

    def width(name: str) -> int:
        return sizes.axis(f"{name}.weight", 0, 4)

    match family:
        case "db":
            names = {"lateral_channels": "neck.lateral_convs.0.conv", "out_channels": "neck.smooth_convs.0.conv"}
            return {field: width(name) for field, name in names.items()}
        case "pan":
            return {"channels": width("neck.reduce_conv_c2.0"), "repeats": sizes.blocks("neck.fpems.{}")}
    coefficients = width("bbox_head.out_conv_reg")  # FCE: real and imaginary parts of -k..k
    return {"channels": width("neck.lateral_convs.0.conv"), "fourier_degree": (coefficients // 2 - 1) // 2}
