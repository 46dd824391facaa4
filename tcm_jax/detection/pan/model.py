"""FPEM_FFM, the neck of PAN, and its head.

Sources: mmocr 0.4 models/textdet/necks/fpem_ffm.py and dense_heads/pan_head.py; "Efficient and Accurate
Arbitrary-Shaped Text Detection with Pixel Aggregation Network" (ICCV 2019), sections 3.2 and 3.3.
"""

import functools
from collections.abc import Sequence
from typing import ClassVar

import flax.linen as nn
import jax
import jax.numpy as jnp

from tcm_jax.models.convolution import BatchNorm, Conv, resize_bilinear, upsample
from tcm_jax.models.layers import Dtype

xavier_init = nn.initializers.xavier_uniform()
OUTPUTS = 6  # text logit, kernel logit, embedding of 4


class DepthwiseConv(nn.Module):
    """3 x 3 convolution of every channel with its own window, padded by 1; `kernel` is [3, 3, 1, d].

    A sum of nine shifted maps: XLA fuses it into one loop, where its grouped convolution takes 60 times as long on
    CPUs.
    """

    border: ClassVar = "zeros"  # see `tcm_jax.detection.padding`
    stride: int = 1
    dtype: Dtype = jnp.float32

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        """x [b, h, w, d] -> [b, h / stride, w / stride, d]."""
        _, h, w, d = x.shape
        kernel = self.param("kernel", xavier_init, (3, 3, 1, d)).astype(self.dtype)
        bias = self.param("bias", nn.initializers.zeros, (d,)).astype(self.dtype)
        padded = jnp.pad(x.astype(self.dtype), ((0, 0), (1, 1), (1, 1), (0, 0)))
        shifts = [(i, j) for i in range(3) for j in range(3)]
        maps = (padded[:, i : i + h : self.stride, j : j + w : self.stride] * kernel[i, j] for i, j in shifts)
        return sum(maps, start=bias)


class SeparableConv(nn.Module):
    """A depthwise and a 1 x 1 convolution, BatchNorm, ReLU."""

    stride: int = 1
    dtype: Dtype = jnp.float32

    @nn.compact
    def __call__(self, x: jax.Array, train: bool = False) -> jax.Array:
        """x [b, h, w, d] -> [b, h / stride, w / stride, d]."""
        d = x.shape[-1]
        x = DepthwiseConv(self.stride, self.dtype, name="depthwise_conv")(x)
        x = Conv(d, 1, dtype=self.dtype, kernel_init=xavier_init, name="pointwise_conv")(x)
        return nn.relu(BatchNorm(self.dtype, name="bn")(x, train))


class FPEM(nn.Module):
    """Feature pyramid enhancement: adds each level to the next finer one and then to the next coarser one."""

    dtype: Dtype = jnp.float32

    @nn.compact
    def __call__(self, levels: Sequence[jax.Array], train: bool = False) -> list[jax.Array]:
        """Four maps, finest first -> the same shapes."""
        levels = list(levels)
        for n, i in enumerate((2, 1, 0), start=1):
            fused = upsample(levels[i + 1], 2) + levels[i]
            levels[i] = SeparableConv(1, self.dtype, name=f"up_add{n}")(fused, train)
        for i in (1, 2, 3):
            fused = upsample(levels[i], 2) + levels[i - 1]
            levels[i] = SeparableConv(2, self.dtype, name=f"down_add{i}")(fused, train)
        return levels


class FPEM_FFM(nn.Module):  # noqa: N801, the name of the original
    """Levels of equal width, enhanced `repeats` times and summed level by level.

    FFM's bilinear enlargement to stride 4 is left to the head, which does it on fewer channels.
    """

    channels: int = 128
    repeats: int = 2
    dtype: Dtype = jnp.float32

    @nn.compact
    def __call__(self, stages: Sequence[jax.Array], train: bool = False) -> list[jax.Array]:
        """Four maps, strides 4 to 32 -> the same sizes, `channels` wide."""
        levels = []
        for i, stage in enumerate(stages, start=2):
            conv = Conv(self.channels, 1, dtype=self.dtype, kernel_init=xavier_init, name=f"reduce_conv_c{i}_0")
            levels.append(nn.relu(BatchNorm(self.dtype, name=f"reduce_conv_c{i}_1")(conv(stage), train)))
        outputs = []
        for i in range(self.repeats):
            levels = FPEM(self.dtype, name=f"fpems_{i}")(levels, train)
            outputs.append(levels)
        return [functools.reduce(jnp.add, same_size) for same_size in zip(*outputs, strict=True)]


class PyramidConv(nn.Module):
    """1 x 1 convolution of all levels, enlarged bilinearly to the finest and concatenated.

    Enlarging and mixing channels commute: each level first meets its rows of the kernel.
    """

    border: ClassVar = "edge"  # see `tcm_jax.detection.padding`
    features: int
    dtype: Dtype = jnp.float32

    @nn.compact
    def __call__(self, levels: Sequence[jax.Array]) -> jax.Array:
        """Four maps, finest first -> float32 [b, h / 4, w / 4, features]."""
        widths = [level.shape[-1] for level in levels]
        kernel = self.param("kernel", nn.initializers.normal(0.01), (1, 1, sum(widths), self.features))
        bias = self.param("bias", nn.initializers.zeros, (self.features,))
        total = bias
        _, h, w, _ = levels[0].shape
        for level, rows in zip(levels, jnp.split(kernel[0, 0].astype(self.dtype), len(levels)), strict=True):
            part = (level.astype(self.dtype) @ rows).astype(jnp.float32)
            total = total + resize_bilinear(part, (h, w))
        return total


class PANHead(nn.Module):
    """Logits of text and of kernels, and an embedding that tells instances apart."""

    dtype: Dtype = jnp.float32

    @nn.compact
    def __call__(self, levels: Sequence[jax.Array], train: bool = False) -> jax.Array:
        """Maps of the neck -> float32 [b, h / 4, w / 4, 6]: text logit, kernel logit, embedding."""
        return PyramidConv(OUTPUTS, self.dtype, name="out_conv")(levels)
