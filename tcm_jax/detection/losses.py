"""Pieces of detection losses. Everything is float32; masks are 0 or 1."""

import jax
import jax.numpy as jnp

EPS = 1e-6


def binary_cross_entropy(probability: jax.Array, target: jax.Array) -> jax.Array:
    """Elementwise; logarithms are clamped at -100 and the gradient's denominator at 1e-12, as in PyTorch."""
    return _clamped(probability, target)


@jax.custom_vjp
def _clamped(p: jax.Array, y: jax.Array) -> jax.Array:
    return -(y * jnp.maximum(jnp.log(p), -100.0) + (1 - y) * jnp.maximum(jnp.log1p(-p), -100.0))


def _clamped_forward(p: jax.Array, y: jax.Array) -> tuple[jax.Array, tuple[jax.Array, jax.Array]]:
    return _clamped(p, y), (p, y)


def _clamped_backward(saved: tuple[jax.Array, jax.Array], g: jax.Array) -> tuple[jax.Array, jax.Array]:
    p, y = saved
    return g * (p - y) / jnp.maximum(p * (1 - p), 1e-12), jnp.zeros_like(y)


_clamped.defvjp(_clamped_forward, _clamped_backward)


def kth_largest(values: jax.Array, k: jax.Array, times: jax.Array | int = 1) -> jax.Array:
    """The k-th largest of non-negative float32 `values`, over all axes; k counts from 1.

    The bit patterns of such numbers have the order of the numbers, so that 31 counts find it: on every backend far
    cheaper than sorting. infinity if k < 1, 0 if there are fewer values.

    Args:
        times: how often every value stands there, integers that broadcast to `values`.
    """
    bits = jax.lax.bitcast_convert_type(jax.lax.stop_gradient(values).astype(jnp.float32), jnp.int32)

    def step(i: jax.Array, found: jax.Array) -> jax.Array:
        candidate = found | (1 << (30 - i))
        return jnp.where(((bits >= candidate) * times).sum() >= k, candidate, found)

    found = jax.lax.fori_loop(0, 31, step, jnp.int32(0))
    return jnp.where(k < 1, jnp.inf, jax.lax.bitcast_convert_type(found, jnp.float32))


def top_k_sum(values: jax.Array, k: jax.Array, times: jax.Array | int = 1) -> jax.Array:
    """Sum of the k largest of non-negative `values`; `times` as of `kth_largest`.

    Equal values at the border share its gradient.
    """
    border = kth_largest(values, k, times)
    above, equal = (values > border) * times, (values == border) * times
    rest = (k - above.sum()) / jnp.maximum(equal.sum(), 1)
    return (values * jax.lax.stop_gradient(above + equal * rest)).sum()


def balanced(loss: jax.Array, positive: jax.Array, negative: jax.Array, ratio: float = 3.0) -> jax.Array:
    """Mean of `loss` over all positives and the hardest negatives, at most `ratio` times as many, over all axes."""
    count = positive.sum()
    hard = jnp.minimum(negative.sum(), jnp.floor(ratio * count))
    return ((loss * positive).sum() + top_k_sum(loss * negative, hard)) / (count + hard + EPS)


def dice(probability: jax.Array, target: jax.Array, mask: jax.Array) -> jax.Array:
    """Dice loss over the whole batch, with predictions that are not squared (mmocr's DiceLoss)."""
    probability, target = probability * mask, target * mask
    return 1 - 2 * (probability * target).sum() / (probability.sum() + target.sum() + EPS)


def matching_loss(
    logits: jax.Array,
    positive: jax.Array,
    negative: jax.Array,
    coupled: bool = False,
    ratio: float = 3.0,
    text: jax.Array | None = None,
) -> jax.Array:
    """Balanced cross-entropy of a score map: the mean over the images of every image's own `balanced` loss.

    `coupled` is TCM's released form. A product of its [b, 1, h, w] losses and [b, h, w] masks lets every image i meet
    the masks of all images j: (sum_ijp loss_i(p) positive_j(p) + the k largest of all loss_i(p) negative_j(p)) /
    (positives + k), with both counts taken once. Both forms agree for one image.

    Args:
        logits: float32 [b, h, w].
        positive, negative: masks of the pixels that count, float32 [b, h, w].
        ratio: hard negatives to a positive.
        text: target of all pixels, also of those that don't count: the coupled form meets them through the masks of
            other images. Without it they are background.

    Source: TCM ocrclip/heads.py, balance_bce_loss.
    """
    target = positive if text is None else text
    loss = jax.nn.softplus(jnp.where(target > 0, -logits, logits))
    if not coupled:
        return jax.vmap(balanced, (0, 0, 0, None))(loss, positive, negative, ratio).mean()
    count = positive.sum()
    hard = jnp.minimum(negative.sum(), jnp.floor(ratio * count))
    easy = (loss.sum(0) * positive.sum(0)).sum()
    return (easy + top_k_sum(loss, hard, negative.sum(0).astype(jnp.int32))) / (count + hard + EPS)
