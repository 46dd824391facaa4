"""What a state dict is: its layout and the configuration of its model, from keys and shapes.

Tensors don't show numbers of heads, the activation, the characters or the decoding options. These come from
the caller's options, from a Lightning file's hyper-parameters or the JSON file beside the weights, and else
from what the released models have; `Architecture.notes` lists what was assumed.
"""

import collections
import dataclasses
import functools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from tcm_jax import pretrained
from tcm_jax.config import from_dict
from tcm_jax.convert import clip_sizes, detector_sizes
from tcm_jax.convert.checkpoints import Checkpoint
from tcm_jax.convert.clip_sizes import ConversionOptions, DetectedArchitecture, Sizes, merge
from tcm_jax.convert.engine import ConversionError, Shape
from tcm_jax.convert.rules import TASKS, Layout
from tcm_jax.detection.model import DETECTORS, DetectionConfig, DetectionModel, detection_config
from tcm_jax.models.clip import CLIP, CLIPConfig
from tcm_jax.models.clip4str import CLIP4STR, CLIP4STRConfig
from tcm_jax.models.layers import ACTIVATIONS
from tcm_jax.renames import renamed
from tcm_jax.text.charset import CHARSET_94

Config = CLIPConfig | CLIP4STRConfig | DetectionConfig

_SAME_NAMES = """
    context_length dropout use_share_dim image_detach cross_gt_context cross_cloze_mask
    decode_ar refine_iters perm_num perm_forward perm_mirrored
"""
# Hyper-parameters of the original's VL4STR, by our names.
HYPER_PARAMETERS = {
    **{name: name for name in _SAME_NAMES.split()},
    "charset": "charset_train",
    "caption_charset": "charset_test",
    "decoder_heads": "dec_num_heads",
    "cross_loss_weight": "cross_loss_w",
    "cross_token_embedding": "cross_token_embeding",
    "cls_eot_feature": "clip_cls_eot_feature",
}


@dataclass(frozen=True)
class Architecture:
    """A recognised state dict.

    Args:
        origin: who made it: "CLIP4STR", "TCM-DB", "OpenAI CLIP", "OpenCLIP", "Hugging Face CLIP" and so on.
        layout: names the table of rules.
        config: of the model.
        tensors: keys without the prefix that all had.
        preprocessing, inference: as a model directory keeps them.
        notes: what was assumed or ignored, a sentence each.
        unused: keys of the tensors that the configuration has no use for.
    """

    origin: str
    layout: Layout
    config: Config
    tensors: Mapping[str, np.ndarray]
    preprocessing: Mapping[str, Any]
    inference: Mapping[str, Any]
    notes: tuple[str, ...]
    unused: tuple[str, ...] = ()


def config_of(task: str, values: Mapping[str, Any]) -> Config:
    """The configuration of a model, from its fields.

    Raises:
        ValueError: an unknown task or field, or a wrong value.
    """
    match task:
        case "clip":
            return from_dict(CLIPConfig, values, "model")
        case "recognition":
            return from_dict(CLIP4STRConfig, values, "model")
        case "detection":
            return detection_config(values)
    raise ValueError(f"the model's task is {task!r}; known are clip, recognition, detection")


