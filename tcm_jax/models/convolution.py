"""Convolutions, BatchNorm and resizing with PyTorch's conventions, for the detectors.

Feature maps are [b, h, w, d].
"""

from collections.abc import Sequence

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax import Array

from tcm_jax.models.layers import Dtype

torch_init = nn.initializers.variance_scaling(1 / 3, "fan_in", "uniform")  # PyTorch's default of Conv2d

_MAX_PIXELS = 1024  # of a step of `kernel_gradient_by_rows`, so that their neighbourhoods fit in a CPU's cache


def convolution(x: Array, kernel: Array, stride: int = 1) -> Array:
    """x [b, h, w, c] and kernel [size, size, c, d], padded by half its size -> [b, h / stride, w / stride, d]."""
    pad = len(kernel) // 2
    return jax.lax.conv_general_dilated(
        x, kernel, (stride, stride), [(pad, pad), (pad, pad)], dimension_numbers=("NHWC", "HWIO", "NHWC")
    )


@jax.custom_vjp
def trainable_convolution(x: Array, kernel: Array) -> Array:
    """`convolution` of stride 1, with a gradient that is faster on CPUs."""
    return convolution(x, kernel)


def _forward(x: Array, kernel: Array) -> tuple[Array, tuple[Array, Array]]:
    return convolution(x, kernel), (x, kernel)


def _backward(saved: tuple[Array, Array], gradient: Array) -> tuple[Array, Array]:
    x, kernel = saved
    (x_gradient,) = jax.vjp(lambda x: convolution(x, kernel), x)[1](gradient)
    kernel_gradient = jax.lax.platform_dependent(
        x, gradient, kernel, cpu=kernel_gradient_by_rows, default=kernel_gradient_as_convolution
    )
    return x_gradient, kernel_gradient


def kernel_gradient_as_convolution(x: Array, gradient: Array, kernel: Array) -> Array:
    """Gradient of a `convolution` by its kernel, given the gradient by its result."""
    return jax.vjp(lambda kernel: convolution(x, kernel), kernel)[1](gradient)[0]


def kernel_gradient_by_rows(x: Array, gradient: Array, kernel: Array) -> Array:
    """`kernel_gradient_as_convolution`, computed as a sum of matrix products over a few rows at a time.

    XLA's CPU backend takes up to four times as long for the convolution. Neighbourhoods are taken from the array with
    fewer channels: sum_p x(p + k) g(p) is also sum_p x(p) g(p - k).
    """
    size, pad = len(kernel), len(kernel) // 2
    swap = gradient.shape[-1] < x.shape[-1]
    around, plain = (gradient, x) if swap else (x, gradient)
    around = jnp.pad(around, ((0, 0), (pad, pad), (pad, pad), (0, 0)))
    b, h, w, d = plain.shape
    rows = max(n for n in range(1, h + 1) if h % n == 0 and (n == 1 or b * n * w <= _MAX_PIXELS))

    def add(total: Array, row: Array) -> tuple[Array, None]:
        part = jax.lax.dynamic_slice_in_dim(around, row, rows + 2 * pad, 1)
        shifted = [part[:, i : i + rows, j : j + w] for i in range(size) for j in range(size)]
        columns = jnp.concatenate(shifted, axis=-1).reshape(b * rows * w, -1)  # [pixels, size * size * c]
        pixels = jax.lax.dynamic_slice_in_dim(plain, row, rows, 1).reshape(-1, d)
        return total + jnp.matmul(columns.T, pixels, preferred_element_type=jnp.float32), None

    zeros = jnp.zeros((size * size * around.shape[-1], d), jnp.float32)
    total = jax.lax.scan(add, zeros, jnp.arange(0, h, rows))[0].reshape(size, size, -1, d)
    total = total[::-1, ::-1].transpose(0, 1, 3, 2) if swap else total
    return total.astype(kernel.dtype)


trainable_convolution.defvjp(_forward, _backward)


