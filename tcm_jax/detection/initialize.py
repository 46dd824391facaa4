"""First parameters of a text detector: random, or from a CLIP or another detector as far as that fits."""

from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from tcm_jax.config import from_dict
from tcm_jax.detection.model import DetectionConfig, detection_config
from tcm_jax.models.clip import CLIPConfig
from tcm_jax.models.resnet import interpolation_matrix
from tcm_jax.pretrained import Pretrained, flatten
from tcm_jax.training.transfer import LoadReport, LoadStatus, differences, split_heads_as, transfer

_TOWERS = ("backbone/attnpool", "backbone", "text_encoder")
_OF_FAMILY = ("neck", "bbox_head")
_IMAGE_POSITIONS = "params/backbone/attnpool/positional_embedding"
_TEXT_POSITIONS = "params/text_encoder/positional_embedding"


def initialize_detector(
    variables: Mapping[str, Any], config: DetectionConfig, pretrained: Pretrained
) -> tuple[dict[str, Any], LoadReport]:
    """Random parameters and statistics with everything replaced that a model directory holds.

    A CLIP with a ResNet fills the backbone with its running statistics, and the text encoder; a detector fills
    everything. Image tower, attention pooling and text tower are filled whole: one that the directory lacks stays
    random (those of the baseline), one of other sizes is an error. The position embedding of the attention pooling is
    interpolated bilinearly to another grid, that of the text tower is cut, attention heads may be split otherwise, as
    TCM itself does with CLIP's (ocrclip/models.py). Of the rest a module that differs in a shape stays random: learned
    contexts of another number, a decoder of another width. In the neck that holds for each layer by itself: the score
    map is one more channel of its last input. Neck and head of another family stay random.

    Args:
        variables: random, {"params": tree, "batch_stats": tree}; config: of the model.

    Returns:
        (variables, report)

    Raises:
        ValueError: the directory holds neither, or a tower is not complete or has other shapes; the message names the
            tensors.
    """
    source, old_clip = _read(pretrained)
    notes = differences(old_clip, config.tcm.clip, "tcm.clip")
    family = pretrained.model.get("family", "db") if pretrained.task == "detection" else None
    if family not in (None, config.family):
        notes.append(f"family is {config.family!r}; the directory's model has {family!r}")
    towers = {_tower(path) for path in source}
    misfits = {
        _unit(path)
        for path, random in flatten(variables).items()
        if path not in source or source[path].shape != random.shape
    }

    def choose(path: str, old: np.ndarray | None, random: jax.Array) -> tuple[LoadStatus, Any]:
        tower = _tower(path)
        if tower is None:
            fits = _unit(path) not in misfits and (family == config.family or _module(path) not in _OF_FAMILY)
            return ("loaded", old) if fits else ("new", random)
        if tower not in towers:
            return "new", random
        if old is None:
            return "new", None
        if path == _IMAGE_POSITIONS and old_clip.grid != config.tcm.clip.grid and old.shape[1] == random.shape[1]:
            return "resized", resize_dense_positions(old, old_clip.grid, config.tcm.clip.grid)
        if path == _TEXT_POSITIONS and len(old) > len(random):
            return "resized", old[: len(random)]
        return "loaded", split_heads_as(path, old, random)

    return transfer(variables, source, choose, notes)


def resize_dense_positions(table: np.ndarray, old: tuple[int, int], new: tuple[int, int]) -> np.ndarray:
    """The position table of an attention pooling for another grid.

    Args:
        table: [1 + rows * columns, d] of the grid `old`, the mean's position first.
        old, new: (rows, columns).

    Returns:
        [1 + new rows * new columns, d]: bilinear as PyTorch's `interpolate(mode="bilinear", align_corners=False)`.
    """
    rows, columns = (
        np.asarray(interpolation_matrix(target, source, jnp.array([target]))[0])
        for target, source in zip(new, old, strict=True)
    )
    grid = np.einsum("yr,xc,rcd->yxd", rows, columns, table[1:].reshape(*old, -1))
    return np.concatenate([table[:1], grid.reshape(-1, table.shape[1])])


def _read(pretrained: Pretrained) -> tuple[dict[str, np.ndarray], CLIPConfig]:
    """Tensors by the paths of a detector, and sizes of the towers."""
    flat = flatten(pretrained.variables)
    if pretrained.task == "detection":
        return flat, detection_config(pretrained.model, "its model").tcm.clip
    if pretrained.task != "clip":
        raise ValueError(
            f'a model for the task {pretrained.task!r} can\'t start a detector; expected one for "clip" or "detection"'
        )
    clip = from_dict(CLIPConfig, pretrained.model, "its model")
    if not clip.is_resnet:
        raise ValueError("a CLIP with a vision transformer can't start a detector; expected one with a ResNet")
    # CLIP's logit_scale lands among the text tower's, where nothing asks for it: a score map's own starts from tau.
    source = {}
    for path, leaf in flat.items():
        collection, rest = path.split("/", 1)
        image = rest.startswith("visual/")
        source[f"{collection}/backbone/{rest[7:]}" if image else f"{collection}/text_encoder/{rest}"] = leaf
    return source, clip


def _module(path: str) -> str:
    """ "params/neck/lateral_convs_0/conv/kernel" -> "neck"."""
    return path.split("/")[1]


def _tower(path: str) -> str | None:
    """The tower of CLIP that a path belongs to, if any."""
    _, inner = path.split("/", 1)
    return next((tower for tower in _TOWERS if inner.startswith(f"{tower}/")), None)


def _unit(path: str) -> str:
    """What is filled whole or not at all: a layer of the neck, else a module."""
    return path.rsplit("/", 1)[0] if _module(path) == "neck" else _module(path)
