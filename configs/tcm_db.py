"""TCM-DB: CLIP RN50 as a text detector with DBNet's head (114 M parameters), with the released settings.

    python -m tcm_jax.train --config configs/tcm_db.py:quickstart --workdir runs/detector
    python -m tcm_jax.train --config configs/tcm_db.py:pretrain --workdir runs/pretrain --config.data.root=DATA
    python -m tcm_jax.train --config configs/tcm_db.py:td500 --workdir runs/td500 --config.init=runs/pretrain \\
        --config.data.root=DATA

Variants:

    ic15, td500, ctw1500, totaltext     the four released fine-tunings; the release starts them from a pre-training
    pretrain, pretrain_curved           the released pre-trainings: SynthText and real training sets; and curved text
    rendered                            pre-training on rendered scenes, which needs no data set
    quickstart                          a small detector from random weights on rendered scenes, on two CPU cores
    real                                starts from runs/detector; rendered scenes and the images of ICDAR2015
    ablation                            smaller still, for a table of the rows below over several seeds
    tiny                                seconds, for tests

DATA has a folder for each set: icdar2015/train, td500/train, tr400, ctw1500/train, totaltext/train, synthtext,
curved_synthtext, mlt17. `init` is a CLIP: `python -m convert RN50.pt models/clip_rn50`.

Rows of the paper's ablation are more words, as in `configs/tcm_db.py:td500,pp` or `td500,pp,no_auxiliary`:

    bsl                 CLIP's ResNet alone: no attention pooling, no text
    pp                  predefined prompt
    lp4, lp18, lp32     predefined and that many learnable vectors
    lp4_only, ...       learnable vectors alone
    lg, vg              lp4 with the language or the visual prompt generator
    full                all of them, with learnable vectors as released
    paper_prompt        full, with the paper's word "Text" in place of the released sentence
    no_context_decoder  full, without the release's refinement of the text by the image
    no_auxiliary        full, without the loss of the score map
    unfrozen, frozen    full; the text encoder learns as the head does, both encoders don't
    rn101, rn50x4       full, with another backbone
    fast                FastTCM

The original reports for the released weights F = 88.8 (IC15), 88.8 (TD500), 85.1 (CTW1500), 85.9 (Total-Text), with
the threshold and the epoch chosen on the test set. Sources of the values: ocrclip/configs/textdet/dbnet/
clip_db_r50_fpnc_prompt_gen_vis*_1200e_ft_*_taiji.py and their base files.
"""

import runpy
from pathlib import Path

from ml_collections import ConfigDict

tcm = runpy.run_path(str(Path(__file__).with_name("tcm_base.py")))
LEARNABLE = {"ic15": 4, "td500": 4, "ctw1500": 32, "totaltext": 32, "pretrain": 4, "pretrain_curved": 32}
SCALE = {
    "ic15": (4068, 1024),
    "td500": (4068, 736),
    "ctw1500": (4068, 1024),
    "totaltext": (2944, 800),
    "pretrain": (4068, 1024),
    "pretrain_curved": (4068, 1024),
}
OPTIM = {  # method, learning rate, weight decay
    "pretrain": ("ranger", 1e-3, 0.0),
    "pretrain_curved": ("ranger", 1e-3, 0.0),
    "ic15": ("adam", 1e-4, 1e-4),
    "td500": ("ranger", 1e-3, 0.0),
    "ctw1500": ("adamw", 1e-4, 1e-4),
    "totaltext": ("adamw", 1e-4, 1e-4),
}
PRETRAINED = {
    "text_representation": "poly",
    "mask_threshold": 0.3,
    "score_threshold": 0.3,
    "min_width": 5.0,
    "approximate": True,
    "arc_length_ratio": 0.01,
    "unclip_ratio": 1.5,
    "max_candidates": 3000,
}
DECODING = {
    "pretrain": PRETRAINED,
    "pretrain_curved": PRETRAINED,
    "ic15": {
        "text_representation": "quad",
        "mask_threshold": 0.28,
        "score_threshold": 0.2,
        "min_width": 2.0,
        "approximate": True,
        "arc_length_ratio": 0.001,
        "unclip_ratio": 1.6,
        "max_candidates": 3000,
    },
    "td500": {
        "text_representation": "quad",
        "mask_threshold": 0.08,
        "score_threshold": 0.17,
        "min_width": 3.0,
        "approximate": False,
        "arc_length_ratio": 0.01,
        "unclip_ratio": 1.9,
        "max_candidates": 1000,
    },
    "ctw1500": {
        "text_representation": "poly",
        "mask_threshold": 0.08,
        "score_threshold": 0.3,
        "min_width": 3.0,
        "approximate": True,
        "arc_length_ratio": 0.0001,
        "unclip_ratio": 2.0,
        "max_candidates": 3000,
    },
    "totaltext": {
        "text_representation": "poly",
        "mask_threshold": 0.347,
        "score_threshold": 0.3,
        "min_width": 5.0,
        "approximate": True,
        "arc_length_ratio": 0.004,
        "unclip_ratio": 1.95,
        "max_candidates": 3000,
    },
}


def get_config(variant: str = "ic15") -> ConfigDict:
    name, rows = tcm["split_variant"]("tcm_db", variant, (*SCALE, *tcm["FORMS"]))
    released = name if name in SCALE else "pretrain" if name == "rendered" else "ic15"
    config = tcm["base"]("db", 640, LEARNABLE[released], SCALE[released])
    config.data.train = tcm["TRAIN"][released]
    if name.startswith("pretrain"):
        config.epochs, config.batch = 20, 20
    config.model.detector = {
        "lateral_channels": 256,
        "out_channels": 64,
        "alpha": 5.0,
        "beta": 10.0,
        "shrink_ratio": 0.4,
        "decoding": DECODING[released],
    }
    config.optim.method, config.optim.lr, config.optim.weight_decay = OPTIM[released]
    if name in tcm["SMALL"]:
        config.model.detector.update({"lateral_channels": 32, "out_channels": 16})
        config.model.detector.decoding.score_threshold = 0.5
    if name == "real":  # gaps between words in photos are what it sees least
        config.model.detector.decoding.update({"separate_words": True, "score_threshold": 0.82})
    if name == "ablation":
        config.model.detector.decoding.score_threshold = 0.3  # so short a training leaves probabilities low
    if name in tcm["FORMS"]:
        tcm["FORMS"][name](config)
    tcm["apply_rows"](config, rows)
    return config
