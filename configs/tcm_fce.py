"""TCM-FCENet: CLIP RN50 as a text detector with FCENet's head (115 M parameters), with the released settings.

Variants: `ic15`, `ctw1500`, `totaltext`, `quickstart` (small, rendered scenes, two CPU cores) and `tiny`
(seconds). Rows of the ablation as in tcm_db.py:
`configs/tcm_fce.py:ctw1500,pp`. Sources of the values: ocrclip/configs/_base_/det_models/
fcenet_clip_r50att_prompt_gen_vis_fpn.py and textdet/fcenet/fcenet_clip_*; of the ranges of text sizes for curved
text mmocr's fcenet_r50_fpn_1500e_ctw1500.
"""

import runpy
from pathlib import Path

from ml_collections import ConfigDict

tcm = runpy.run_path(str(Path(__file__).with_name("tcm_base.py")))
SCALE = {"ic15": (2260, 2260), "ctw1500": (1080, 736), "totaltext": (1280, 960)}
LEVELS = {  # sizes of texts, in units of the image's height, that the strides 8, 16 and 32 learn
    "ic15": ((0, 0.4), (0.3, 0.7), (0.6, 1.0)),
    "ctw1500": ((0, 0.25), (0.2, 0.65), (0.55, 1.0)),
    "totaltext": ((0, 0.25), (0.2, 0.65), (0.55, 1.0)),
}


def get_config(variant: str = "ic15") -> ConfigDict:
    name, rows = tcm["split_variant"]("tcm_fce", variant, (*SCALE, "quickstart", "tiny"))
    released = name if name in SCALE else "ic15"
    config = tcm["base"]("fce", 800, 4, SCALE[released])
    config.epochs = 1800
    config.data.train = tcm["TRAIN"][released]
    config.data.augment.update({"crop": 800, "rotation": 30.0, "contrast": 0.5})
    config.model.detector = {
        "channels": 256,
        "fourier_degree": 5,
        "level_ranges": LEVELS[released],
        "decoding": {
            "text_representation": "poly",  # the release says "quad" for ICDAR2015 and returns polygons all the same
            "alpha": 1.2,
            "beta": 1.0,
            "score_threshold": 0.3,
            "nms_threshold": 0.1,
            "num_points": 50,
        },
    }
    if name in tcm["FORMS"]:
        tcm["FORMS"][name](config)
        config.model.detector.channels = 32
    tcm["apply_rows"](config, rows)
    return config
