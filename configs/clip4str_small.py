"""CLIP4STR-S, the recognizer that comes with the package: for CPUs, trained by this project (6.6 M parameters).

    python -m tcm_jax.train --config configs/clip4str_small.py:shallow --workdir runs/shallow --config.data.root=DATA
    python -m tcm_jax.train --config configs/clip4str_small.py:deep --workdir runs/deep --config.data.root=DATA
    python -m tcm_jax.train --config configs/clip4str_small.py --workdir runs/small --config.data.root=DATA

It grows in three steps, each without a loss of what was learned, as what is new adds nothing at first. `shallow` starts
from the quickstart's second model (`configs/clip4str_quickstart.py:real`, trained twice: runs/real2), which reads
lower-case letters and digits in columns of pixels: three convolutions come in front of the columns, and capitals and
punctuation into its charset, where a capital starts as its small letter. Five further convolutions and four further
layers follow (`deep`), then four more layers.

Words are rendered or real. Of ICDAR2015's training set (CC BY 4.0) DATA has icdar2015-words, the published word crops
and a labels.tsv, and what `tcm-jax crops` makes of its photos: icdar2015-outlines and icdar2015-found (docs/data.md).
The crops and photos that numbers are reported on are not among them. `fonts` is a folder of fonts in the current
directory. See docs/results.md for all commands.

Variants:
    (none)  on two CPU cores
    deep    what it starts from
    shallow what that starts from
    gpu     longer and on larger batches, for one GPU
    tiny    seconds, for tests
"""

import runpy
from pathlib import Path

from ml_collections import ConfigDict

quickstart = runpy.run_path(str(Path(__file__).with_name("clip4str_quickstart.py")))

READING = {"branches": "both", "dictionary_prior": 8.0}


def get_config(variant: str = "") -> ConfigDict:
    if variant not in ("", "shallow", "deep", "gpu", "tiny"):
        raise ValueError(f"clip4str_small: unknown variant {variant!r}; known are shallow, deep, gpu and tiny")
    if variant == "tiny":
        config = quickstart["get_config"]("tiny")
        config.model.clip.vision_stem = (8, 8)
        config.inference.update(READING)
        return config
    config = quickstart["get_config"]("real")
    config.model.charset = "94"
    if variant == "shallow":
        config.model.clip.vision_stem = (64, 64, 64)
        config.init = "runs/real2"
        config.steps, config.eval.every = 16_000, 4000
        return config
    config.model.clip.update({"vision_stem": (64,) * 8, "vision_layers": 8})
    config.init = "runs/shallow"
    config.steps, config.eval.every = 13_000, 3250
    config.data.augment = 1  # of the original's three operations a small model loses more than it gains
    rendered = config.data.train[0]["synthetic"]
    config.data.train = [
        {"synthetic": rendered, "weight": 0.6},
        {"path": "icdar2015-words", "weight": 0.16},
        {"path": "icdar2015-outlines", "weight": 0.14},
        {"path": "icdar2015-found", "weight": 0.1},
    ]
    if variant == "deep":
        return config
    config.model.clip.vision_layers = 12
    config.inference.update(READING)
    config.inference.views = (0.0, -0.08, 0.12)
    config.init = "runs/deep"
    config.steps, config.eval.every = 10_000, 2500
    plain = {**rendered, "listed": 0.75}
    hard = {**plain, "difficulty": 0.9, "seed": 1}
    config.data.train = [
        {"synthetic": plain, "weight": 0.45},
        {"synthetic": hard, "weight": 0.25},
        {"path": "icdar2015-words", "weight": 0.1},
        {"path": "icdar2015-outlines", "weight": 0.1},
        {"path": "icdar2015-found", "weight": 0.1},
    ]
    if variant == "gpu":
        config.batch, config.steps = 512, 100_000
        config.optim.update({"lr": 2e-3, "lr_batch": 512, "ema": 0.9999})
        config.data.workers = 14
        config.eval.every, config.checkpoint.every = 5000, 2000
    return config
