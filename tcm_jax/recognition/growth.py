"""Parameters of a smaller or differently lettered recognizer in the shapes of another one."""

import re

import jax
import numpy as np

from tcm_jax.models.clip import STEM_CELL, CLIPConfig

_CELLS = "/stem/cells/"
_PATCHES = "/conv1/kernel"
_LAST_OF_A_BRANCH = re.compile(r"/resblocks_\d+/(attn/out|c_proj)/|/stem/ln_\d+/")


def by_character(path: str, old: np.ndarray, random: jax.Array, old_charset: str, charset: str) -> np.ndarray:
    """A decoder's classifier or character embedding for another charset.

    A character that both have keeps its values, and so do the end, the beginning and the padding of a word. A
    character that the old charset lacks starts as its lower-case form, if that is there: it stands for the same letter
    in the same places. The others stay random.

    Args:
        path: one of head/kernel [d, 1 + n], head/bias [1 + n] and text_embed/embedding [n + 3, d].
        old: for `old_charset`; random: for `charset`.
    """
    ids = {character: i for i, character in enumerate(old_charset, start=1)}
    known = [ids.get(character, ids.get(character.lower(), -1)) for character in charset]
    origins = np.array([0, *known, len(old_charset) + 1, len(old_charset) + 2])
    axis = 0 if path.endswith("embedding") else old.ndim - 1
    origins = origins[: random.shape[axis]]  # a classifier has no outputs for the beginning and the padding
    found = old.take(np.maximum(origins, 0), axis)
    if found.shape != random.shape:
        return old  # of another width
    return np.where(np.expand_dims(origins >= 0, [i for i in range(old.ndim) if i != axis]), found, random)


def stem_over_patches(path: str, patches: np.ndarray, random: jax.Array, widths: tuple[int, ...]) -> np.ndarray | None:
    """Parameters of a ViT with a stem that computes what the ViT without it did.

    The stem's first layer passes the pixels of its cells on, its convolutions add nothing yet (their LayerNorms scale
    by zero, as in the last layer of a residual block of Goyal et al. 2017, section 5.1), and the patches weight the
    passed pixels as before.

    Args:
        path: of a parameter of the stem, or of the convolution that makes patches.
        patches: that convolution's kernel without a stem [ph, pw, 3, d].
        random: the parameter with a stem.
        widths: of the stem.

    Returns:
        the parameter; None where the stem can't do that: its widths differ or are less than the values of a cell.
    """
    ph, pw, channels, d = patches.shape
    values = STEM_CELL**2 * channels
    if min(widths) != max(widths) or widths[0] < values:
        return None
    if path.endswith(_PATCHES):
        n = STEM_CELL
        kernel = np.array(random)
        cells = patches.reshape(ph // n, n, pw // n, n, channels, d).transpose(0, 2, 1, 3, 4, 5)
        kernel[:, :, :values] = cells.reshape(ph // n, pw // n, values, d)
        return kernel  # further inputs are zero at first
    if _CELLS in path:
        return np.eye(*random.shape, dtype=np.float32) if random.ndim == 2 else np.zeros(random.shape, np.float32)
    return added_layer(path, random)


def is_added(path: str, old: CLIPConfig, new: CLIPConfig) -> bool:
    """Whether a parameter that the image tower `old` lacks belongs to a further layer of a deeper one, `new`."""
    if "/visual/transformer/" in path and isinstance(old.vision_layers, int) and isinstance(new.vision_layers, int):
        return old.vision_layers < new.vision_layers
    # Further convolutions of the last one's width add to their input.
    further = len(new.vision_stem) - len(old.vision_stem)
    deeper = further > 0 and new.vision_stem == old.vision_stem + old.vision_stem[-1:] * further
    return "/visual/stem/" in path and deeper


def added_layer(path: str, random: jax.Array) -> np.ndarray:
    """A parameter of a further layer of an image tower, which passes on what it is given until it has learned.

    What a block adds to its input ends in a product with a matrix of zeros, and what a convolution of the stem adds in
    a LayerNorm that scales by zero.
    """
    return np.zeros(random.shape, np.float32) if _LAST_OF_A_BRANCH.search(path) else np.asarray(random)
