"""A recognizer that fits in a test: random weights, always the same."""

from pathlib import Path

import jax
import numpy as np

from tcm_jax import pretrained
from tcm_jax.config import from_dict
from tcm_jax.images.decoding import CLIP_MEAN, CLIP_STD
from tcm_jax.models.clip4str import CLIP4STRConfig
from tcm_jax.recognition.model import RecognitionModel

TINY = {
    "clip": {
        "embed_dim": 64,
        "image_size": [32, 32],
        "patch_size": [8, 8],
        "vision_width": 64,
        "vision_layers": 1,
        "vision_heads": 1,
        "text_width": 64,
        "text_layers": 1,
        "text_heads": 2,
    },
    "decoder_heads": 2,
}


def write_tiny_model(path: Path, eos_bias: float = 6.0) -> None:
    """Writes a model directory. Wide weights make words depend on the image, `eos_bias` makes them end."""
    task = RecognitionModel(from_dict(CLIP4STRConfig, TINY), CLIP_MEAN, CLIP_STD)
    rng = np.random.default_rng(0)
    flat = {}
    for name, leaf in sorted(pretrained.flatten(jax.eval_shape(task.init, jax.random.key(0))).items()):
        if leaf.ndim < 2:
            flat[name] = np.full(leaf.shape, name.endswith("scale"), np.float32)
        else:
            flat[name] = rng.normal(0, 0.3, leaf.shape).astype(np.float32)
        if name.endswith("head/bias"):
            flat[name][task.tokenizer.eos_id] = eos_bias
    preprocessing = {"mean": list(CLIP_MEAN), "std": list(CLIP_STD)}
    pretrained.Pretrained(
        "recognition", TINY, pretrained.unflatten(flat), preprocessing, {}, "random weights", "CC0-1.0"
    ).save(path)
