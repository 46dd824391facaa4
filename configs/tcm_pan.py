"""TCM-PAN: CLIP RN50 as a text detector with PAN's neck and head (113 M parameters), with the released settings.

Variants: `ic15`, `ctw1500`, `quickstart` (small, rendered scenes, two CPU cores) and `tiny` (seconds, no
files). Rows of the ablation as in tcm_db.py:
`configs/tcm_pan.py:ctw1500,pp`. Sources of the values: ocrclip/configs/textdet/panet/
panet_clip_r50att_prompt_gen_vis_fpem_ffm_600e_ft_{ic15,ctw}_taiji_hua.py.
"""

import runpy
from pathlib import Path

from ml_collections import ConfigDict

tcm = runpy.run_path(str(Path(__file__).with_name("tcm_base.py")))
SIDE = {"ic15": 736, "ctw1500": 640}
SCALE = {"ic15": (1333, 736), "ctw1500": (3000, 640)}
SHRINK_RATIOS = {"ic15": (1.0, 0.5), "ctw1500": (1.0, 0.7)}  # of the whole text and of its kernel
TEXT_REPRESENTATION = {"ic15": "quad", "ctw1500": "poly"}


def get_config(variant: str = "ic15") -> ConfigDict:
    name, rows = tcm["split_variant"]("tcm_pan", variant, (*SCALE, "quickstart", "tiny"))
    released = name if name in SCALE else "ic15"
    config = tcm["base"]("pan", SIDE[released], 4, SCALE[released])
    config.model.detector = {
        "channels": 128,
        "shrink_ratios": SHRINK_RATIOS[released],
        "decoding": {
            "text_representation": TEXT_REPRESENTATION[released],
            "text_threshold": 0.5,
            "kernel_threshold": 0.5,
            "score_threshold": 0.85,
            "min_area": 16,
        },
    }
    config.data.train = tcm["TRAIN"][released]
    config.data.augment.crop = SIDE[released]
    if name in tcm["FORMS"]:
        tcm["FORMS"][name](config)
        config.model.detector.channels = 32
    tcm["apply_rows"](config, rows)
    return config
