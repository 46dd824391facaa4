"""Layers of the detectors against PyTorch's, and the two forms of a convolution's gradient against each other."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch
import torch.nn.functional as F

from tcm_jax.models.convolution import (
    BatchNorm,
    Conv,
    Deconv,
    kernel_gradient_as_convolution,
    kernel_gradient_by_rows,
    resize_bilinear,
    trainable_convolution,
    upsample,
)
from tests.conftest import apply, compare, init


def noise(*shape: int) -> np.ndarray:
    return np.random.default_rng(len(shape)).standard_normal(shape, np.float32)


def channels_first(x) -> torch.Tensor:
    return torch.from_numpy(np.moveaxis(np.asarray(x), -1, 1).copy())


@pytest.mark.parametrize(("size", "stride"), [(1, 1), (3, 1), (3, 2)])
def test_convolution(size, stride):
    x, layer = noise(2, 8, 12, 5), Conv(7, size, stride)
    variables = init(layer, x)
    kernel = np.asarray(variables["params"]["kernel"]).transpose(3, 2, 0, 1).copy()
    bias = torch.from_numpy(np.asarray(variables["params"]["bias"]).copy())
    expected = F.conv2d(channels_first(x), torch.from_numpy(kernel), bias, stride, size // 2)
    compare("convolution", channels_first(apply(layer, variables, x)), expected, 1e-6)


@pytest.mark.parametrize("channels", [(3, 6), (6, 3)], ids=["wider", "narrower"])
@pytest.mark.parametrize("shape", [(1, 4, 4), (2, 12, 8), (2, 30, 40)])
def test_gradients_of_a_convolution(shape, channels):
    x, kernel, g = noise(*shape, channels[0]), noise(3, 3, *channels), noise(*shape, channels[1])
    expected = kernel_gradient_as_convolution(x, g, kernel)
    compare("by rows", kernel_gradient_by_rows(x, g, kernel), expected, 1e-6)
    to_x, to_kernel = jax.vjp(trainable_convolution, x, kernel)[1](jnp.asarray(g))
    compare("kernel", to_kernel, expected, 1e-6)
    pixels, weights = channels_first(x).requires_grad_(), torch.from_numpy(kernel.transpose(3, 2, 0, 1).copy())
    F.conv2d(pixels, weights, padding=1).backward(channels_first(g))
    compare("image", channels_first(to_x), pixels.grad, 1e-6)


def test_half_precision_gradients_keep_their_type():
    x, kernel, g = (jnp.asarray(a, jnp.bfloat16) for a in (noise(1, 4, 4, 2), noise(3, 3, 2, 3), noise(1, 4, 4, 3)))
    gradients = jax.vjp(trainable_convolution, x, kernel)[1](g)
    assert [a.dtype for a in gradients] == [jnp.bfloat16, jnp.bfloat16]


def test_transposed_convolution():
    x, layer = noise(2, 3, 4, 5), Deconv(6)
    variables = init(layer, x)
    kernel = np.asarray(variables["params"]["kernel"]).transpose(2, 3, 0, 1).copy()
    bias = torch.from_numpy(np.asarray(variables["params"]["bias"]).copy())
    expected = F.conv_transpose2d(channels_first(x), torch.from_numpy(kernel), bias, stride=2)
    compare("deconvolution", channels_first(apply(layer, variables, x)), expected, 1e-6)


def test_batch_norm_in_training_and_evaluation():
    x, ours, theirs = 3 * noise(2, 3, 4, 5) + 1, BatchNorm(), torch.nn.BatchNorm2d(5)
    variables = init(ours, x)
    y, new = apply(ours, variables, x, train=True, mutable="batch_stats")
    compare("by the batch", channels_first(y), theirs(channels_first(x)).detach(), 1e-5)
    compare("running mean", new["batch_stats"]["mean"], theirs.running_mean, 1e-6)
    compare("running variance", new["batch_stats"]["var"], theirs.running_var, 1e-6)
    y = apply(ours, {**variables, **new}, x)
    compare("by running statistics", channels_first(y), theirs.eval()(channels_first(x)).detach(), 1e-5)


def test_enlarging():
    x = noise(1, 2, 3, 4)
    compare("nearest", channels_first(upsample(x, 2)), F.interpolate(channels_first(x), scale_factor=2), 0)
    expected = F.interpolate(channels_first(x), size=(7, 6), mode="bilinear", align_corners=False)
    compare("bilinear", channels_first(resize_bilinear(jnp.asarray(x), (7, 6))), expected, 1e-6)
