"""CLIP4STR-S: a recognizer for CPUs that learns from nothing (6.5 M parameters).

    python -m tcm_jax.train --config configs/clip4str_small.py:start --workdir runs/start
    python -m tcm_jax.train --config configs/clip4str_small.py --workdir runs/small --config.data.root=DATA

All of CLIP4STR is there (both branches, permutations, captions through the text tower, refinement), only small: 32 x
128 pixels in columns of 4 behind a stem of convolutions, four layers of width 192, 94 characters, words of up to 25.

It learns what letters are from clean rendered words (`start`) and goes on with hard ones: four fifths rendered, one
fifth real. DATA/icdar2015-words has word crops of ICDAR2015's training set (CC BY 4.0) and a labels.tsv; the crops and
photos that numbers are reported on are not among them. `fonts` is a folder of fonts in the current directory. See
docs/model_card.md.

Variants:
    start   clean words, from nothing
    (none)  goes on from runs/start, on two CPU cores
    gpu     the same, longer, on larger batches, for one GPU
    tiny    seconds, for tests
"""

import runpy
from pathlib import Path

from ml_collections import ConfigDict

quickstart = runpy.run_path(str(Path(__file__).with_name("clip4str_quickstart.py")))


def get_config(variant: str = "") -> ConfigDict:
    if variant not in ("", "start", "gpu", "tiny"):
        raise ValueError(f"clip4str_small: unknown variant {variant!r}; known are start, gpu and tiny")
    config = quickstart["get_config"]("tiny" if variant == "tiny" else "")
    config.model.clip.vision_stem = (64, 64)
    if variant == "tiny":
        config.model.clip.vision_stem = (8, 8)
        return config
    config.model.charset, config.model.max_label_length = "94", 25
    config.model.clip.update({"embed_dim": 192, "vision_width": 192, "vision_layers": 4, "vision_heads": 3})
    config.model.decoder_heads = 6
    config.batch, config.steps, config.log_every = 64, 2500, 100
    config.optim.update({"lr": 2e-3, "ema": 0.998})
    config.data.train = [{"synthetic": rendered(0.15)}]
    if variant == "start":
        return config
    config.init = "runs/start"
    config.steps, config.optim.lr, config.optim.ema = 8000, 1.5e-3, 0.999
    config.data.augment = True
    config.data.train = [{"synthetic": rendered(0.6), "weight": 0.8}, {"path": "icdar2015-words", "weight": 0.2}]
    config.eval.every = 2000
    config.eval.sources = [{"name": name, "path": name, "hold_out": 10} for name in quickstart["DEVELOPMENT"]]
    if variant == "gpu":
        config.batch, config.steps = 512, 100_000
        config.optim.update({"lr": 2e-3, "lr_batch": 512, "ema": 0.9999})
        config.data.workers = 14
        config.eval.every = 5000
        config.checkpoint.every = 2000
    return config


def rendered(difficulty: float) -> dict:
    """Arguments of the word renderer."""
    return {**quickstart["words"]("train", difficulty, 10_000_000), "font_dir": "fonts"}
