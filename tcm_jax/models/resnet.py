"""CLIP's ModifiedResNet: three-convolution stem, average pools for strides, attention pooling.

Source: openai/CLIP clip/model.py (ModifiedResNet, Bottleneck, AttentionPool2d); with dense attention pooling
TCM's ocrclip/models.py (CLIPResNetWithAttention).
"""

from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp

from tcm_jax.models.convolution import BatchNorm, Conv
from tcm_jax.models.layers import Dense, Dtype, attend, heads_first, remat_block, rows_over_mesh

STRIDE = 32  # of the last stage


def average_pool(x: jax.Array, stride: int) -> jax.Array:
    """x [b, h, w, d] -> [b, h / stride, w / stride, d]."""
    return x if stride == 1 else nn.avg_pool(x, (stride, stride), (stride, stride))


def conv_norm(
    x: jax.Array, features: int, size: int, conv: str, norm: str, train: bool, dtype: Dtype, stride: int = 1
) -> jax.Array:
    """Convolution without bias and BatchNorm, named `conv` and `norm`."""
    x = Conv(features, size, stride, use_bias=False, dtype=dtype, name=conv)(x)
    return BatchNorm(dtype, name=norm)(x, train)


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


def valid_tokens(grid: tuple[int, int], size: jax.Array) -> jax.Array:
    """Which tokens of a padded canvas belong to the image.

    Args:
        grid: rows and columns of the canvas.
        size: rows and columns of the images, int [b, 2].

    Returns:
        bool [b, rows * columns].
    """
    rows, columns = (jnp.arange(n) < size[:, axis, None] for axis, n in enumerate(grid))  # [b, rows], [b, columns]
    return (rows[:, :, None] & columns[:, None, :]).reshape(size.shape[0], -1)


def interpolation(target: int, source: int, size: jax.Array) -> jax.Array:
    """Weights that stretch `source` values linearly over the first `size` of `target` places.

    As PyTorch's interpolate(mode="bilinear", align_corners=False, antialias=False) in one dimension; equal lengths
    give the identity.

    Args:
        size: int [b].

    Returns:
        [b, target, source]; what lies behind `size` repeats the last value.
    """
    scale = source / size[:, None].astype(jnp.float32)
    at = jnp.clip((jnp.arange(target) + 0.5) * scale - 0.5, 0, source - 1)  # [b, target]
    return nn.relu(1 - jnp.abs(at[:, :, None] - jnp.arange(source)))


class AttentionPool(nn.Module):
    """Multi-head attention over the mean feature and all features, with an embedding of positions.

    The table of positions belongs to `grid`, (rows, columns); for another one it is interpolated bilinearly.
    """

    heads: int
    features: int
    grid: tuple[int, int]
    dtype: Dtype = jnp.float32

    @nn.compact
    def __call__(self, x: jax.Array, dense: bool = False, size: jax.Array | None = None) -> jax.Array:
        """Pooled features.

        Args:
            x: [b, h, w, d].
            dense: pool for every feature, not only for the mean.
            size: rows and columns that count, int [b, 2]; the others are padding. None: all count.

        Returns:
            [b, 1, features], of the mean; `dense` [b, 1 + h w, features].
        """
        b, h, w, d = x.shape
        rows, columns = self.grid
        table = self.param("positional_embedding", nn.initializers.normal(d**-0.5), (1 + rows * columns, d))
        extent = jnp.array([[h, w]]) if size is None else size
        positions = jnp.einsum(
            "byr,bxc,rcd->byxd",
            interpolation(h, rows, extent[:, 0]),
            interpolation(w, columns, extent[:, 1]),
            table[1:].reshape(rows, columns, d),
            precision=jax.lax.Precision.HIGHEST,
        ).reshape(-1, h * w, d)
        x = x.reshape(b, h * w, d)
        mask = None
        if size is None:
            mean = x.mean(1, keepdims=True)
        else:
            valid = valid_tokens((h, w), size)
            mean = (x * valid[:, :, None]).sum(1, keepdims=True) / valid.sum(1)[:, None, None]
            mask = jnp.concatenate([jnp.ones((b, 1), bool), valid], axis=1)[:, None, None]  # [b, 1, 1, 1 + n]
        x = jnp.concatenate([mean + table[0], x + positions], axis=1).astype(self.dtype)[:, None]  # [b, 1, 1 + n, d]
        split = (self.heads, d // self.heads)
        query = heads_first(Dense(split, dtype=self.dtype, name="q_proj")(x if dense else x[:, :, :1]))
        key = heads_first(Dense(split, dtype=self.dtype, name="k_proj")(x))
        value = heads_first(Dense(split, dtype=self.dtype, name="v_proj")(x))
        x = attend(query, [(key, value)], mask).transpose(0, 2, 3, 1, 4)  # [b, 1, q, k, e]
        return Dense(self.features, inputs=2, dtype=self.dtype, name="c_proj")(x)[:, 0]


class Features(NamedTuple):
    """Maps of the four stages, [b, h / 4, w / 4, d] to [b, h / 32, w / 32, 8 d], and the pooled tokens."""

    stages: list[jax.Array]
    tokens: jax.Array | None


class ModifiedResNet(nn.Module):
    """The image tower of CLIP's RN50 family. `vision_width` is the width after the stem.

    Args:
        attention_pool: off leaves the stages alone (TCM's baseline).
    """

    config: Any  # ClipConfig
    dtype: Dtype = jnp.float32
    remat: str = "none"
    attention_pool: bool = True

    @nn.compact
    def __call__(
        self, images: jax.Array, dense: bool = False, train: bool = False, size: jax.Array | None = None
    ) -> Features:
        """Features of normalized `images` [b, h, w, 3], sides multiples of 32.

        Args:
            dense: tokens for every place of the last stage, [b, 1 + n, embed_dim], else the pooled one,
                [b, 1, embed_dim].
            train: BatchNorm uses and updates the statistics of the batch.
            size: height and width of the images within a padded canvas, int [b, 2], multiples of 32.

        The stem's output is sown as an intermediate.

        Raises:
            ValueError: sides that are no multiples of 32.
        """
        c, width = self.config, self.config.vision_width
        if any(n % STRIDE for n in images.shape[1:3]):
            raise ValueError(f"images of {images.shape[1]} x {images.shape[2]}; sides must be multiples of {STRIDE}")
        x = images.astype(self.dtype)
        for i, (features, stride) in enumerate([(width // 2, 2), (width // 2, 1), (width, 1)], start=1):
            x = nn.relu(conv_norm(x, features, 3, f"conv{i}", f"bn{i}", train, self.dtype, stride))
        x = rows_over_mesh(average_pool(x, 2))
        self.sow("intermediates", "stem", x)
        block = remat_block(Bottleneck, self.remat, static=(2,))
        stages = []
        for stage, blocks in enumerate(c.vision_layers):
            for i in range(blocks):
                stride = 2 if stage and i == 0 else 1
                x = rows_over_mesh(block(width * 2**stage, stride, self.dtype, name=f"layer{stage + 1}_{i}")(x, train))
            stages.append(x)
        if not self.attention_pool:
            return Features(stages, None)
        grid = c.image_size[0] // STRIDE, c.image_size[1] // STRIDE
        pool = AttentionPool(c.vision_heads, c.embed_dim, grid, self.dtype, name="attnpool")
        return Features(stages, pool(x, dense, None if size is None else size // STRIDE))
