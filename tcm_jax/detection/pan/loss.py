"""PAN's losses. Sources: mmocr 0.4 models/textdet/losses/pan_loss.py; PANIdentityHead in TCM's ocrclip/heads.py.

Everything is float32 and per image, so that results don't depend on how a batch is spread over devices.
"""

import jax
import jax.numpy as jnp

from tcm_jax.detection.interface import Losses
from tcm_jax.detection.losses import kth_largest
from tcm_jax.models.convolution import resize_bilinear

STRIDE = 4  # of the maps
SMOOTH = 0.001  # of dice
TIES = 2e-6  # relative difference below which scores count as equal
REDUCTIONS = {"mean": jnp.mean, "sum": jnp.sum}  # over the images


def pan_losses(
    maps: jax.Array,
    kernels: jax.Array,
    mask: jax.Array,
    alpha: float,
    beta: float,
    aggregation_margin: float,
    discrimination_margin: float,
    negative_ratio: float,
    max_instances: int,
    reduction: str = "mean",
) -> Losses:
    """Losses of text, kernels and embeddings.

    Args:
        maps: [b, h / 4, w / 4, 6], see `PanHead`.
        kernels: ids of instances from 1, [b, 2, h, w]: whole and shrunk; mask: where they count, [b, h, w].
        alpha, beta: weights of the kernels and of both losses of the embeddings.
        max_instances: of an image; embeddings of higher ids are not trained, text and kernels of all are.
        reduction: "mean" or "sum" over the images.
    """
    reduce = REDUCTIONS[reduction]
    ids = kernels[:, :, ::STRIDE, ::STRIDE].astype(jnp.int32)  # [b, 2, h / 4, w / 4]
    valid = mask[:, ::STRIDE, ::STRIDE] > 0
    text, kernel = ids[:, 0] > 0, ids[:, 1] > 0
    terms = jax.vmap(embedding_terms, (0, 0, 0, None, None, None))
    aggregation, discrimination = terms(
        maps[..., 2:], ids[:, 0], ids[:, 1], aggregation_margin, discrimination_margin, max_instances
    )
    return {
        "loss_text": reduce(text_dice(maps[..., 0], text, valid, negative_ratio)),
        "loss_kernel": alpha * reduce(squared_dice(jax.nn.sigmoid(maps[..., 1]), kernel, text & valid)),
        "loss_aggregation": beta * reduce(aggregation),
        "loss_discrimination": beta * reduce(discrimination),
    }


def score_map_loss(
    logits: jax.Array, kernels: jax.Array, mask: jax.Array, negative_ratio: float, reduction: str = "mean"
) -> jax.Array:
    """Dice loss of the score map against the whole text regions, at full resolution.

    Args:
        logits: [b, h / 32, w / 32], enlarged bilinearly; kernels, mask: see `pan_losses`.
    """
    text = kernels[:, 0] > 0
    _, h, w = text.shape
    logits = resize_bilinear(logits[..., None], (h, w))[..., 0]  # [b, h, w]
    return REDUCTIONS[reduction](text_dice(logits, text, mask > 0, negative_ratio))


def text_dice(logits: jax.Array, text: jax.Array, valid: jax.Array, negative_ratio: float) -> jax.Array:
    """Dice loss per image over all text and the hardest negatives: [b, h, w] -> [b]."""
    probability = jax.nn.sigmoid(logits)
    sampled = jax.vmap(hard_examples, (0, 0, 0, None))(probability, text, valid, negative_ratio)
    return squared_dice(probability, text, sampled)


def hard_examples(score: jax.Array, text: jax.Array, valid: jax.Array, ratio: float) -> jax.Array:
    """Pixels of one image that count: valid text, and valid pixels as high as the `ratio` times as many negatives.

    All valid ones without text or without background. As in the original, negatives are also ranked and counted
    where they are not valid, so that fewer than `ratio` times may remain.
    """
    positives = (text & valid).sum()
    negatives = jnp.minimum(jnp.floor(ratio * positives), (~text).sum()).astype(jnp.int32)
    # An enlarged map has many values that are equal but for rounding; of those at the border all or none count.
    border = (1 - TIES) * kth_largest(jnp.where(text, 0.0, score), negatives)
    return valid & ((negatives < 1) | text | (score >= border))


def squared_dice(probability: jax.Array, target: jax.Array, mask: jax.Array) -> jax.Array:
    """Dice loss with squares in the denominator per image: [b, h, w] -> [b]."""
    probability = jnp.where(mask, probability, 0.0)
    target = jnp.where(mask, target, 0.0)
    common, first, second = (
        x.sum((1, 2)) + SMOOTH for x in (probability * target, jnp.square(probability), jnp.square(target))
    )
    return 1 - 2 * common / (first + second)


def embedding_terms(
    embedding: jax.Array,
    text: jax.Array,
    kernel: jax.Array,
    aggregation_margin: float,
    discrimination_margin: float,
    max_instances: int,
) -> tuple[jax.Array, jax.Array]:
    """Aggregation and discrimination of one image, equations 2 to 5 of the paper; ignored regions count too.

    Aggregation pulls the pixels of an instance to the mean of its kernel, discrimination pushes the means of two
    instances apart. Instances without text or without kernel pixels are left out.

    Args:
        embedding: [h, w, d].
        text, kernel: ids, int [h, w]; 0 is background.

    Returns:
        ([], []); the mean over instances, and half of the mean over pairs as in the original.
    """
    embedding = embedding.reshape(-1, embedding.shape[-1])  # [h w, d]
    text, kernel = text.reshape(-1), kernel.reshape(-1)

    def per_instance(values: jax.Array, ids: jax.Array) -> jax.Array:
        """Sums by id [max_instances + 1, ...]; higher ids are dropped."""
        return jax.ops.segment_sum(values, ids, max_instances + 1)

    ones = jnp.ones(text.shape)
    text_area, kernel_area = per_instance(ones, text), per_instance(ones, kernel)  # [n]
    present = (text_area > 0) & (kernel_area > 0) & (jnp.arange(max_instances + 1) > 0)
    count = present.sum()
    mean = per_instance(embedding, kernel) / jnp.maximum(kernel_area, 1)[:, None]  # [n, d]

    own = mean[jnp.minimum(text, max_instances)]  # [h w, d]
    pull = jnp.log1p(jnp.square(jax.nn.relu(_norm(embedding - own) - aggregation_margin)))
    pulls = per_instance(pull, text) / jnp.maximum(text_area, 1)
    aggregation = jnp.where(present, pulls, 0.0).sum() / jnp.maximum(count, 1)

    push = jnp.log1p(jnp.square(jax.nn.relu(discrimination_margin - _norm(mean[:, None] - mean))))  # [n, n]
    pairs = jnp.triu(present[:, None] & present, 1)
    discrimination = jnp.where(pairs, push, 0.0).sum() / jnp.maximum(count * (count - 1), 1)
    return aggregation, discrimination


def _norm(x: jax.Array) -> jax.Array:
    """Euclidean norm of the last axis, with gradient 0 at 0."""
    square = jnp.square(x).sum(-1)
    return jnp.where(square > 0, jnp.sqrt(jnp.where(square > 0, square, 1.0)), 0.0)
