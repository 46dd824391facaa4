"""Detectors that fit in a test: random weights, always the same."""

from pathlib import Path

import jax
import numpy as np

from tcm_jax import pretrained
from tcm_jax.detection.model import DetectionModel, detection_config

TINY_TCM = {
    "clip": {
        "embed_dim": 32,
        "image_size": [64, 64],
        "patch_size": [32, 32],
        "vision_width": 8,
        "vision_layers": [1, 1, 1, 1],
        "vision_heads": 4,
        "text_width": 32,
        "text_layers": 1,
        "text_heads": 2,
        "text_positions": 4,
        "vocab_size": 8,
    },
    "prompt": "",
    "decoder_width": 16,
    "decoder_layers": 1,
    "decoder_heads": 2,
}
TINY_DETECTORS = {
    "db": {"lateral_channels": 16, "out_channels": 8, "decoding": {"mask_threshold": 0.5, "score_threshold": 0.5}},
    "pan": {"channels": 16, "decoding": {"score_threshold": 0.6, "min_area": 4}},
    "fce": {"channels": 16, "decoding": {"num_points": 20}},
}
SCALE = (192, 96)


def write_tiny_detector(path: Path, family: str = "db", **tcm) -> None:
    """Writes a model directory. Its weights keep the variance of what passes, so that a photo has a few instances."""
    model = {"family": family, "tcm": TINY_TCM | tcm, "detector": TINY_DETECTORS[family]}
    task = DetectionModel(detection_config(model))
    rng = np.random.default_rng(0)
    flat = {}
    for name, leaf in sorted(pretrained.flatten(jax.eval_shape(task.init, jax.random.key(0))).items()):
        if leaf.ndim < 2:
            flat[name] = np.full(leaf.shape, name.endswith(("scale", "var", "gamma")), np.float32)
        else:
            inputs = np.prod(leaf.shape[:-1])
            flat[name] = rng.normal(0, (2 / inputs) ** 0.5, leaf.shape).astype(np.float32)
        if leaf.shape[:2] == (2, 2):  # squares of four equal pixels, no noise between neighbours
            flat[name][:] = 2 * flat[name][0, 0]
        if "out_conv_reg" in name:  # FCE's outlines of some ten pixels
            flat[name] *= 0.02
    preprocessing = {"mean": list(task.mean), "std": list(task.std), "multiple": 32}
    inference = {"scale": list(SCALE)}
    pretrained.Pretrained(
        "detection", model, pretrained.unflatten(flat), preprocessing, inference, "random weights", "CC0-1.0"
    ).save(path)