def identify(checkpoint: Checkpoint, options: ConversionOptions | None = None) -> Architecture:
    """Recognises a checkpoint.

    Raises:
        ConversionError: no known kind, or sizes that contradict each other or the options.
    """
    options = options or ConversionOptions()
    kind, tensors = _strip_prefix(checkpoint)
    if options.charset is not None and kind != "clip4str":
        raise ConversionError(f"a charset was given, but {checkpoint.files[0]} is a model without character decoders")
    if options.scale is not None and kind not in DETECTORS:
        raise ConversionError(f"a scale was given, but {checkpoint.files[0]} is no text detector")
    sizes = Sizes(checkpoint, tensors)
    detected = KINDS[kind][1](sizes, options)
    family = {"family": kind} if kind in DETECTORS else {}
    given = renamed({"model": {**family, **options.fields}})
    try:
        config = config_of(TASKS[detected.layout], merge(detected.values, given["model"]))
        _check(config, sizes)
    except ConversionError:
        raise
    except ValueError as error:
        raise ConversionError(f"{sizes.path}: {error}") from error
    unused = detector_sizes.unused(config, tensors) if isinstance(config, DetectionConfig) else ()
    filled = [key for key in unused if tensors[key].size]  # predefined prompts come with empty `contexts`
    if filled:
        sizes.notes.append(f"not used by this model and left out: {_abridged(filled)}")
    return Architecture(
        origin=detected.origin,
        layout=detected.layout,
        config=config,
        tensors=tensors,
        preprocessing=detected.preprocessing,
        inference={**detected.inference, **given.get("inference", {})},
        notes=tuple(sizes.notes),
        unused=unused,
    )


@functools.cache
def template(config: Config) -> dict[str, Shape]:
    """Shape of every leaf of the model by path, parameters and running statistics, without making them."""
    key, images = jax.random.key(0), jnp.zeros((1, *clip_of(config).image_size, 3))
    match config:
        case DetectionConfig():
            variables = jax.eval_shape(DetectionModel(config).init, key)
        case CLIP4STRConfig():
            variables = jax.eval_shape(CLIP4STR(config).init, key, images)
        case CLIPConfig():
            variables = jax.eval_shape(CLIP(config).init, key, images, jnp.zeros((1, 2), jnp.int32))
    return {p: s for p, s in pretrained.shapes(variables).items() if p.startswith(("params/", "batch_stats/"))}


def clip_of(config: Config) -> CLIPConfig:
    """The CLIP in a configuration."""
    model = config.tcm if isinstance(config, DetectionConfig) else config
    return model if isinstance(model, CLIPConfig) else model.clip


def _strip_prefix(checkpoint: Checkpoint) -> tuple[str, dict[str, np.ndarray]]:
    """Kind of a state dict, and its tensors without the prefix that its keys share."""
    file = checkpoint.files[0]
    for kind, (mark, _) in KINDS.items():
        key = next((key for key in checkpoint.tensors if f".{key}".endswith(f".{mark}")), None)
        if key is not None:
            prefix = key.removesuffix(mark)
            tensors = {k.removeprefix(prefix): x for k, x in checkpoint.tensors.items()}
            if len(tensors) < len(checkpoint.tensors):
                raise ConversionError(f"{file} holds keys with {prefix!r} and without")
            return kind, tensors
    some, marks = ", ".join(list(checkpoint.tensors)[:3]), ", ".join(mark for mark, _ in KINDS.values())
    raise ConversionError(
        f"{file} is no CLIP, no CLIP4STR and no detector of TCM: it has {some}, ... and none of {marks}"
    )


def _abridged(keys: Sequence[str]) -> str:
    """Keys of one module as one, "context_decoder.* (74)"."""
    counts = collections.Counter(key.partition(".")[0] for key in keys)
    return ", ".join(name if name in keys else f"{name}.* ({count})" for name, count in counts.items())


