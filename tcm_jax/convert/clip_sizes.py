"""Sizes of a CLIP from the keys and shapes of a state dict, OpenAI's, OpenCLIP's or Hugging Face's.

All functions raise ConversionError if a tensor is missing or misshapen, or if sizes or options contradict each other.
"""

import dataclasses
import functools
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from tcm_jax.convert.checkpoints import Checkpoint
from tcm_jax.convert.engine import ConversionError, Shape, pattern
from tcm_jax.convert.rules import Layout
from tcm_jax.images.decoding import CLIP_MEAN, CLIP_STD
from tcm_jax.models.clip import CLIPConfig

# Sizes of a CLIP: key, axis, number of dimensions.
_CLIP = {
    "embed_dim": ("text_projection", 1, 2),
    "text_width": ("ln_final.weight", 0, 1),
    "text_positions": ("positional_embedding", 0, 2),
    "vocab_size": ("token_embedding.weight", 0, 2),
}
_HUGGINGFACE = {
    "embed_dim": ("text_projection.weight", 0, 2),
    "text_width": ("text_model.final_layer_norm.weight", 0, 1),
    "text_positions": ("text_model.embeddings.position_embedding.weight", 0, 2),
    "vocab_size": ("text_model.embeddings.token_embedding.weight", 0, 2),
}
# Weight of the patches' convolution, table of positions, blocks.
_CLIP_IMAGE = ("visual.conv1.weight", "visual.positional_embedding", "visual.transformer.resblocks.{}")
_HUGGINGFACE_IMAGE = (
    "vision_model.embeddings.patch_embedding.weight",
    "vision_model.embeddings.position_embedding.weight",
    "vision_model.encoder.layers.{}",
)
# CLIP4STR too was trained so. Its original evaluates with 0.5 instead; that choice belongs to evaluation.
_PREPROCESSING = {"mean": list(CLIP_MEAN), "std": list(CLIP_STD)}


@dataclass(frozen=True)
class ConversionOptions:
    """What the caller knows better than the file; None leaves it to the file.

    Args:
        charset: the characters themselves, in token order.
        activation: of CLIP's towers, one of `tcm_jax.models.layers.ACTIVATIONS`.
        image_size: (height, width) in pixels.
        scale: (long, short) sides in pixels that images are resized to before a detector processes them.
        fields: fields of the configuration, which take precedence over everything else: {"decoder_heads": 4}.
    """

    charset: str | None = None
    activation: str | None = None
    image_size: tuple[int, int] | None = None
    scale: tuple[int, int] | None = None
    fields: Mapping[str, Any] = field(default_factory=dict)


class DetectedArchitecture(NamedTuple):
    """What a state dict shows.

    Args:
        origin, layout, preprocessing, inference: as in `Architecture`.
        values: fields of the configuration.
    """

    origin: str
    layout: Layout
    values: Mapping[str, Any]
    preprocessing: Mapping[str, Any] = _PREPROCESSING
    inference: Mapping[str, Any] = {}


@dataclass(frozen=True)
class Sizes:
    """Look-ups of sizes in a state dict.

    Args:
        tensors: those of the checkpoint, by key.
        prefix: stands before every key.
        notes: messages for the user, to append to.
    """

    checkpoint: Checkpoint
    tensors: Mapping[str, np.ndarray]
    prefix: str = ""
    notes: list[str] = field(default_factory=list)

    @property
    def path(self) -> Path:
        """The checkpoint's first file, for messages."""
        return self.checkpoint.files[0]

    def inner(self, prefix: str) -> "Sizes":
        """The same with a longer prefix; notes are shared."""
        return dataclasses.replace(self, prefix=self.prefix + prefix)

    def __contains__(self, key: str) -> bool:
        return self.prefix + key in self.tensors

    def shape(self, key: str, dimensions: int) -> Shape:
        """Shape of a tensor, which must have this number of `dimensions`, none of them empty."""
        key = self.prefix + key
        if key not in self.tensors:
            raise ConversionError(f"{self.path} has no {key}; every checkpoint of its kind has it")
        shape = self.tensors[key].shape
        if len(shape) != dimensions or 0 in shape:
            raise ConversionError(f"{self.path}: {key} has shape {shape}, expected {dimensions} dimensions")
        return shape

    def axis(self, key: str, axis: int, dimensions: int) -> int:
        """Length of one axis."""
        return self.shape(key, dimensions)[axis]

    def blocks(self, template: str) -> int:
        """Number of different numbers at "{}" among the keys that begin with `template`; at least one."""
        numbers = {m[1] for m in map(pattern(f"{self.prefix}{template}.").match, self.tensors) if m}
        if not numbers:
            raise ConversionError(f"{self.path} has no {self.prefix}{template.format(0)}")
        return len(numbers)


