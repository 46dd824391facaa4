"""FPNC and the head of DBNet.

Sources: mmocr 0.4 models/textdet/necks/fpnc.py and dense_heads/db_head.py; "Real-time Scene Text Detection with
Differentiable Binarization" (AAAI 2020).
"""

from collections.abc import Sequence

import flax.linen as nn
import jax
import jax.numpy as jnp

from tcm_jax.models.convolution import BatchNorm, Conv, ConvModule, Deconv, upsample
from tcm_jax.models.layers import Dtype


class FPNC(nn.Module):
    """Feature pyramid whose levels are brought to stride 4 and concatenated, finest first."""

    lateral_channels: int = 256
    out_channels: int = 64
    dtype: Dtype = jnp.float32

    @nn.compact
    def __call__(self, stages: Sequence[jax.Array], train: bool = False) -> jax.Array:
        """Four maps, strides 4 to 32 -> [b, h / 4, w / 4, 4 out_channels]."""

        def convolution(x: jax.Array, features: int, size: int, name: str) -> jax.Array:
            init = nn.initializers.kaiming_normal()
            return ConvModule(features, size, False, self.dtype, init, name=name)(x)

        levels = [convolution(x, self.lateral_channels, 1, f"lateral_convs_{i}") for i, x in enumerate(stages)]
        for i in range(len(levels) - 1, 0, -1):
            levels[i - 1] += upsample(levels[i], 2)
        smooth = [
            upsample(convolution(x, self.out_channels, 3, f"smooth_convs_{i}"), 2**i) for i, x in enumerate(levels)
        ]
        return jnp.concatenate(smooth, axis=-1)


class DBHead(nn.Module):
    """Probability and threshold maps, and their differentiable binarization."""

    steepness: float = 50.0
    dtype: Dtype = jnp.float32

    @nn.compact
    def __call__(self, x: jax.Array, train: bool = False) -> jax.Array:
        """x [b, h / 4, w / 4, d] -> float32 [b, h, w, 3]: probability, threshold and binary map, each 0..1.

        The logits of the first two are sown.
        """
        logits = [self._branch(x, name, train) for name in ("binarize", "threshold")]
        self.sow("intermediates", "logits", logits)
        probability, threshold = (jax.nn.sigmoid(y) for y in logits)
        binary = jax.nn.sigmoid(self.steepness * (probability - threshold))
        return jnp.stack([probability, threshold, binary], axis=-1)

    def _branch(self, x: jax.Array, name: str, train: bool) -> jax.Array:
        """Logits at full resolution, float32 [b, h, w]. Numbers in names are places in PyTorch's Sequential."""
        d = x.shape[-1] // 4
        x = Conv(d, 3, use_bias=False, dtype=self.dtype, name=f"{name}_0")(x)
        x = nn.relu(BatchNorm(self.dtype, name=f"{name}_1")(x, train))
        x = Deconv(d, self.dtype, name=f"{name}_3")(x)
        x = nn.relu(BatchNorm(self.dtype, name=f"{name}_4")(x, train))
        return Deconv(1, self.dtype, name=f"{name}_6")(x)[..., 0].astype(jnp.float32)