def _clip4str(sizes: Sizes, options: ConversionOptions) -> DetectedArchitecture:
    """The flat state dict of VL4STR, or a Lightning checkpoint with its hyper-parameters."""
    given = sizes.checkpoint.hyper_parameters
    size = options.image_size
    if size is None and "img_size" in given:
        match given["img_size"]:
            case [int(h), int(w)]:
                size = h, w
            case other:
                raise ConversionError(f"{sizes.path}: hyper-parameter img_size is {other!r}, expected [h, w]")
    clip = clip_sizes.towers(sizes.inner("clip_model."), size, options.activation or "quick_gelu")
    _, positions, width = sizes.shape("visual_decoder.pos_queries", 3)
    # What the tensors show, by the name of the hyper-parameter.
    shown: dict[str, Any] = {
        "max_label_length": positions - 1,
        "dec_depth": sizes.blocks("visual_decoder.layers.{}"),
        "dec_mlp_ratio": sizes.axis("visual_decoder.layers.0.linear1.weight", 0, 2) // width,
        "use_language_model": "cross_decoder.pos_queries" in sizes,
    }
    for name, value in shown.items():
        if given.get(name, value) != value:
            sizes.notes.append(f"hyper-parameter {name} is {given[name]!r}, but the tensors show {value!r}")
    stated = {name: given[theirs] for name, theirs in HYPER_PARAMETERS.items() if theirs in given}
    if width != clip["embed_dim"]:
        stated["use_share_dim"] = False
    if options.charset is not None:
        stated["charset"] = options.charset
    count = _characters(sizes)
    if count != len(CHARSET_94) and "charset" not in {*stated, *options.fields}:
        raise ConversionError(f"{sizes.path} reads {count} characters; say which with --charset")
    ignored = sorted(given.keys() - {*HYPER_PARAMETERS.values(), *shown, "img_size"})
    if ignored:
        sizes.notes.append(f"hyper-parameters without a meaning here: {', '.join(ignored)}")
    assumed = sorted(HYPER_PARAMETERS.keys() - stated.keys() - options.fields.keys() - {"use_share_dim"})
    if assumed:
        sizes.notes.append(f"as in the released models: {', '.join(assumed)}")
    fields = {name.replace("dec_", "decoder_"): value for name, value in shown.items()}
    values = dataclasses.asdict(CLIP4STRConfig(**fields)) | {"clip": clip}
    return DetectedArchitecture("CLIP4STR", "clip4str", merge(values, stated, "hyper-parameter "))


def _characters(sizes: Sizes) -> int:
    """Number of characters that a CLIP4STR reads; the embedding has three tokens more."""
    return sizes.axis("visual_decoder.text_embed.embedding.weight", 0, 2) - 3


def _check(config: Config, sizes: Sizes) -> None:
    """What the rules' comparison of shapes can't see. Raises ValueError."""
    clip = clip_of(config)
    if clip.activation not in ACTIVATIONS:
        raise ValueError(f"activation {clip.activation!r} is unknown; known are {', '.join(ACTIVATIONS)}")
    image = 32 * clip.vision_width if clip.is_resnet else clip.vision_width  # of the attention pooling
    widths = {"text": (clip.text_width, clip.text_heads), "image": (image, clip.vision_heads)}
    if isinstance(config, DetectionConfig):
        widths["decoder"] = (config.tcm.decoder_width, config.tcm.decoder_heads)
    if isinstance(config, CLIP4STRConfig):
        widths["decoder"] = (sizes.axis("visual_decoder.pos_queries", 2, 3), config.decoder_heads)
        count = _characters(sizes)
        if len(set(config.charset)) != count or len(config.charset) != count:
            raise ValueError(f"the charset {config.charset!r} is not {count} different characters")
    for name, (width, heads) in widths.items():
        if type(heads) is not int or heads < 1 or width % heads:
            raise ValueError(f"the {name} width {width} can't be split over {heads!r} heads")


# Of each kind of checkpoint the key that shows it, which follows the prefix ("module.") of all keys, and its function.
KINDS: dict[str, tuple[str, Callable[[Sizes, ConversionOptions], DetectedArchitecture]]] = {
    "clip4str": ("visual_decoder.pos_queries", _clip4str),
    "db": ("bbox_head.binarize.0.weight", functools.partial(detector_sizes.detector, "db")),
    "pan": ("bbox_head.out_conv.weight", functools.partial(detector_sizes.detector, "pan")),
    "fce": ("bbox_head.out_conv_cls.weight", functools.partial(detector_sizes.detector, "fce")),
    "huggingface": ("vision_model.embeddings.class_embedding", clip_sizes.huggingface),
    "clip": ("token_embedding.weight", clip_sizes.clip),
}
