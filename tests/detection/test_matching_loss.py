"""The auxiliary loss of a score map: by hand, against its literal definition and against the original."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tcm_jax.detection.losses import EPS, matching_loss, top_k_sum
from tcm_jax.models.convolution import resize_bilinear
from tests.conftest import channels_last, compare, read_json


def softplus(x: float) -> float:
    return math.log1p(math.exp(x))


def test_one_image_by_hand():
    """One positive, so at most three negatives: the easiest of the four (-5) does not count, nor does the ignored."""
    logits = jnp.array([[[1.0, -5.0, 3.0], [0.0, -1.0, 9.0]]])
    positive = jnp.array([[[1.0, 0.0, 0.0], [0.0, 0.0, 0.0]]])
    negative = jnp.array([[[0.0, 1.0, 1.0], [1.0, 1.0, 0.0]]])
    expected = (softplus(-1.0) + softplus(3.0) + softplus(0.0) + softplus(-1.0)) / (4 + EPS)
    for coupled in (False, True):
        assert matching_loss(logits, positive, negative, coupled) == pytest.approx(expected, rel=1e-6)


def test_mean_over_images_by_hand():
    """An image's loss does not depend on its batch; one without positives adds zero."""
    logits = jnp.array([[[2.0, 0.0]], [[1.0, 1.0]]])
    positive = jnp.array([[[1.0, 0.0]], [[0.0, 0.0]]])
    negative = jnp.array([[[0.0, 1.0]], [[1.0, 1.0]]])
    expected = (softplus(-2.0) + softplus(0.0)) / (2 + EPS) / 2
    assert matching_loss(logits, positive, negative) == pytest.approx(expected, rel=1e-6)


def test_coupled_by_hand():
    """Two images of one pixel, the first text: each image's loss meets the masks of both."""
    logits = jnp.array([[[2.0]], [[1.0]]])
    positive = jnp.array([[[1.0]], [[0.0]]])
    negative = jnp.array([[[0.0]], [[1.0]]])
    expected = (softplus(-2.0) + softplus(1.0) + max(softplus(-2.0), softplus(1.0))) / (2 + EPS)
    assert matching_loss(logits, positive, negative, coupled=True) == pytest.approx(expected, rel=1e-6)


@pytest.mark.parametrize("text_share", [0.0, 0.05, 0.3, 1.0])
def test_coupled_is_the_literal_broadcast(text_share):
    rng = np.random.default_rng(0)
    shape = (3, 5, 7)
    logits = 4 * rng.standard_normal(shape)
    text = (rng.random(shape) < text_share).astype(np.float64)
    mask = (rng.random(shape) < 0.8).astype(np.float64)
    loss = np.log1p(np.exp(np.where(text > 0, -logits, logits)))
    positive, negative = text * mask, (1 - text) * mask
    hard = int(min(negative.sum(), 3 * positive.sum()))
    product = (loss[:, None] * negative[None]).ravel()
    expected = (loss[:, None] * positive[None]).sum() + np.sort(product)[::-1][:hard].sum()
    expected /= positive.sum() + hard + EPS
    x, yes, no, target = (jnp.asarray(a, jnp.float32) for a in (logits, positive, negative, text))
    ours = matching_loss(x, yes, no, coupled=True, text=target)
    assert ours == pytest.approx(expected, rel=1e-5)


def test_extreme_logits_stay_finite():
    logits = jnp.array([[[-1e4, 1e4, 0.0, 200.0]]])
    positive = jnp.array([[[1.0, 0.0, 0.0, 1.0]]])
    value, gradient = jax.value_and_grad(matching_loss)(logits, positive, 1 - positive)
    assert value == pytest.approx((2e4 + math.log(2)) / 4, rel=1e-6)
    assert np.allclose(gradient, [[[-0.25, 0.25, 0.125, 0.0]]])


def test_repeated_values_by_hand():
    """The multiset is 5, 4, 4, 3, 3, 2."""
    values, times = jnp.array([[5.0, 4.0, 3.0], [0.0, 2.0, 3.0]]), 1
    for k, expected in {0: 0, 1: 5, 2: 9, 3: 12, 4: 15, 5: 17, 6: 17, 9: 17}.items():
        assert top_k_sum(values, jnp.float32(k), times) == expected, k
    times = jnp.array([2, 0, 1])  # 5, 5, 3, 3, 0, 0
    assert top_k_sum(values, jnp.float32(3), times) == 13


def test_losses_and_gradients_are_the_originals(detection_golden):
    """The release upsamples the score map 32 times, for any size of the fixture; its masks are of full resolution."""
    config = read_json(detection_golden / "losses/config.json")["identity"]
    inputs = np.load(detection_golden / "losses/inputs.npz")
    outputs = np.load(detection_golden / "losses/outputs.npz")
    compared = 0
    for case in config["cases"]:
        name = f"identity_{case}"
        text = jnp.asarray(inputs[f"{name}__gt_shrink"] > 0, jnp.float32)
        mask = jnp.asarray(inputs[f"{name}__gt_shrink_mask"], jnp.float32)
        ratio, weight = config["negative_ratio"], config["loss_weight"]
        logits = channels_last(inputs[f"{name}__logits"])

        def loss(x, text=text, mask=mask, ratio=ratio, weight=weight):
            x = resize_bilinear(x, (text.shape[1], text.shape[2]))[..., 0]
            return weight * matching_loss(x, text * mask, (1 - text) * mask, True, ratio, text)

        value, gradient = jax.jit(jax.value_and_grad(loss))(jnp.asarray(logits))
        compare(f"{name} loss", value, outputs[f"{name}__bbce__loss_pix_cls"], 1e-5)
        compare(f"{name} gradient", gradient, channels_last(outputs[f"{name}__bbce__grad_logits"]), 1e-4)
        compared += 1
    assert compared


def test_default_form_is_the_mean_of_single_images(detection_golden):
    """Of fixtures with one image, where the release's form and ours are the same."""
    inputs = np.load(detection_golden / "losses/inputs.npz")
    names = [k.removesuffix("__logits") for k in inputs.files if k.startswith("identity_") and k.endswith("__logits")]
    for name in names:
        text = jnp.asarray(inputs[f"{name}__gt_shrink"] > 0, jnp.float32)
        mask = jnp.asarray(inputs[f"{name}__gt_shrink_mask"], jnp.float32)
        logits = resize_bilinear(jnp.asarray(channels_last(inputs[f"{name}__logits"])), text.shape[1:])[..., 0]
        positive, negative = text * mask, (1 - text) * mask
        single = [
            matching_loss(logits[i : i + 1], positive[i : i + 1], negative[i : i + 1], coupled=True)
            for i in range(len(logits))
        ]
        assert matching_loss(logits, positive, negative) == pytest.approx(np.mean(single), rel=1e-5)
