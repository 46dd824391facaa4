"""CLIP4STR-B: CLIP ViT-B/16 as a scene-text reader (158 M parameters).

    python -m tcm_jax.train --config configs/clip4str_base.py:real --workdir runs/base --config.data.root=DATA

Variants: `real` (3.3 M real crops), `synth` (MJSynth and SynthText), `rbu` (real, benchmarks' validation data,
Union14M-L; 6.5 M), `tiny` (a minute on a laptop, synthetic words, no files). DATA has the layout of PARSeq's and the
original's data sets: train/real, train/synth, val; RBU's Union14M-L lies in train/union14m.

`init` is a CLIP model directory: `python -m convert ViT-B-16.pt models/clip_vit_b16`. The original starts `rbu` from
OpenCLIP's DataComp-1B weights, `real` and `synth` from OpenAI's.

The original reports, in its own protocol (36 characters, test images normalized by 0.5): IIIT5K 99.2, SVT 98.3,
IC13-1015 98.2, IC15-1811 91.4, SVTP 96.9, CUTE 99.7 for `real`. Source of the values: configs/model/vl4str.yaml and
scripts/vl4str_base.sh of the original.
"""

from ml_collections import ConfigDict

CLIP_MEAN = (0.48145466, 0.4578275, 0.40821073)
CLIP_STD = (0.26862954, 0.26130258, 0.27577711)
EPOCHS = {"real": 16, "synth": 7, "rbu": 11}
TRAIN = {
    "real": [{"path": "train/real"}],
    "synth": [{"path": "train/synth"}],
    "rbu": [{"path": "train/real"}, {"path": "val"}, {"path": "train/union14m"}],
}


def get_config(variant: str = "real") -> ConfigDict:
    if variant not in (*EPOCHS, "tiny"):
        raise ValueError(f"clip4str: unknown variant {variant!r}; known are {', '.join(EPOCHS)} and tiny")
    config = ConfigDict()
    config.task = "recognition"
    config.seed = 0
    config.batch = 1024  # of one optimizer step
    config.accumulate = 1  # micro-batches it is split into
    config.mesh = {"data": -1, "fsdp": 1, "tensor": 1}  # -1: what is left of the devices
    config.remat = "none"  # or "dots", "full": less memory, more work
    config.epochs = EPOCHS.get(variant, 0)
    config.steps = 0  # used when epochs is 0
    config.dtype = "auto"  # bfloat16 on TPU and GPU, float32 on CPU; parameters are float32
    config.init = "models/clip_vit_b16"
    config.log_every = 50
    config.profile_steps = 0  # so many are traced
    config.stall_seconds = 600  # without a step: the stacks of all threads are printed
    config.lost_seconds = 60  # without a word of a process: the others end

    # How crops are read, in validations and by the stored model: test-time views, a prior for words of CLIP's
    # vocabulary (1: none), and whether the cross branch counts or the likelier one of "both".
    config.inference = {"views": (0.0,), "dictionary_prior": 1.0, "branches": "cross"}

    config.model = ConfigDict()
    config.model.clip = {
        "embed_dim": 512,
        "image_size": (224, 224),
        "patch_size": (16, 16),
        "vision_width": 768,
        "vision_layers": 12,
        "vision_heads": 12,
        "text_width": 512,
        "text_layers": 12,
        "text_heads": 8,
        "text_positions": 77,
        "vocab_size": 49408,
        "activation": "quick_gelu",
    }
    config.model.charset = "94"
    config.model.caption_charset = "36"
    config.model.max_label_length = 25
    config.model.context_length = 16
    config.model.decoder_depth = 1
    config.model.decoder_heads = 8
    config.model.decoder_mlp_ratio = 4
    config.model.dropout = 0.1
    config.model.use_language_model = True
    config.model.use_share_dim = True
    config.model.image_detach = True
    config.model.cross_gt_context = True
    config.model.cross_cloze_mask = False
    config.model.cross_loss_weight = 1.0
    config.model.cross_token_embedding = False
    config.model.cls_eot_feature = False
    config.model.decode_ar = True
    config.model.refine_iters = 1
    config.model.perm_num = 6
    config.model.perm_forward = True
    config.model.perm_mirrored = True

    config.optim = {
        "lr": 8.4e-5,  # for a batch of lr_batch; scales linearly with the batch
        "lr_batch": 512,
        "decoder_lr_multiplier": 19.0,
        "weight_decay": 0.2,
        "decoder_weight_decay_multiplier": 1.0,
        "b1": 0.9,
        "b2": 0.98,
        "eps": 1e-6,
        "warmup_fraction": 0.075,
        "clip_norm": 20.0,
        "text_freeze_layers": 6,
        "image_freeze_layers": -1,
        "ema": 0.0,  # decay of the average of the parameters; 0 is off
    }
    config.data = {
        "root": "data",
        "train": TRAIN.get(variant, []),
        "augment": 3,
        "workers": 8,
        "mean": CLIP_MEAN,
        "std": CLIP_STD,
        "filter": {"remove_whitespace": True, "normalize_unicode": "ascii", "min_image_size": 0},
    }
    config.eval = {
        "every": 2000,
        "batch": 512,
        "charset": "36",
        "normalization": "train",
        "sources": [{"name": "val", "path": "val"}],
    }
    config.checkpoint = {"every": 1000, "keep": 3, "keep_every": 0, "keep_best": 0}
    return shrink(config) if variant == "tiny" else config


def shrink(config: ConfigDict) -> ConfigDict:
    """The same recipe small enough for a test: every switch as it is, sizes and data not."""
    config.model.clip.update({"embed_dim": 64, "image_size": (32, 64), "patch_size": (8, 8)})
    config.model.clip.update({"vision_width": 64, "vision_layers": 2, "vision_heads": 1})
    config.model.clip.update({"text_width": 64, "text_layers": 2, "text_heads": 1})
    config.model.decoder_heads = 2
    config.init = ""
    config.batch, config.epochs, config.steps, config.log_every = 8, 0, 4, 1
    config.optim.text_freeze_layers = 1
    config.data.workers = 0
    words = {"seed": 0, "difficulty": 0.0}
    config.data.train = [{"synthetic": {**words, "split": "train", "size": 1000}}]
    config.eval.every, config.eval.batch = 4, 8
    config.eval.sources = [{"name": "words", "synthetic": {**words, "split": "test", "size": 16}}]
    config.checkpoint.every = 4
    return config
