"""The optimizer of a recognizer: AdamW in four groups under a one-cycle schedule, frozen layers of CLIP's towers.

Source: strhub/models/vl_str/system.py of the original (configure_optimizers).
"""

import functools
import re

from tcm_jax.pretrained import flatten
from tcm_jax.recognition.config import RecognitionOptimConfig
from tcm_jax.training.methods import adamw
from tcm_jax.training.optim import Optimizer, Tree
from tcm_jax.training.schedules import Schedule, one_cycle


def torch_ndim(path: str, shape: tuple[int, ...]) -> int:
    """Number of dimensions that a parameter has in PyTorch, where heads are not a dimension of their own.

    Attention kernels [d, k, e] and [k, e, d] are matrices there, head biases [k, e] are vectors.
    """
    match path.rsplit("/", 1)[-1], len(shape):
        case "bias", 2:
            return 1
        case "kernel", 3:
            return 2
        case _, ndim:
            return ndim


def make_optimizer(config: RecognitionOptimConfig, params: Tree, batch: int, total_steps: int) -> Optimizer:
    """The optimizer of a run.

    Args:
        params: the parameters of CLIP4STR or their shapes.
        batch: images of an optimizer step, over all devices and micro-batches.
        total_steps: optimizer steps of the whole run.
    """
    layers = config.text_freeze_layers, config.image_freeze_layers
    labels = {path: parameter_group(path, torch_ndim(path, x.shape), *layers) for path, x in flatten(params).items()}
    method = functools.partial(adamw, b1=config.b1, b2=config.b2, eps=config.eps)

    def schedule(multiplier: float) -> Schedule:
        return one_cycle(multiplier * config.peak(batch), total_steps, config.warmup_fraction)

    return Optimizer(method, config.groups, labels, schedule, config.clip_norm, config.ema)


def parameter_group(path: str, ndim: int, text_freeze_layers: int = -1, image_freeze_layers: int = -1) -> str:
    """The optimizer group of a parameter of CLIP4STR.

    Args:
        path: "clip_model/visual/proj"; ndim: number of dimensions in PyTorch's layout.
        text_freeze_layers: -1 freezes nothing; k >= 0 freezes the token and position embeddings, logit_scale and the
            first k text blocks; 12 freezes the whole text tower, also a deeper one, as in the original.
        image_freeze_layers: the same for class and position embedding and image blocks; 12 freezes the whole tower.

    Returns:
        "frozen", or "encoder" or "decoder" with "_decay" or "_no_decay".

    Raises:
        ValueError: a number of layers above 12.
    """
    for name, number in (
        ("text_freeze_layers", text_freeze_layers),
        ("image_freeze_layers", image_freeze_layers),
    ):
        if not -1 <= number <= 12:
            raise ValueError(f"{name} is {number}; expected -1 (nothing) to 12 (the whole tower)")
    if path.startswith("clip_model/"):
        visual = path.startswith("clip_model/visual/")
        limit = image_freeze_layers if visual else text_freeze_layers
        block = re.search(r"/resblocks_(\d+)/", path)
        bottom = "class_embedding|positional_embedding" if visual else "(token|positional)_embedding|logit_scale"
        if limit >= 12 or (limit >= 0 and (int(block[1]) < limit if block else re.search(f"/({bottom})(/|$)", path))):
            return "frozen"
    tower = "encoder" if path.startswith("clip_model/") else "decoder"
    decays = ndim >= 2 and not re.search("pos_queries|text_embed", path)
    return f"{tower}_{'decay' if decays else 'no_decay'}"