class Conv(nn.Module):
    """Convolution padded by half the kernel size; `kernel` is [size, size, in, out].

    Size 1 is a product of two matrices, which takes half of the time on XLA's CPU backend, and a quarter with its
    gradients.
    """

    features: int
    size: int = 3
    stride: int = 1
    use_bias: bool = True
    dtype: Dtype = jnp.float32
    kernel_init: nn.initializers.Initializer = torch_init

    @property
    def border(self) -> str | None:
        """Padding that it needs around an image on a larger canvas, see `tcm_jax.detection.padding`."""
        return "zeros" if self.size > 1 else None

    @nn.compact
    def __call__(self, x: Array) -> Array:
        """x [b, h, w, d] -> [b, h / stride, w / stride, features]."""
        shape = (self.size, self.size, x.shape[-1], self.features)
        kernel = self.param("kernel", self.kernel_init, shape).astype(self.dtype)
        x = x.astype(self.dtype)
        if self.size == self.stride == 1:
            y = (x.reshape(-1, x.shape[-1]) @ kernel[0, 0]).reshape(*x.shape[:-1], self.features)
        elif self.stride == 1:
            y = trainable_convolution(x, kernel)
        else:
            y = convolution(x, kernel, self.stride)
        if self.use_bias:
            y = y + self.param("bias", nn.initializers.zeros, (self.features,)).astype(self.dtype)
        return y


class ConvModule(nn.Module):
    """A convolution one level deeper in the parameter tree, as mmcv's class of this name."""

    features: int
    size: int
    use_bias: bool
    dtype: Dtype
    kernel_init: nn.initializers.Initializer

    @nn.compact
    def __call__(self, x: Array) -> Array:
        """x [b, h, w, d] -> [b, h, w, features]."""
        return Conv(self.features, self.size, 1, self.use_bias, self.dtype, self.kernel_init, name="conv")(x)


class Deconv(nn.Module):
    """Transposed convolution of size and stride 2 with bias; `kernel` is [2, 2, in, out].

    Its windows do not overlap, so that it is one matrix product from each pixel to four.
    """

    features: int
    dtype: Dtype = jnp.float32

    @nn.compact
    def __call__(self, x: Array) -> Array:
        """x [b, h, w, d] -> [b, 2 h, 2 w, features]."""
        b, h, w, d = x.shape
        kernel = self.param("kernel", torch_init, (2, 2, d, self.features)).astype(self.dtype)
        bias = self.param("bias", nn.initializers.zeros, (self.features,)).astype(self.dtype)
        matrix = kernel.transpose(2, 0, 1, 3).reshape(d, -1)
        y = (x.astype(self.dtype).reshape(-1, d) @ matrix).reshape(b, h, w, 2, 2, self.features)
        y = y.transpose(0, 1, 3, 2, 4, 5).reshape(b, 2 * h, 2 * w, self.features)
        return y + bias


class BatchNorm(nn.Module):
    """PyTorch's BatchNorm2d: epsilon 1e-5, momentum 0.1, running variance without bias. Statistics in float32."""

    dtype: Dtype = jnp.float32

    @nn.compact
    def __call__(self, x: Array, train: bool = False) -> Array:
        """x [b, h, w, d]; `train` normalizes by the statistics of the batch and updates the running ones."""
        features = x.shape[-1:]
        scale = self.param("scale", nn.initializers.ones, features)
        bias = self.param("bias", nn.initializers.zeros, features)
        mean = self.variable("batch_stats", "mean", jnp.zeros, features)
        var = self.variable("batch_stats", "var", jnp.ones, features)
        if train:
            y = x.astype(jnp.float32)
            batch_mean = y.mean((0, 1, 2))
            batch_var = jnp.square(y - batch_mean).mean((0, 1, 2))
            if not self.is_initializing():
                count = x.size // x.shape[-1]
                mean.value = 0.9 * mean.value + 0.1 * batch_mean
                var.value = 0.9 * var.value + 0.1 * batch_var * (count / max(count - 1, 1))
        else:
            batch_mean, batch_var = mean.value, var.value
        factor = scale * jax.lax.rsqrt(batch_var + 1e-5)
        return (x * factor + (bias - batch_mean * factor)).astype(self.dtype)


def upsample(x: Array, factor: int) -> Array:
    """Nearest-neighbour upsampling, [b, h, w, d] -> [b, factor h, factor w, d]."""
    b, h, w, d = x.shape
    x = jnp.broadcast_to(x[:, :, None, :, None], (b, h, factor, w, factor, d))
    return x.reshape(b, factor * h, factor * w, d)


def resize_bilinear(x: Array, size: Sequence[int]) -> Array:
    """PyTorch's interpolate(mode="bilinear", align_corners=False): [b, h, w, d] -> [b, *size, d]."""
    b, _, _, d = x.shape
    return jax.image.resize(x, (b, *size, d), "bilinear", antialias=False)
