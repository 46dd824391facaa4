"""Sizes of a CLIP from the keys and shapes of a state dict, OpenAI's, OpenCLIP's or Hugging Face's."""

import dataclasses
import functools
import math
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np

from tcm_jax.config import from_dict
from tcm_jax.convert.checkpoints import Checkpoint
from tcm_jax.convert.engine import ConversionError, Shape
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


@dataclass(frozen=True)
class Options:
    """What the caller knows better than the file; None leaves it to the file.

    Args:
        charset: the characters themselves, in token order.
        scale: (long, short) sides that images are resized to before a detector sees them.
        fields: fields of the configuration that overrule everything, {"decoder_heads": 4}.
    """

    charset: str | None = None
    activation: str | None = None
    image_size: tuple[int, int] | None = None
    scale: tuple[int, int] | None = None
    fields: Mapping[str, Any] = field(default_factory=dict)


class DetectedArchitecture(NamedTuple):
    """What a kind's reader makes of a state dict.

    Args:
        origin, layout: as in `Architecture`.
        values: fields of the configuration. build: makes the configuration of them; raises ValueError.
        preprocessing: as a model directory keeps it.
    """

    origin: str
    layout: Layout
    values: Mapping[str, Any]
    build: Callable[[Mapping[str, Any]], Any]
    preprocessing: Mapping[str, Any]


def reading(origin: str, layout: Layout, config: Any) -> DetectedArchitecture:
    """Of a model with CLIP's normalization. The original evaluates CLIP4STR with mean and standard deviation 0.5
    instead; that choice belongs to evaluation."""
    build = functools.partial(from_dict, type(config))
    return DetectedArchitecture(
        origin, layout, dataclasses.asdict(config), build, {"mean": list(CLIP_MEAN), "std": list(CLIP_STD)}
    )


class Sizes:
    """Look-ups in a state dict. `prefix` stands before every key; `notes` are for the user."""

    def __init__(self, checkpoint: Checkpoint, tensors: Mapping[str, np.ndarray], prefix: str = ""):
        self.checkpoint, self.tensors, self.prefix = checkpoint, tensors, prefix
        self.path = checkpoint.files[0]
        self.notes: list[str] = []

    def inner(self, prefix: str) -> "Sizes":
        """The same with a longer prefix; notes are shared."""
        inner = Sizes(self.checkpoint, self.tensors, self.prefix + prefix)
        inner.notes = self.notes
        return inner

    def __contains__(self, key: str) -> bool:
        return self.prefix + key in self.tensors

    def shape(self, key: str, dimensions: int) -> Shape:
        key = self.prefix + key
        if key not in self.tensors:
            raise ConversionError(f"{self.path} has no {key}; every checkpoint of its kind has it")
        shape = self.tensors[key].shape
        if len(shape) != dimensions or 0 in shape:
            raise ConversionError(f"{self.path}: {key} has shape {shape}, expected {dimensions} dimensions")
        return shape

    def axis(self, key: str, axis: int, dimensions: int) -> int:
        return self.shape(key, dimensions)[axis]

    def blocks(self, template: str) -> int:
        """How many different numbers stand at "{}" among the keys that begin with `template`."""
        pattern = re.compile(re.escape(self.prefix + template).replace(r"\{\}", r"(\d+)") + r"\..*")
        numbers = {m[1] for m in map(pattern.fullmatch, self.tensors) if m}
        if not numbers:
            raise ConversionError(f"{self.path} has no {self.prefix}{template.format(0)}")
        return len(numbers)


def merge(values: Mapping[str, Any], changes: Mapping[str, Any], what: str = "field ") -> dict[str, Any]:
    """`values` with `changes`, in nested dictionaries too. A change keeps the type of what it replaces."""
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


