"""First parameters of a run: random, or from a model directory as far as that fits."""

import re
from collections import Counter
from dataclasses import dataclass, field
from typing import Any

import jax
import numpy as np

from tcm_jax.config import from_dict
from tcm_jax.models.clip import ClipConfig, resize_positional_embedding
from tcm_jax.models.clip4str import Clip4StrConfig
from tcm_jax.pretrained import Pretrained, flatten, unflatten
from tcm_jax.training.optim import Tree

_CLIP = "clip_model/"
_IMAGE_POSITIONS = "clip_model/visual/positional_embedding"
_TEXT_POSITIONS = "clip_model/positional_embedding"
_OF_CHARSET = ("head/kernel", "head/bias", "text_embed/embedding")  # of both decoders


@dataclass
class Report:
    """What became of every parameter, by path; str() tells the user."""

    loaded: list[str] = field(default_factory=list)
    resized: list[str] = field(default_factory=list)
    new: list[str] = field(default_factory=list)
    unused: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    def __str__(self) -> str:
        everything = Counter(_module(path) for path in (*self.loaded, *self.resized, *self.new, *self.unused))

        def names(paths: list[str]) -> str:
            """Modules by name and number where all of one is listed, else the paths."""
            counts = Counter(map(_module, paths))
            whole = [module for module in counts if counts[module] == everything[module]]
            parts = [path for path in paths if _module(path) not in whole]
            return ", ".join([*(f"all {counts[m]} of {m}" for m in whole), *sorted(parts)])

        lines = [f"loaded {len(self.loaded)} tensors"]
        for title, paths in (
            ("resized", self.resized),
            ("newly initialized", self.new),
            ("not used", self.unused),
        ):
            if paths:
                lines.append(f"{title} {len(paths)}: {names(paths)}")
        return "\n".join([*lines, *self.notes])


def initialize(params: Tree, config: Clip4StrConfig, pretrained: Pretrained) -> tuple[dict[str, Any], Report]:
    """Random parameters with everything replaced that a model directory holds.

    A CLIP fills `clip_model`, a CLIP4STR everything. The image position embedding is interpolated to another patch
    grid, the text position embedding is cut. With another charset the decoders' classifiers and character embeddings
    stay random, and so does a decoder or a layer of one that the directory lacks. With another label length the
    decoders' position queries are cut, or the further ones stay random. CLIP's attention heads may be split
    otherwise: CLIP4STR-H reads 16 heads of 80 as 20 of 64.

    Args:
        params: random parameters of the model; config: of the model.

    Returns:
        (parameters, report)

    Raises:
        ValueError: a tensor has another shape or CLIP's towers are not complete; the message names the
            tensors.
    """
    if pretrained.task not in ("clip", "recognition"):
        raise ValueError(
            f"a model for the task {pretrained.task!r} can't start a recognizer; "
            'expected one for "clip" or "recognition"'
        )
    prefix, old_charset = "", None
    if pretrained.task == "clip":
        prefix, old_clip = _CLIP, from_dict(ClipConfig, pretrained.model, "its model")
    else:
        old_config = from_dict(Clip4StrConfig, pretrained.model, "its model")
        old_clip, old_charset = old_config.clip, old_config.charset
    source = {prefix + path: leaf for path, leaf in flatten(pretrained.variables["params"]).items()}

    report, problems, result = Report(), [], {}
    for path, random in flatten(params).items():
        old = source.pop(path, None)
        foreign_charset = old_charset != config.charset and path.endswith(_OF_CHARSET)
        if foreign_charset or (old is None and not path.startswith(_CLIP)):
            report.new.append(path)
            result[path] = random
            continue
        if old is None:
            problems.append(f"{path} {tuple(random.shape)} is missing")
            continue
        if path == _IMAGE_POSITIONS and old_clip.grid != config.clip.grid and old.shape[1] == random.shape[1]:
            new = np.asarray(resize_positional_embedding(old, old_clip.grid, config.clip.grid))
            report.resized.append(path)
        elif path == _TEXT_POSITIONS and len(old) > len(random):
            new = old[: len(random)]
            report.resized.append(path)
        elif path.endswith("/pos_queries") and old.shape[1] != random.shape[1]:
            # Position i means the same in both; positions that the shorter one lacks stay random.
            new = np.concatenate([old[:, : random.shape[1]], random[:, old.shape[1] :]], axis=1)
            report.resized.append(path)
        else:
            same_values = re.match(f"{_CLIP}.*attn/", path) and _flat_heads(path, old) == _flat_heads(path, random)
            new = old.reshape(random.shape) if same_values else old
            report.loaded.append(path)
        if new.shape != random.shape:
            problems.append(f"{path} has shape {tuple(old.shape)}; the model needs {tuple(random.shape)}")
            continue
        result[path] = jax.device_put(new.astype(random.dtype), random.sharding)
    report.unused = sorted(source)
    for key in ("vision_heads", "text_heads", "activation"):
        old, new = getattr(old_clip, key), getattr(config.clip, key)
        if old != new:
            report.notes.append(f"clip.{key} is {new!r}; the directory's model has {old!r}")
    if problems:
        raise ValueError("the model directory does not fit the model:\n  " + "\n  ".join(problems))
    return unflatten(result), report


def _flat_heads(path: str, leaf: np.ndarray | jax.Array) -> tuple[int, ...]:
    """The shape of an attention parameter with heads and head width as one dimension."""
    if path.endswith("/out/kernel"):  # [k, e, d]
        return (-1, *leaf.shape[2:], leaf.size)
    if path.endswith("/out/bias"):
        return leaf.shape
    return (*leaf.shape[:-2], -1, leaf.size)  # [d, k, e] or [k, e]


def _module(path: str) -> str:
    """The part of the model that a path belongs to: "clip_model/visual", "clip_model", "cross_decoder"."""
    parts = path.split("/")
    return "/".join(parts[:2]) if parts[:2] == ["clip_model", "visual"] else parts[0]
