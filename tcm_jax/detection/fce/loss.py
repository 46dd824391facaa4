"""FCENet's losses. Source: mmocr 0.4 models/textdet/losses/fce_loss.py."""

from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np

from tcm_jax.detection.fce.model import Level
from tcm_jax.detection.interface import Losses
from tcm_jax.detection.losses import top_k_sum

NEGATIVES_WITHOUT_POSITIVES = 100


def fce_losses(levels: Sequence[Level], targets: Sequence[jax.Array], points: int, negative_ratio: float) -> Losses:
    """Losses of text region, center region and contour (x and y), each summed over the levels.

    Args:
        levels: outputs of the head. targets: the maps of `fce_targets`, [b, h, w, 3 + 2 (2 k + 1)], level by level.
        points: of the contour that are compared. negative_ratio: hard negatives to a text pixel.
    """
    names = ("loss_text", "loss_center", "loss_reg_x", "loss_reg_y")
    losses = [_level_losses(level, maps, points, negative_ratio) for level, maps in zip(levels, targets, strict=True)]
    return {name: sum(values[1:], values[0]) for name, *values in zip(names, *losses, strict=True)}


def _level_losses(level: Level, maps: jax.Array, points: int, negative_ratio: float) -> tuple[jax.Array, ...]:
    maps = maps.astype(jnp.float32)
    text, center, counts = maps[..., 0], maps[..., 1], maps[..., 2]
    positive = text * counts
    total = positive.sum()
    some = total > 0

    text_loss = _hard_negatives(
        _cross_entropy(level.logits[..., :2], text), positive, (1 - text) * counts, total, negative_ratio
    )

    # The negatives of the center region are all other pixels, ignored ones too: so it was trained.
    loss = _cross_entropy(level.logits[..., 2:], center)
    center_loss = jnp.where(some, _mean(loss, positive) + 0.5 * _mean(loss, 1 - positive), 0.0)

    # A contour is linear in its coefficients, so the difference of two is the contour of their difference.
    offsets = _contour(level.coefficients - maps[..., 3:], points)  # [2, b, h, w, points]
    weights = positive * (text + center) / 2 / points
    contour_losses = (_smooth_l1(offsets).sum(-1) * weights).sum((1, 2, 3)) / jnp.maximum(total, 1)
    return text_loss, center_loss, contour_losses[0], contour_losses[1]


def _cross_entropy(logits: jax.Array, target: jax.Array) -> jax.Array:
    """Of two classes, logits [..., 2] (no, yes)."""
    difference = logits[..., 1] - logits[..., 0]
    return jax.nn.softplus(jnp.where(target > 0, -difference, difference))


def _mean(loss: jax.Array, mask: jax.Array) -> jax.Array:
    return (loss * mask).sum() / jnp.maximum(mask.sum(), 1)


def _hard_negatives(
    loss: jax.Array, positive: jax.Array, negative: jax.Array, count: jax.Array, ratio: float
) -> jax.Array:
    """Mean over the positives and the hardest negatives of the batch; without positives the sum of the hundred
    hardest over a hundred, even if there are fewer."""
    some = count > 0
    balanced = jnp.minimum(negative.sum(), jnp.floor(ratio * count))
    hard = jnp.where(some, balanced, NEGATIVES_WITHOUT_POSITIVES)
    return ((loss * positive).sum() + top_k_sum(loss * negative, hard)) / (count + hard)


def _contour(coefficients: jax.Array, points: int) -> jax.Array:
    """x and y of `points` points of the contours: [..., 2 (2 k + 1)] -> [2, ..., points]."""
    k = coefficients.shape[-1] // 4
    angle = 2 * np.pi / points * np.outer(np.arange(-k, k + 1), np.arange(points))
    real, imaginary = np.cos(angle), np.sin(angle)
    x, y = np.concatenate([real, -imaginary]), np.concatenate([imaginary, real])
    matrix = jnp.asarray(np.stack([x, y]), jnp.float32)  # [2, 2 (2 k + 1), points]
    return jnp.einsum("...i,xip->x...p", coefficients, matrix, precision=jax.lax.Precision.HIGHEST)


def _smooth_l1(x: jax.Array) -> jax.Array:
    x = jnp.abs(x)
    return jnp.where(x < 1, 0.5 * x * x, x - 0.5)
