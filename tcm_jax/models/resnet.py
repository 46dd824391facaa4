"""CLIP's ModifiedResNet: three-convolution stem, average pools for strides, attention pooling.

Source: openai/CLIP clip/model.py (ModifiedResNet, Bottleneck, AttentionPool2d).
"""

from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from tcm_jax.models.layers import Dense, Dtype, attend, heads_first


def average_pool(x: jax.Array, stride: int) -> jax.Array:
    """x [b, h, w, d] -> [b, h / stride, w / stride, d]."""
    return x if stride == 1 else nn.avg_pool(x, (stride, stride), (stride, stride))


def conv_norm(
    x: jax.Array, features: int, kernel: int, conv: str, norm: str, train: bool, dtype: Dtype, stride: int = 1
) -> jax.Array:
    """Convolution without bias and BatchNorm (PyTorch's epsilon and momentum), named `conv` and `norm`."""
    pad = kernel // 2
    x = nn.Conv(features, (kernel, kernel), stride, padding=pad, use_bias=False, dtype=dtype, name=conv)(x)
    return nn.BatchNorm(not train, momentum=0.9, epsilon=1e-5, dtype=dtype, name=norm)(x)


class Bottleneck(nn.Module):
    """1x1, 3x3, average pool, 1x1; the short cut pools before its 1x1."""

    planes: int
    stride: int = 1
    dtype: Dtype = jnp.float32

    @nn.compact
    def __call__(self, x: jax.Array, train: bool = False) -> jax.Array:
        """x [b, h, w, d] -> [b, h / stride, w / stride, 4 planes]."""
        y = nn.relu(conv_norm(x, self.planes, 1, "conv1", "bn1", train, self.dtype))
        y = nn.relu(conv_norm(y, self.planes, 3, "conv2", "bn2", train, self.dtype))
        y = average_pool(y, self.stride)
        y = conv_norm(y, 4 * self.planes, 1, "conv3", "bn3", train, self.dtype)
        if self.stride > 1 or x.shape[-1] != 4 * self.planes:
            x = average_pool(x, self.stride)
            x = conv_norm(x, 4 * self.planes, 1, "downsample_0", "downsample_1", train, self.dtype)
        return nn.relu(x + y)


class AttentionPool(nn.Module):
    """Multi-head attention of the mean feature over all features."""

    heads: int
    features: int
    positions: int
    dtype: Dtype = jnp.float32

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        """x [b, h, w, d] -> [b, 1, features]."""
        b, _, _, d = x.shape
        x = x.reshape(b, -1, d)
        x = jnp.concatenate([x.mean(1, keepdims=True), x], axis=1)  # [b, 1 + n, d]
        x = x + self.param("positional_embedding", nn.initializers.normal(d**-0.5), (1 + self.positions, d)).astype(
            self.dtype
        )
        x = x[:, None]  # [b, 1, 1 + n, d]
        split = (self.heads, d // self.heads)
        query = heads_first(Dense(split, dtype=self.dtype, name="q_proj")(x[:, :, :1]))
        key = heads_first(Dense(split, dtype=self.dtype, name="k_proj")(x))
        value = heads_first(Dense(split, dtype=self.dtype, name="v_proj")(x))
        x = attend(query, [(key, value)]).transpose(0, 2, 3, 1, 4)  # [b, 1, 1, k, e]
        return Dense(self.features, inputs=2, dtype=self.dtype, name="c_proj")(x)[:, 0]


class ModifiedResNet(nn.Module):
    """The image tower of CLIP's RN50 family. `vision_width` is the width after the stem."""

    config: Any  # ClipConfig
    dtype: Dtype = jnp.float32

    @nn.compact
    def __call__(self, images: jax.Array, project: bool = True, train: bool = False) -> jax.Array:
        """Pooled feature of normalized `images` [b, h, w, 3]: [b, 1, embed_dim].

        The stem's and the stages' outputs are sown as intermediates.

        Raises:
            ValueError: `project` is off; attention pooling and projection are one layer here.
        """
        if not project:
            raise ValueError("a ModifiedResNet has no unprojected token output")
        c, width = self.config, self.config.vision_width
        x = images.astype(self.dtype)
        for i, (features, stride) in enumerate([(width // 2, 2), (width // 2, 1), (width, 1)], start=1):
            x = nn.relu(conv_norm(x, features, 3, f"conv{i}", f"bn{i}", train, self.dtype, stride))
        x = average_pool(x, 2)
        self.sow("intermediates", "stem", x)
        for stage, blocks in enumerate(c.vision_layers):
            for i in range(blocks):
                stride = 2 if stage and i == 0 else 1
                x = Bottleneck(width * 2**stage, stride, self.dtype, name=f"layer{stage + 1}_{i}")(x, train)
            self.sow("intermediates", f"layer{stage + 1}", x)
        h, w = c.image_size
        pool = AttentionPool(c.vision_heads, c.embed_dim, (h // 32) * (w // 32), self.dtype, name="attnpool")
        return pool(x)
