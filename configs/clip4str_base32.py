"""CLIP4STR-B/32: CLIP ViT-B/32 as a scene-text reader (159 M parameters), four times fewer image tokens than B/16.

    python -m tcm_jax.train --config configs/clip4str_base32.py:real --workdir runs/base32 --config.data.root=DATA

`init`: `python -m convert ViT-B-32.pt models/clip_vit_b32`. The original trains this size on `real` only; `synth` and
`rbu` use the epochs of B/16. Everything else is as in clip4str_base.py.
"""

import runpy
from pathlib import Path

from ml_collections import ConfigDict

base = runpy.run_path(str(Path(__file__).with_name("clip4str_base.py")))


def get_config(variant: str = "real") -> ConfigDict:
    config = base["get_config"](variant)
    if variant != "tiny":
        config.init = "models/clip_vit_b32"
        config.model.clip.patch_size = (32, 32)
    return config