def merge(values: Mapping[str, Any], changes: Mapping[str, Any], what: str = "field ") -> dict[str, Any]:
    """`values` with `changes`, in nested dictionaries too. A change must have the type of what it replaces."""
    merged = dict(values)
    for key, value in changes.items():
        old = values.get(key)
        if isinstance(old, dict) and isinstance(value, Mapping):
            value = merge(old, value, f"{what}{key}.")
        value = tuple(value) if isinstance(value, list) else value
        if key in values and type(value) is not type(old) and (type(old), type(value)) != (float, int):
            raise ConversionError(f"{what}{key} is {value!r}; expected a {type(old).__name__}")
        merged[key] = value
    return merged


def clip(sizes: Sizes, options: ConversionOptions) -> DetectedArchitecture:
    """Detects OpenAI's archives and state dicts, and OpenCLIP's."""
    is_resnet = "visual.class_embedding" not in sizes
    layout: Layout = "clip-resnet" if is_resnet else "clip"
    # OpenAI's models are half precision but for embeddings and LayerNorm.
    samples = [d for k, d in sizes.checkpoint.dtypes.items() if k.endswith(("text_projection", "ln_final.weight"))]
    mixed = set(samples) == {"float16", "float32"}
    if sizes.checkpoint.container == "torchscript" or "input_resolution" in sizes or mixed:
        fields = towers(sizes, options.image_size, options.activation or "quick_gelu")
        return DetectedArchitecture("OpenAI CLIP", layout, fields)
    companion = functools.partial(sizes.checkpoint.companion, "open_clip_config.json", "model_cfg")
    model = companion()
    if not options.activation and not model:
        sizes.notes.append("activation gelu, OpenCLIP's default; its models named -quickgelu need quick_gelu")
    activation = options.activation or ("quick_gelu" if model.get("quick_gelu") else "gelu")
    fields = towers(sizes, options.image_size, activation)
    if not is_resnet:
        head_width = companion("vision_cfg").get("head_width") or _head_width(sizes, fields)
        if type(head_width) is not int or head_width < 1:
            raise ConversionError(f"{sizes.path}: head_width is {head_width!r}, expected a number of channels")
        fields["vision_heads"] = fields["vision_width"] // head_width
    text_heads = companion("text_cfg").get("heads", fields["text_heads"])
    return DetectedArchitecture("OpenCLIP", layout, fields | {"text_heads": text_heads})


