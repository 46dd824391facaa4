"""What the recipes of the three text detectors have in common: base values, rows of the ablation, small forms.

Loaded by tcm_db.py, tcm_pan.py and tcm_fce.py; not a recipe itself.
"""

from ml_collections import ConfigDict

PROMPT = "the pixels of many arbitrary-shape text instances."  # 14 tokens

IC15, CTW1500, TOTALTEXT = {"path": "icdar2015/train"}, {"path": "ctw1500/train"}, {"path": "totaltext/train"}
TD500 = [{"path": "td500/train"}, {"path": "tr400"}]
PRETRAIN = [IC15, {"path": "synthtext"}, CTW1500, TOTALTEXT]
TRAIN = {
    "ic15": [IC15],
    "td500": TD500,
    "ctw1500": [CTW1500],
    "totaltext": [TOTALTEXT],
    "pretrain": PRETRAIN,
    "pretrain_curved": [*PRETRAIN, {"path": "curved_synthtext"}, {"path": "mlt17"}, *TD500],
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


def apply_rows(config: ConfigDict, rows: list[str]) -> None:
    """Changes `config` to rows of the ablation, one after the other."""
    for row in rows:
        apply_row(config, row)


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
    config.batch = 16  # images of one optimizer step
    config.accumulate = 1  # micro-batches it is split into
    config.mesh = {"data": -1, "fsdp": 1, "tensor": 1}  # -1: what is left of the devices
    config.remat = "none"  # or "dots", "full": less memory, more work
    config.epochs = 1200
    config.steps = 0  # used when epochs is 0
    config.dtype = "auto"  # bfloat16 on TPU and GPU, float32 on CPU; parameters are float32
    config.init = "models/clip_rn50"
    config.log_every = 10
    config.profile_steps = 0  # so many are traced
    config.stall_seconds = 600  # without a step: the stacks of all threads are printed
    config.lost_seconds = 60  # without a word of a process: the others end

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
    config.inference = {"scale": scale, "coarse_scales": ()}  # longest and shorter side of test images

    config.optim = ConfigDict()
    config.optim.method, config.optim.lr, config.optim.weight_decay = "ranger", 1e-3, 0.0
    config.optim.power, config.optim.min_lr = 0.9, 1e-7
    config.optim.lr_multipliers = {"backbone": 0.1, "text_encoder": 0.0}  # 0 freezes
    config.optim.no_decay = ("norm",)
    config.optim.clip_norm, config.optim.ema = 0.0, 0.0

    config.data = ConfigDict()
    config.data.root = "data"
    config.data.train = []
    config.data.augment = {
        "crop": 640,
        "flip": 0.5,
        "rotation": 10.0,
        "scale": (0.5, 3.0),
        "brightness": 32 / 255,
        "contrast": 0.0,
        "saturation": 0.5,
        "min_side": 0.1,  # of a cut, as a share of the photo's
        "max_side": 1.0,
        "tries": 10,
        "widen": False,
    }
    config.data.workers = 8
    config.eval = {"every": 0, "sources": []}  # the release chooses its epoch on the test set
    config.checkpoint = {"every": 1000, "keep": 3, "keep_every": 0, "keep_best": 0}
    return config


def scenes(split: str, size: int, side: int, **values) -> dict:
    """Arguments of the scene renderer; the words of the split "test" never occur in "train"."""
    return {"seed": 0, "split": split, "size": size, "image_size": (side, side), **values}


def make_rendered(config: ConfigDict) -> None:
    """Full size, on rendered scenes."""
    config.epochs, config.steps, config.batch = 0, 100_000, 16
    config.data.train = [{"synthetic": scenes("train", 10_000_000, 800, words=(0, 24), difficulty=0.9)}]
    config.data.workers = 16
    config.eval.every = 5000
    config.eval.sources = [{"name": "unseen scenes", "synthetic": scenes("test", 200, 800, words=(0, 24))}]


def make_tiny(config: ConfigDict) -> None:
    """The same code in seconds."""
    config.batch, config.epochs, config.steps, config.log_every, config.init = 2, 0, 4, 1, ""
    config.inference.scale = (160, 96)
    config.data.augment.update({"crop": 64, "min_side": 0.7, "widen": True})
    config.data.workers = 0
    large = {"words": (1, 3), "em": (20.0, 30.0), "difficulty": 0.0}  # what counts at this size
    config.data.train = [{"synthetic": scenes("train", 1000, 96, **large)}]
    config.eval.every = 4
    config.eval.sources = [{"name": "scenes", "synthetic": scenes("test", 2, 96, **large)}]
    config.checkpoint.every = 4
    config.model.tcm.clip.update({"embed_dim": 64, "image_size": (64, 64), "vision_width": 16})
    config.model.tcm.clip.update({"vision_layers": (1, 1, 1, 1), "vision_heads": 4})
    config.model.tcm.clip.update({"text_width": 64, "text_layers": 1, "text_heads": 2})
    config.model.tcm.update({"decoder_width": 32, "decoder_layers": 1})


def make_ablation(config: ConfigDict) -> None:
    """Small enough for many runs: a minute on two CPU cores."""
    make_tiny(config)
    config.batch, config.steps, config.log_every = 4, 450, 50
    config.optim.method, config.optim.lr, config.optim.weight_decay = "adam", 2e-3, 0.0
    config.optim.lr_multipliers = {"backbone": 1.0, "text_encoder": 1.0}  # nothing is pre-trained
    config.optim.clip_norm = 5.0
    config.model.tcm.clip.image_size = (192, 192)
    config.inference.scale = (384, 192)
    config.data.augment.update({"crop": 192, "min_side": 0.6})
    config.data.train = [{"synthetic": scenes("train", 10_000_000, 192, words=(1, 4), difficulty=0.2)}]
    config.eval.every = 0
    config.eval.sources = [
        {"name": "unseen scenes", "synthetic": scenes("test", 100, 192, words=(1, 4), difficulty=0.2)}
    ]
    config.checkpoint.every = 0


def make_small(config: ConfigDict) -> None:
    """A detector of seven million parameters that learns from nothing on two CPU cores."""
    make_ablation(config)
    config.steps, config.optim.ema = 2600, 0.998
    config.model.tcm.clip.update({"embed_dim": 128, "vision_width": 24, "vision_layers": (2, 2, 2, 2)})
    config.model.tcm.clip.update({"image_size": (320, 320), "vision_heads": 12})
    config.model.tcm.decoder_width = 64
    config.inference.scale = (640, 320)
    config.data.augment.update({"crop": 320, "min_side": 0.5})
    config.data.train = [{"synthetic": scenes("train", 10_000_000, 320, words=(0, 8), difficulty=0.4)}]
    config.data.workers = 1
    config.eval.sources = [
        {"name": "unseen scenes", "synthetic": scenes("test", 50, 320, words=(1, 8), difficulty=0.4)}
    ]
    config.checkpoint.every = 200


def make_real(config: ConfigDict) -> None:
    """The small detector, trained further on harder scenes and real images, of which every tenth is held out."""
    make_small(config)
    config.init = "runs/detector"
    config.batch, config.steps, config.optim.lr = 8, 4500, 1e-3
    config.inference.update({"scale": (1536, 864), "coarse_scales": ((384, 224), (192, 112))})
    config.data.augment.update({"min_side": 0.1, "max_side": 0.4, "tries": 50})
    config.data.train = [
        {"synthetic": scenes("train", 10_000_000, 480, words=(0, 12), difficulty=0.8), "weight": 0.4},
        {"path": "icdar2015-train", "hold_out": 10, "weight": 0.6},
    ]
    config.eval.every = 1500
    config.eval.sources = [{"path": "icdar2015-train", "hold_out": 10}]


FORMS = {
    "rendered": make_rendered,
    "quickstart": make_small,
    "real": make_real,
    "ablation": make_ablation,
    "tiny": make_tiny,
}
SMALL = ("quickstart", "real", "ablation", "tiny")


def split_variant(family: str, variant: str, known: tuple[str, ...]) -> tuple[str, list[str]]:
    """ "td500,pp" -> ("td500", ["pp"])."""
    name, *rows = variant.split(",")
    if name not in known:
        raise ValueError(f"{family}: unknown variant {name!r}; known are {', '.join(known)}")
    return name, rows
