"""First parameters of a recognizer: random, or from a model directory as far as that fits."""

from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from tcm_jax.config import from_dict
from tcm_jax.models.clip import CLIPConfig, resize_positional_embedding
from tcm_jax.models.clip4str import CLIP4STRConfig
from tcm_jax.pretrained import Pretrained, flatten
from tcm_jax.recognition.growth import added_layer, by_character, is_added, stem_over_patches
from tcm_jax.training.transfer import LoadReport, LoadStatus, differences, split_heads_as, transfer

_CLIP = "clip_model/"
_IMAGE_POSITIONS = "clip_model/visual/positional_embedding"
_TEXT_POSITIONS = "clip_model/positional_embedding"
_PATCHES = "clip_model/visual/conv1/kernel"
_STEM = "clip_model/visual/stem/"
_OF_CHARSET = ("head/kernel", "head/bias", "text_embed/embedding")  # of both decoders


def initialize(
    params: Mapping[str, Any], config: CLIP4STRConfig, pretrained: Pretrained
) -> tuple[dict[str, Any], LoadReport]:
    """Random parameters with everything replaced that a model directory holds.

    A CLIP fills `clip_model`, a CLIP4STR everything. The image position embedding is interpolated to another patch
    grid, the text position embedding is cut. With another charset the decoders' classifiers and character embeddings
    keep the characters of both (`growth.by_character`). A decoder or a layer of one that the directory lacks stays
    random. With another label length the decoders' position queries are cut, or the further ones stay random. CLIP's
    attention heads may be split otherwise: CLIP4STR-H reads 16 heads of 80 as 20 of 64. A stem is put in front of a ViT
    that had none (`growth.stem_over_patches`), and a deeper image tower starts as that of the CLIP4STR that it is
    initialized from (`growth.added_layer`); a CLIP has to have all layers.

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
        prefix, old_clip = _CLIP, from_dict(CLIPConfig, pretrained.model, "its model")
    else:
        old_config = from_dict(CLIP4STRConfig, pretrained.model, "its model")
        old_clip, old_charset = old_config.clip, old_config.charset
    source = {prefix + path: leaf for path, leaf in flatten(pretrained.variables["params"]).items()}
    without_stem = (*config.clip.patch_size, 3, config.clip.vision_width)
    stem = config.clip.vision_stem if _PATCHES in source and source[_PATCHES].shape == without_stem else ()
    notes = differences(old_clip, config.clip, "clip")
    if old_charset not in (None, config.charset):
        kept = "".join(c for c in config.charset if c in old_charset)
        lacking = "".join(sorted(set(config.charset) - set(old_charset)))
        notes.append(f"characters that keep what the directory's model learned: {kept or 'none'}")
        notes.append(f"characters that the directory's model lacks: {lacking or 'none'}")

    def choose(path: str, old: np.ndarray | None, random: jax.Array) -> tuple[LoadStatus, Any]:
        if old is None and not path.startswith(_CLIP):
            return "new", random
        if old is not None and old_charset not in (None, config.charset) and path.endswith(_OF_CHARSET):
            return "resized", by_character(path, old, random, old_charset, config.charset)
        if stem and (path == _PATCHES or path.startswith(_STEM)):
            return "resized" if path == _PATCHES else "new", stem_over_patches(path, source[_PATCHES], random, stem)
        if old is None:
            deeper = old_charset is not None and is_added(path, old_clip, config.clip)
            return "new", added_layer(path, random) if deeper else None
        if path == _IMAGE_POSITIONS and old_clip.grid != config.clip.grid and old.shape[1] == random.shape[1]:
            return "resized", np.asarray(resize_positional_embedding(jnp.asarray(old), old_clip.grid, config.clip.grid))
        if path == _TEXT_POSITIONS and len(old) > len(random):
            return "resized", old[: len(random)]
        if path.endswith("/pos_queries") and old.shape[1] != random.shape[1]:
            # Position i means the same in both; positions that the shorter one lacks stay random.
            return "resized", np.concatenate([old[:, : random.shape[1]], random[:, old.shape[1] :]], axis=1)
        return "loaded", split_heads_as(path, old, random) if path.startswith(_CLIP) else old

    return transfer(params, source, choose, notes)