def huggingface(sizes: Sizes, options: ConversionOptions) -> DetectedArchitecture:
    """Detects `transformers.CLIPModel`; heads and activation come from the config.json beside the weights."""
    companion = functools.partial(sizes.checkpoint.companion, "config.json")
    vision, text = (companion(f"{tower}_config") | companion(f"{tower}_config_dict") for tower in ("vision", "text"))
    activations = {str(tower.get("hidden_act", "quick_gelu")) for tower in (vision, text)}
    if options.activation is None and len(activations) > 1:
        raise ConversionError(f"{sizes.path}: the towers differ in hidden_act, {sorted(activations)}")
    fields = towers(sizes, options.image_size, options.activation or activations.pop(), huggingface=True)
    if vision or text:  # transformers leaves out of a config.json what equals its own defaults
        fields["vision_heads"] = vision.get("num_attention_heads", 12)
        fields["text_heads"] = text.get("num_attention_heads", 8)
    else:
        sizes.notes.append("no config.json beside the weights: quick_gelu, the default of transformers")
        fields["vision_heads"] = fields["vision_width"] // _head_width(sizes, fields)
    return DetectedArchitecture("Hugging Face CLIP", "huggingface", fields)


def _head_width(sizes: Sizes, fields: Mapping[str, Any]) -> int:
    """Channels of a head in an image tower that OpenCLIP trained: 64, and 80 in ViT-H."""
    if fields["vision_width"] != 1280:
        return 64
    sizes.notes.append("16 image heads of 80, as OpenCLIP's ViT-H; CLIP4STR reads the same weights with 20 of 64")
    return 80


def towers(
    sizes: Sizes, image_size: tuple[int, int] | None, activation: str, huggingface: bool = False
) -> dict[str, Any]:
    """Fields of a `CLIPConfig` that the tensors show; 64 channels per head."""
    fields = dataclasses.asdict(CLIPConfig(activation=activation)) | text_tower(sizes, huggingface)
    if not huggingface and "visual.class_embedding" not in sizes:
        visual = sizes.inner("visual.")
        size = grid_size(visual, "attnpool.positional_embedding", (32, 32), image_size)
        return fields | resnet(visual) | {"image_size": size}
    conv, table, blocks = _HUGGINGFACE_IMAGE if huggingface else _CLIP_IMAGE
    width, _, *sides = sizes.shape(conv, 4)
    patch = sides[0], sides[1]
    return fields | {
        "image_size": grid_size(sizes, table, patch, image_size),
        "patch_size": patch,
        "vision_width": width,
        "vision_layers": sizes.blocks(blocks),
        "vision_heads": max(width // 64, 1),
    }


def text_tower(sizes: Sizes, huggingface: bool = False) -> dict[str, Any]:
    """Fields of the text tower; 64 channels per head."""
    fields: dict[str, Any] = {n: sizes.axis(*at) for n, at in (_HUGGINGFACE if huggingface else _CLIP).items()}
    layers = sizes.blocks("text_model.encoder.layers.{}" if huggingface else "transformer.resblocks.{}")
    return {**fields, "text_layers": layers, "text_heads": fields["text_width"] // 64}


def resnet(sizes: Sizes) -> dict[str, Any]:
    """Fields of a ModifiedResNet but for the image size; 64 channels per head of its attention pooling."""
    width = sizes.axis("layer1.0.conv1.weight", 0, 4)
    return {
        "patch_size": (32, 32),
        "vision_width": width,
        "vision_layers": tuple(sizes.blocks(f"layer{i}.{{}}") for i in (1, 2, 3, 4)),
        "vision_heads": width // 2,
    }


def grid_size(sizes: Sizes, table: str, patch: tuple[int, int], given: tuple[int, int] | None) -> tuple[int, int]:
    """Image size (h, w) in pixels: `given`, which the table of positions must fit, else that of a square grid."""
    count = sizes.axis(table, 0, 2) - 1
    if given is None:
        side = math.isqrt(count)
        if side * side != count:
            raise ConversionError(f"{sizes.path}: {count} patches are no square grid; give the image size")
        return side * patch[0], side * patch[1]
    h, w = given
    if min(h, w) < 1 or h % patch[0] or w % patch[1] or (h // patch[0]) * (w // patch[1]) != count:
        raise ConversionError(
            f"{sizes.path}: images of {h}x{w} in patches of {patch[0]}x{patch[1]} don't give the {count} "
            f"patches of {table}"
        )
    return h, w
