"""CLIP4STR-S, the recognizer that comes with the package: for CPUs, trained by this project (4.8 M parameters).

    python -m tcm_jax.train --config configs/clip4str_small.py --workdir runs/small --config.data.root=DATA

It goes on from the quickstart's second model (`configs/clip4str_quickstart.py:real`, trained twice: runs/real2), which
reads lower-case letters and digits in columns of pixels. Three convolutions come in front of the columns and capitals
and punctuation into its charset, without a loss of what it had learned: the convolutions add nothing at first, and a
capital starts as its small letter. Three quarters of the words are rendered, one quarter are real:
DATA/icdar2015-words has word crops of ICDAR2015's training set (CC BY 4.0) and a labels.tsv; the crops and photos that
numbers are reported on are not among them. `fonts` is a folder of fonts in the current directory. See
docs/model_card.md.

Variants:
    (none)  on two CPU cores
    gpu     longer and on larger batches, for one GPU
    tiny    seconds, for tests
"""

import runpy
from pathlib import Path

from ml_collections import ConfigDict

quickstart = runpy.run_path(str(Path(__file__).with_name("clip4str_quickstart.py")))


def get_config(variant: str = "") -> ConfigDict:
    if variant not in ("", "gpu", "tiny"):
        raise ValueError(f"clip4str_small: unknown variant {variant!r}; known are gpu and tiny")
    if variant == "tiny":
        config = quickstart["get_config"]("tiny")
        config.model.clip.vision_stem = (8, 8)
        return config
    config = quickstart["get_config"]("real")
    config.model.clip.vision_stem = (64, 64, 64)
    config.model.charset = "94"
    config.init = "runs/real2"
    config.steps, config.eval.every = 16_000, 4000
    if variant == "gpu":
        config.batch, config.steps = 512, 100_000
        config.optim.update({"lr": 2e-3, "lr_batch": 512, "ema": 0.9999})
        config.data.workers = 14
        config.eval.every, config.checkpoint.every = 5000, 2000
    return config
