"""A small CLIP4STR that learns to read synthetic words from nothing, on a laptop's CPU.

    make quickstart
    python -m tcm_jax.train --config configs/clip4str_quickstart.py --workdir runs/quickstart

All of CLIP4STR is there (both branches, permutations, captions through the text tower, refinement), only small:
32 x 128 pixels in columns of 4, four layers of width 128. It reads lower-case letters and digits.

Variants:
    (none)  clean words of at most 12 characters; ten minutes on two CPU cores
    real    starts from runs/quickstart, on harder words in more fonts, mixed with real crops of ICDAR2015
            (--config.data.root=DATA); see docs/model_card.md
    tiny    seconds, for tests
"""

import runpy
from pathlib import Path

from ml_collections import ConfigDict

base = runpy.run_path(str(Path(__file__).with_name("clip4str_base.py")))
DEVELOPMENT = ("icdar2003-train", "icdar2015-train", "iiit5k-train", "svt-train")


def get_config(variant: str = "") -> ConfigDict:
    if variant not in ("", "real", "tiny"):
        raise ValueError(f"clip4str_quickstart: unknown variant {variant!r}; known are real and tiny")
    config = base["get_config"]("tiny")
    if variant == "tiny":
        return config
    config.model.clip.update({"image_size": (32, 128), "patch_size": (32, 4), "embed_dim": 128})
    config.model.clip.update({"vision_width": 128, "vision_layers": 4, "vision_heads": 2})
    config.model.clip.update({"text_width": 64, "text_layers": 1, "text_heads": 2})
    config.model.charset, config.model.max_label_length = "36", 12
    config.model.decoder_heads, config.model.dropout = 4, 0.0
    config.model.perm_num = 2
    config.batch, config.steps, config.log_every = 64, 4000, 50
    config.optim.update({"lr": 2e-3, "lr_batch": 64, "decoder_lr_multiplier": 1.0, "weight_decay": 0.05})
    config.optim.update({"clip_norm": 1.0, "text_freeze_layers": 0, "warmup_fraction": 0.1})
    config.data.augment = 0
    config.data.workers = 1
    config.data.train = [{"synthetic": words("train", 0.1, 10_000_000)}]
    config.eval.update({"every": 1000, "batch": 64})
    config.eval.sources = [{"name": "unseen words", "synthetic": words("test", 0.1, 1000)}]
    config.checkpoint.every = 500
    if variant == "real":
        config.model.max_label_length = 25
        config.init = "runs/quickstart"
        config.steps, config.optim.lr, config.optim.ema = 4000, 1e-3, 0.999
        config.data.augment = 3
        rendered = {**words("train", 0.6, 10_000_000), "font_dir": "fonts"}
        config.data.train = [{"synthetic": rendered, "weight": 0.75}, {"path": "icdar2015-words", "weight": 0.25}]
        config.eval.sources = [{"name": name, "path": name, "hold_out": 10} for name in DEVELOPMENT]
        config.eval.every = 1000
    return config


def words(split: str, difficulty: float, size: int) -> dict:
    """Arguments of the word renderer; the words of the split "test" never occur in "train"."""
    return {"seed": 0, "split": split, "difficulty": difficulty, "size": size}
