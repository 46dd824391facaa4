"""Convolutions, BatchNorm and resizing with PyTorch's conventions, for the detectors. Maps are [b, h, w, d]."""

from collections.abc import Sequence

import flax.linen as nn
import jax
import jax.numpy as jnp

from tcm_jax.models.layers import Dtype

torch_init = nn.initializers.variance_scaling(1 / 3, "fan_in", "uniform")  # PyTorch's default of Conv2d


PIXELS = 1024  # whose neighbourhoods fit a CPU's cache; see `kernel_gradient_by_rows`


def convolution(x: jax.Array, kernel: jax.Array, stride: int = 1) -> jax.Array:
    """x [b, h, w, c] and kernel [size, size, c, d], padded by half its size -> [b, h / stride, w / stride, d]."""
    pad = len(kernel) // 2
    return jax.lax.conv_general_dilated(
        x, kernel, (stride, stride), [(pad, pad), (pad, pad)], dimension_numbers=("NHWC", "HWIO", "NHWC")
    )


@jax.custom_vjp
def trained_convolution(x: jax.Array, kernel: jax.Array) -> jax.Array:
    """`convolution` of stride 1 whose gradient is faster on CPUs."""
    return convolution(x, kernel)


def _forward(x: jax.Array, kernel: jax.Array):
    return convolution(x, kernel), (x, kernel)


def _backward(saved: tuple[jax.Array, jax.Array], gradient: jax.Array):
    x, kernel = saved
    (to_x,) = jax.vjp(lambda x: convolution(x, kernel), x)[1](gradient)
    to_kernel = jax.lax.platform_dependent(
        x, gradient, kernel, cpu=kernel_gradient_by_rows, default=kernel_gradient_as_convolution
    )
    return to_x, to_kernel


def kernel_gradient_as_convolution(x: jax.Array, gradient: jax.Array, kernel: jax.Array) -> jax.Array:
    """Gradient of `kernel`, of the convolution of `x` with it, given that of the result."""
    return jax.vjp(lambda kernel: convolution(x, kernel), kernel)[1](gradient)[0]


def kernel_gradient_by_rows(x: jax.Array, gradient: jax.Array, kernel: jax.Array) -> jax.Array:
    """The same as a sum of matrix products over a few rows of the maps.

    XLA's CPU backend takes up to four times as long for the convolution that this gradient is. Neighbourhoods are
    taken from the maps with fewer channels: sum_p x(p + k) g(p) is sum_p x(p) g(p - k) too.
    """
    size, pad = len(kernel), len(kernel) // 2
    swap = gradient.shape[-1] < x.shape[-1]
    around, plain = (gradient, x) if swap else (x, gradient)
    around = jnp.pad(around, ((0, 0), (pad, pad), (pad, pad), (0, 0)))
    b, h, w, d = plain.shape
    rows = max(n for n in range(1, h + 1) if h % n == 0 and (n == 1 or b * n * w <= PIXELS))

    def add(total: jax.Array, row: jax.Array) -> tuple[jax.Array, None]:
        part = jax.lax.dynamic_slice_in_dim(around, row, rows + 2 * pad, 1)
        shifted = [part[:, i : i + rows, j : j + w] for i in range(size) for j in range(size)]
        columns = jnp.concatenate(shifted, axis=-1).reshape(b * rows * w, -1)  # [pixels, size * size * c]
        pixels = jax.lax.dynamic_slice_in_dim(plain, row, rows, 1).reshape(-1, d)
        return total + jnp.matmul(columns.T, pixels, preferred_element_type=jnp.float32), None

    zeros = jnp.zeros((size * size * around.shape[-1], d), jnp.float32)
    total = jax.lax.scan(add, zeros, jnp.arange(0, h, rows))[0].reshape(size, size, -1, d)
    total = total[::-1, ::-1].transpose(0, 1, 3, 2) if swap else total
    return total.astype(kernel.dtype)


