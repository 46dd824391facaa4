"""Feature pyramid and head of FCENet.

Sources: mmdet 2.19 models/necks/fpn.py and mmocr 0.4 models/textdet/dense_heads/fce_head.py; "Fourier Contour
Embedding for Arbitrary-Shaped Text Detection" (CVPR 2021).
"""

from collections.abc import Sequence
from typing import NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp

from tcm_jax.models.convolution import Conv, ConvModule, upsample
from tcm_jax.models.layers import Dtype


class Level(NamedTuple):
    """Outputs of the head at one stride, float32.

    Args:
        logits: [b, h, w, 4], text region (no, yes) and center region (no, yes).
        coefficients: [b, h, w, 2 (2 k + 1)], real and then imaginary parts of the contour's Fourier coefficients
            -k..k in pixels of this level; the 0th is the offset of the center from the pixel.
    """

    logits: jax.Array
    coefficients: jax.Array


class FPN(nn.Module):
    """Feature pyramid without levels of its own: every stage plus all coarser ones, each through a convolution."""

    channels: int = 256
    dtype: Dtype = jnp.float32

    @nn.compact
    def __call__(self, stages: Sequence[jax.Array], train: bool = False) -> list[jax.Array]:
        """Maps [b, h, w, d], finest first, each half the size of the one before -> the same with `channels`."""

        def convolution(x: jax.Array, size: int, name: str) -> jax.Array:
            init = nn.initializers.xavier_uniform()
            return ConvModule(self.channels, size, True, self.dtype, init, name=name)(x)

        levels = [convolution(x, 1, f"lateral_convs_{i}") for i, x in enumerate(stages)]
        for i in range(len(levels) - 1, 0, -1):
            levels[i - 1] += upsample(levels[i], 2)
        return [convolution(x, 3, f"fpn_convs_{i}") for i, x in enumerate(levels)]


class FCEHead(nn.Module):
    """Two convolutions, shared by all levels."""

    degree: int = 5
    dtype: Dtype = jnp.float32

    def setup(self) -> None:
        """Makes the layers."""
        init = nn.initializers.normal(0.01)
        self.out_conv_cls = Conv(4, dtype=self.dtype, kernel_init=init)
        self.out_conv_reg = Conv(2 * (2 * self.degree + 1), dtype=self.dtype, kernel_init=init)

    def __call__(self, levels: Sequence[jax.Array], train: bool = False) -> list[Level]:
        """Maps [b, h, w, d] -> logits and coefficients of each."""
        return [
            Level(self.out_conv_cls(x).astype(jnp.float32), self.out_conv_reg(x).astype(jnp.float32)) for x in levels
        ]