def clip(sizes: Sizes, options: Options) -> DetectedArchitecture:
    """OpenAI's archives and state dicts, and OpenCLIP's."""
    dtypes = sizes.checkpoint.dtypes
    is_resnet = "visual.class_embedding" not in sizes
    layout: Layout = "clip-resnet" if is_resnet else "clip"
    # OpenAI's models are half precision but for embeddings and LayerNorm.
    half = {d for k, d in dtypes.items() if k.endswith(("text_projection", "ln_final.weight"))} == {
        "float16",
        "float32",
    }
    if sizes.checkpoint.container == "torchscript" or "input_resolution" in sizes or half:
        config = towers(sizes, options.image_size, options.activation or "quick_gelu")
        return reading("OpenAI CLIP", layout, config)
    companion = functools.partial(sizes.checkpoint.companion, "open_clip_config.json", "model_cfg")
    model = companion()
    activation = "quick_gelu" if model.get("quick_gelu") else "gelu"
    if not options.activation and not model:
        sizes.notes.append("activation gelu, OpenCLIP's default; its models named -quickgelu need quick_gelu")
    config = towers(sizes, options.image_size, options.activation or activation)
    if not is_resnet:
        head_width = companion("vision_cfg").get("head_width") or _head_width(config.vision_width, sizes)
        if type(head_width) is not int or head_width < 1:
            raise ConversionError(f"{sizes.path}: head_width is {head_width!r}, expected a number of channels")
        config = dataclasses.replace(config, vision_heads=config.vision_width // head_width)
    text_heads = companion("text_cfg").get("heads", config.text_heads)
    return reading("OpenCLIP", layout, dataclasses.replace(config, text_heads=text_heads))


def huggingface(sizes: Sizes, options: Options) -> DetectedArchitecture:
    """Files of `transformers.CLIPModel`; the config.json beside them tells heads and activation."""
    companion = functools.partial(sizes.checkpoint.companion, "config.json")
    vision, text = (companion(f"{tower}_config") | companion(f"{tower}_config_dict") for tower in ("vision", "text"))
    config = towers(sizes, options.image_size, "quick_gelu", huggingface=True)
    # transformers leaves out of a config.json what equals its own defaults.
    vision_heads, text_heads = vision.get("num_attention_heads", 12), text.get("num_attention_heads", 8)
    activations = {str(tower.get("hidden_act", "quick_gelu")) for tower in (vision, text)}
    if not vision and not text:
        sizes.notes.append("no config.json beside the weights: quick_gelu, the default of transformers")
        vision_heads = config.vision_width // _head_width(config.vision_width, sizes)
        text_heads = config.text_heads
    if options.activation is None and len(activations) > 1:
        raise ConversionError(f"{sizes.path}: the towers differ in hidden_act, {sorted(activations)}")
    activation = options.activation or activations.pop()
    config = dataclasses.replace(config, vision_heads=vision_heads, text_heads=text_heads, activation=activation)
    return reading("Hugging Face CLIP", "huggingface", config)


def _head_width(width: int, sizes: Sizes) -> int:
    """Channels of a head in an image tower that OpenCLIP trained: 64, and 80 in ViT-H."""
    if width != 1280:
        return 64
    sizes.notes.append("16 image heads of 80, as OpenCLIP's ViT-H; CLIP4STR reads the same weights with 20 of 64")
    return 80


def towers(sizes: Sizes, image_size: tuple[int, int] | None, activation: str, huggingface: bool = False) -> CLIPConfig:
    """Sizes that the tensors show; 64 channels to a head."""
    fields = text_tower(sizes, huggingface)
    if huggingface:
        embeddings = "vision_model.embeddings."
        conv, table = f"{embeddings}patch_embedding.weight", f"{embeddings}position_embedding.weight"
        layers = sizes.blocks("vision_model.encoder.layers.{}")
    elif "visual.class_embedding" not in sizes:
        visual = sizes.inner("visual.")
        size = grid_size(visual, "attnpool.positional_embedding", (32, 32), image_size)
        return CLIPConfig(image_size=size, activation=activation, **resnet(visual), **fields)
    else:
        conv, table = "visual.conv1.weight", "visual.positional_embedding"
        layers = sizes.blocks("visual.transformer.resblocks.{}")
    width, _, *patch = sizes.shape(conv, 4)
    return CLIPConfig(
        image_size=grid_size(sizes, table, (patch[0], patch[1]), image_size),
        patch_size=(patch[0], patch[1]),
        vision_width=width,
        vision_layers=layers,
        vision_heads=max(width // 64, 1),
        activation=activation,
        **fields,
    )


def text_tower(sizes: Sizes, huggingface: bool = False) -> dict[str, Any]:
    """Fields of the text tower; 64 channels to a head."""
    fields: dict[str, Any] = {n: sizes.axis(*at) for n, at in (_HUGGINGFACE if huggingface else _CLIP).items()}
    layers = sizes.blocks("text_model.encoder.layers.{}" if huggingface else "transformer.resblocks.{}")
    return {**fields, "text_layers": layers, "text_heads": fields["text_width"] // 64}


def resnet(sizes: Sizes) -> dict[str, Any]:
    """Fields of a ModifiedResNet but for the image size; 64 channels to a head of its attention pooling."""
    width = sizes.axis("layer1.0.conv1.weight", 0, 4)
    return {
        "patch_size": (32, 32),
        "vision_width": width,
        "vision_layers": tuple(sizes.blocks(f"layer{i}.{{}}") for i in (1, 2, 3, 4)),
        "vision_heads": width // 2,
    }


def grid_size(sizes: Sizes, table: str, patch: tuple[int, int], given: tuple[int, int] | None) -> tuple[int, int]:
    """Pixels (h, w): those `given` if the position table fits them, else those of a square grid."""
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