trained_convolution.defvjp(_forward, _backward)


class Conv(nn.Module):
    """Convolution padded by half the kernel; `kernel` is [size, size, in, out].

    Size 1 is a product of two matrices: on XLA's CPU backend it takes half of the convolution's time, and a quarter
    with its gradients.
    """

    features: int
    size: int = 3
    stride: int = 1
    use_bias: bool = True
    dtype: Dtype = jnp.float32
    kernel_init: nn.initializers.Initializer = torch_init

    @property
    def border(self) -> str | None:
        """What it has to see beyond the border of an image on a larger canvas, see `tcm_jax.detection.padding`."""
        return "zeros" if self.size > 1 else None

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        """x [b, h, w, d] -> [b, h / stride, w / stride, features]."""
        shape = (self.size, self.size, x.shape[-1], self.features)
        kernel = self.param("kernel", self.kernel_init, shape).astype(self.dtype)
        x = x.astype(self.dtype)
        if self.size == self.stride == 1:
            y = (x.reshape(-1, x.shape[-1]) @ kernel[0, 0]).reshape(*x.shape[:-1], self.features)
        elif self.stride == 1:
            y = trained_convolution(x, kernel)
        else:
            y = convolution(x, kernel, self.stride)
        if self.use_bias:
            y = y + self.param("bias", nn.initializers.zeros, (self.features,)).astype(self.dtype)
        return y


class ConvModule(nn.Module):
    """A convolution one level deeper in the tree, as mmcv's class of this name."""

    features: int
    size: int
    use_bias: bool
    dtype: Dtype
    kernel_init: nn.initializers.Initializer

    def setup(self):
        self.conv = Conv(
            self.features, self.size, use_bias=self.use_bias, dtype=self.dtype, kernel_init=self.kernel_init
        )

    def __call__(self, x: jax.Array) -> jax.Array:
        return self.conv(x)


class Deconv(nn.Module):
    """Transposed convolution of size and stride 2 with bias; `kernel` is [2, 2, in, out].

    Its windows do not overlap: every pixel becomes a square of four, each a matrix product of its own.
    """

    features: int
    dtype: Dtype = jnp.float32

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
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
    def __call__(self, x: jax.Array, train: bool = False) -> jax.Array:
        """x [b, h, w, d]. `train` normalizes by the batch and updates the running statistics."""
        features = x.shape[-1:]
        scale = self.param("scale", nn.initializers.ones, features)
        bias = self.param("bias", nn.initializers.zeros, features)
        mean = self.variable("batch_stats", "mean", jnp.zeros, features)
        var = self.variable("batch_stats", "var", jnp.ones, features)
        if train:
            y = x.astype(jnp.float32)
            now = y.mean((0, 1, 2))
            spread = jnp.square(y - now).mean((0, 1, 2))
            if not self.is_initializing():
                count = x.size // x.shape[-1]
                mean.value = 0.9 * mean.value + 0.1 * now
                var.value = 0.9 * var.value + 0.1 * spread * (count / max(count - 1, 1))
        else:
            now, spread = mean.value, var.value
        factor = scale * jax.lax.rsqrt(spread + 1e-5)
        return (x * factor + (bias - now * factor)).astype(self.dtype)


def upsample(x: jax.Array, factor: int) -> jax.Array:
    """Nearest neighbour, [b, h, w, d] -> [b, factor h, factor w, d]."""
    b, h, w, d = x.shape
    x = jnp.broadcast_to(x[:, :, None, :, None], (b, h, factor, w, factor, d))
    return x.reshape(b, factor * h, factor * w, d)


def resize_bilinear(x: jax.Array, size: Sequence[int]) -> jax.Array:
    """PyTorch's interpolate(mode="bilinear", align_corners=False): [b, h, w, d] -> [b, *size, d]."""
    b, _, _, d = x.shape
    return jax.image.resize(x, (b, *size, d), "bilinear", antialias=False)
