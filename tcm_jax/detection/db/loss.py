"""DBNet's losses. Source: mmocr 0.4 models/textdet/losses/db_loss.py."""

import jax
import jax.numpy as jnp

from tcm_jax.detection.interface import Losses
from tcm_jax.detection.losses import EPS, balanced, binary_cross_entropy, dice


def db_losses(
    maps: jax.Array,
    shrink: jax.Array,
    shrink_mask: jax.Array,
    threshold: jax.Array,
    threshold_mask: jax.Array,
    alpha: float,
    beta: float,
    negative_ratio: float,
    cross_entropy: bool,
) -> Losses:
    """Losses of the three maps.

    Args:
        maps: [b, h, w, 3], see `DbHead`.
        shrink: shrunk text regions, > 0 inside, [b, h, w]; shrink_mask: where they count.
        threshold: threshold map and threshold_mask: where it counts.
        alpha, beta: weights of the probability and of the threshold map.
        cross_entropy: for the probability map, balanced by hard negatives over the whole batch; else dice.
    """
    text = (shrink > 0).astype(jnp.float32)
    mask = shrink_mask.astype(jnp.float32)
    probability, predicted, binary = maps[..., 0], maps[..., 1], maps[..., 2]
    if cross_entropy:
        loss = binary_cross_entropy(probability, text)
        first = balanced(loss, text * mask, (1 - text) * mask, negative_ratio)
    else:
        first = dice(probability, text, mask)
    counts = threshold_mask.astype(jnp.float32)
    distance = (jnp.abs(predicted - threshold) * counts).sum() / (counts.sum() + EPS)
    return {"loss_prob": alpha * first, "loss_db": dice(binary, text, mask), "loss_thr": beta * distance}
