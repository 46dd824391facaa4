"""TCM-DB: CLIP RN50 as a text detector with DBNet's head (114 M parameters), with the released settings.

Variants: `ic15`, `td500`, `ctw1500`, `totaltext` (the four released fine-tunings) and `tiny` (seconds, no files).

A row of the paper's ablation is one more word, as in `configs/tcm_db.py:td500,pp`:

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

from ml_collections import ConfigDict

PROMPT = "the pixels of many arbitrary-shape text instances."  # 14 tokens

LEARNABLE = {"ic15": 4, "td500": 4, "ctw1500": 32, "totaltext": 32}
SCALE = {"ic15": (4068, 1024), "td500": (4068, 736), "ctw1500": (4068, 1024), "totaltext": (2944, 800)}
OPTIM = {  # method, learning rate, weight decay
    "ic15": ("adam", 1e-4, 1e-4),
    "td500": ("ranger", 1e-3, 0.0),
    "ctw1500": ("adamw", 1e-4, 1e-4),
    "totaltext": ("adamw", 1e-4, 1e-4),
}
DECODING = {
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

NO_GENERATORS = {"language_prompt": False, "visual_prompt": False}
RN101 = {"vision_layers": (3, 4, 23, 3), "embed_dim": 512}
RN50X4 = {
    "vision_layers": (4, 6, 10, 6),
    "vision_width": 80,
    "vision_heads": 40,
    "embed_dim": 640,
    "text_width": 640,
    "text_heads": 10,
}


def prompts(config: ConfigDict, words: bool, learnable: int) -> None:
    """Which prompt, and the text positions that it needs."""
    config.model.tcm.prompt = PROMPT if words else ""
    config.model.tcm.learnable_prompt = learnable
    config.model.tcm.clip.text_positions = (14 if words else 0) + learnable


def apply_row(config: ConfigDict, row: str) -> None:
    """Changes `config` to a row of the ablation."""
    tcm, multipliers = config.model.tcm, config.optim.lr_multipliers
    match row.split("_"):
        case ["full"]:
            pass
        case ["bsl"]:
            tcm.text_matching = False
        case ["pp"]:
            tcm.update(NO_GENERATORS)
            prompts(config, True, 0)
        case ["lp4" | "lp18" | "lp32", *only] if only in ([], ["only"]):
            tcm.update(NO_GENERATORS)
            prompts(config, not only, int(row.removeprefix("lp").removesuffix("_only")))
        case ["lg" | "vg"]:
            tcm.update(NO_GENERATORS)
            tcm["language_prompt" if row == "lg" else "visual_prompt"] = True
            prompts(config, True, 4)
        case ["paper", "prompt"]:
            tcm.prompt = "Text"
        case ["no", "context", "decoder"]:
            tcm.context_decoder = False
        case ["no", "auxiliary"]:
            config.model.auxiliary_weight = 0.0
        case ["unfrozen"]:
            multipliers.text_encoder = 1.0
        case ["frozen"]:
            multipliers.text_encoder = multipliers.backbone = 0.0
        case ["rn101"]:
            tcm.clip.update(RN101)
        case ["rn50x4"]:
            tcm.clip.update(RN50X4)
        case ["fast"]:
            tcm.fast = True
        case _:
            raise ValueError(f"tcm: unknown row {row!r}; known are those in configs/tcm_db.py")


def base(family: str, side: int, learnable: int, scale: tuple[int, int]) -> ConfigDict:
    """What the three families share. `side` is that of the images which the table of positions belongs to."""
    config = ConfigDict()
    config.task = "detection"
    config.seed = 0
    config.batch = 16
    config.dtype = "auto"

    config.model = ConfigDict()
    config.model.family = family
    config.model.auxiliary_weight = 1.0
    config.model.auxiliary_coupled = False  # the release's form mixes the images of a batch
    config.model.tcm = {
        "clip": {
            "embed_dim": 1024,
            "image_size": (side, side),
            "patch_size": (32, 32),
            "vision_width": 64,
            "vision_layers": (3, 4, 6, 3),
            "vision_heads": 32,
            "text_width": 512,
            "text_layers": 12,
            "text_heads": 8,
            "text_positions": 18,
            "vocab_size": 49408,
        },
        "text_matching": True,
        "prompt": PROMPT,
        "learnable_prompt": 4,
        "language_prompt": True,
        "visual_prompt": True,
        "context_decoder": True,
        "decoder_width": 256,
        "decoder_layers": 3,
        "decoder_heads": 4,
        "dropout": 0.1,
        "tau": 0.07,
        "fast": False,
        "freeze_batch_norm": False,
    }
    config.model.detector = ConfigDict()
    prompts(config, True, learnable)
    config.preprocessing = {"scale": scale}  # longest and shorter side of test images

    config.optim = ConfigDict()
    config.optim.method, config.optim.lr, config.optim.weight_decay = "ranger", 1e-3, 0.0
    config.optim.epochs, config.optim.power, config.optim.min_lr = 1200, 0.9, 1e-7
    config.optim.lr_multipliers = {"backbone": 0.1, "text_encoder": 0.0}  # 0 freezes
    config.optim.no_decay = ("norm",)
    return config


def make_tiny(config: ConfigDict) -> None:
    """The same code in seconds."""
    config.batch = 2
    config.preprocessing.scale = (160, 96)
    config.model.tcm.clip.update({"embed_dim": 64, "image_size": (64, 64), "vision_width": 16})
    config.model.tcm.clip.update({"vision_layers": (1, 1, 1, 1), "vision_heads": 4})
    config.model.tcm.clip.update({"text_width": 64, "text_layers": 1, "text_heads": 2})
    config.model.tcm.update({"decoder_width": 32, "decoder_layers": 1})


def split_variant(family: str, variant: str, known: tuple[str, ...]) -> tuple[str, str]:
    """ "td500,pp" -> ("td500", "pp"); without a row "full"."""
    name, _, row = variant.partition(",")
    if name not in (*known, "tiny"):
        raise ValueError(f"{family}: unknown variant {name!r}; known are {', '.join(known)} and tiny")
    return name, row or "full"


def get_config(variant: str = "ic15") -> ConfigDict:
    name, row = split_variant("tcm_db", variant, tuple(SCALE))
    released = "ic15" if name == "tiny" else name
    config = base("db", 640, LEARNABLE[released], SCALE[released])
    config.model.detector = {
        "lateral_channels": 256,
        "out_channels": 64,
        "alpha": 5.0,
        "beta": 10.0,
        "shrink_ratio": 0.4,
        **DECODING[released],
    }
    config.optim.method, config.optim.lr, config.optim.weight_decay = OPTIM[released]
    apply_row(config, row)
    if name == "tiny":
        make_tiny(config)
        config.model.detector.update({"lateral_channels": 32, "out_channels": 16})
    return config
