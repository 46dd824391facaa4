"""CLIP's ModifiedResNet: three-convolution stem, average pools for strides, attention pooling.

Source: openai/CLIP clip/model.py (ModifiedResNet, Bottleneck, AttentionPool2d); with dense attention pooling
TCM's ocrclip/models.py (CLIPResNetWithAttention).
"""

from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax import Array

from tcm_jax.models.convolution import BatchNorm, Conv
from tcm_jax.models.layers import Dtype, project_and_attend, remat_block, shard_batch

STRIDE = 32  # of the last stage


def average_pool(x: Array, stride: int) -> Array:
    """x [b, h, w, d] -> [b, h / stride, w / stride, d]."""
    return x if stride == 1 else nn.avg_pool(x, (stride, stride), (stride, stride))


def conv_norm(
    x: Array, features: int, size: int, conv: str, norm: str, train: bool, dtype: Dtype, stride: int = 1
) -> Array:
    """A convolution without bias and BatchNorm, as layers of a compact module with the names `conv` and `norm`.

    x [b, h, w, d] -> [b, h / stride, w / stride, features]; `train` is that of `BatchNorm`.
    """
    x = Conv(features, size, stride, use_bias=False, dtype=dtype, name=conv)(x)
    return BatchNorm(dtype, name=norm)(x, train)


class Bottleneck(nn.Module):
    """Residual block of 1x1, 3x3, average pool and 1x1; the shortcut pools before its 1x1."""

    planes: int
    stride: int = 1
    dtype: Dtype = jnp.float32

    @nn.compact
    def __call__(self, x: Array, train: bool = False) -> Array:
        """x [b, h, w, d] -> [b, h / stride, w / stride, 4 planes]."""
        y = nn.relu(conv_norm(x, self.planes, 1, "conv1", "bn1", train, self.dtype))
        y = nn.relu(conv_norm(y, self.planes, 3, "conv2", "bn2", train, self.dtype))
        y = average_pool(y, self.stride)
        y = conv_norm(y, 4 * self.planes, 1, "conv3", "bn3", train, self.dtype)
        if self.stride > 1 or x.shape[-1] != 4 * self.planes:
            x = average_pool(x, self.stride)
            x = conv_norm(x, 4 * self.planes, 1, "downsample_0", "downsample_1", train, self.dtype)
        return nn.relu(x + y)


def valid_tokens(grid: tuple[int, int], size: Array) -> Array:
    """Mask of the tokens of a padded canvas that belong to the image.

    Args:
        grid: rows and columns of tokens of the canvas.
        size: rows and columns of tokens of the images, int [b, 2].

    Returns:
        bool [b, rows * columns].
    """
    rows, columns = (jnp.arange(n) < size[:, axis, None] for axis, n in enumerate(grid))  # [b, rows], [b, columns]
    return (rows[:, :, None] & columns[:, None, :]).reshape(size.shape[0], -1)


def interpolation_matrix(target: int, source: int, size: Array) -> Array:
    """Weights that resize `source` values linearly to the first `size` of `target` values.

    As PyTorch's interpolate(mode="bilinear", align_corners=False, antialias=False) in one dimension; equal lengths
    give the identity.

    Args:
        size: int [b].

    Returns:
        [b, target, source]; rows after `size` repeat the last value.
    """
    scale = source / size[:, None].astype(jnp.float32)
    at = jnp.clip((jnp.arange(target) + 0.5) * scale - 0.5, 0, source - 1)  # [b, target]
    return nn.relu(1 - jnp.abs(at[:, :, None] - jnp.arange(source)))


class AttentionPool(nn.Module):
    """Multi-head attention over the mean feature and all features, with a position embedding.

    The position embedding has the size `grid`, (rows, columns); for another size it is resized bilinearly.
    """

    heads: int
    features: int
    grid: tuple[int, int]
    dtype: Dtype = jnp.float32

    @nn.compact
    def __call__(self, x: Array, dense: bool = False, size: Array | None = None) -> Array:
        """Pooled features.

        Args:
            x: [b, h, w, d].
            dense: every feature is a query, not only the mean.
            size: rows and columns of the image, int [b, 2]; the others are padding. None: no padding.

        Returns:
            [b, 1, features], of the mean; with `dense` [b, 1 + h w, features].
        """
        b, h, w, d = x.shape
        rows, columns = self.grid
        table = self.param("positional_embedding", nn.initializers.normal(d**-0.5), (1 + rows * columns, d))
        extent = jnp.array([[h, w]]) if size is None else size
        positions = jnp.einsum(
            "byr,bxc,rcd->byxd",
            interpolation_matrix(h, rows, extent[:, 0]),
            interpolation_matrix(w, columns, extent[:, 1]),
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
            mask = jnp.concatenate([jnp.ones((b, 1), bool), valid], axis=1)  # [b, 1 + n]
        x = jnp.concatenate([mean + table[0], x + positions], axis=1).astype(self.dtype)  # [b, 1 + n, d]
        query = x if dense else x[:, :1]
        return project_and_attend(query, x, mask, self.features, self.heads, "c_proj", dtype=self.dtype)


class Features(NamedTuple):
    """Feature maps of the four stages, [b, h / 4, w / 4, d] to [b, h / 32, w / 32, 8 d], and the pooled tokens."""

    stages: list[Array]
    tokens: Array | None


class ModifiedResNet(nn.Module):
    """The image tower of CLIP's RN50 family. `vision_width` is the width after the stem.

    Args:
        attention_pool: False gives no tokens, as in TCM's baseline.
    """

    config: Any  # CLIPConfig, whose module imports this one
    dtype: Dtype = jnp.float32
    remat: str = "none"
    attention_pool: bool = True

    @nn.compact
    def __call__(self, images: Array, dense: bool = False, train: bool = False, size: Array | None = None) -> Features:
        """Features of normalized `images` [b, h, w, 3], sides multiples of 32.

        Args:
            dense: tokens of every position of the last stage, [b, 1 + n, embed_dim]; else the pooled one alone,
                [b, 1, embed_dim].
            train: BatchNorm uses and updates the statistics of the batch.
            size: height and width of the images on a padded canvas, int [b, 2], multiples of 32.

        The stem's output is sown as an intermediate.

        Raises:
            ValueError: sides are not multiples of 32.
        """
        c, width = self.config, self.config.vision_width
        if any(n % STRIDE for n in images.shape[1:3]):
            raise ValueError(f"images of {images.shape[1]} x {images.shape[2]}; sides must be multiples of {STRIDE}")
        x = images.astype(self.dtype)
        for i, (features, stride) in enumerate([(width // 2, 2), (width // 2, 1), (width, 1)], start=1):
            x = nn.relu(conv_norm(x, features, 3, f"conv{i}", f"bn{i}", train, self.dtype, stride))
        x = shard_batch(average_pool(x, 2))
        self.sow("intermediates", "stem", x)
        block = remat_block(Bottleneck, self.remat, static=(2,))
        stages = []
        for stage, blocks in enumerate(c.vision_layers):
            for i in range(blocks):
                stride = 2 if stage and i == 0 else 1
                x = shard_batch(block(width * 2**stage, stride, self.dtype, name=f"layer{stage + 1}_{i}")(x, train))
            stages.append(x)
        if not self.attention_pool:
            return Features(stages, None)
        grid = c.image_size[0] // STRIDE, c.image_size[1] // STRIDE
        pool = AttentionPool(c.vision_heads, c.embed_dim, grid, self.dtype, name="attnpool")
        return Features(stages, pool(x, dense, None if size is None else size // STRIDE))
