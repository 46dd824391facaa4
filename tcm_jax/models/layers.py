"""Layers that CLIP's towers and the recognizer's decoders share."""

from collections.abc import Callable, Sequence
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

Dtype = Any
KeyValue = tuple[jax.Array, jax.Array]  # keys and values, [b, g, m, k, e] each

# PyTorch initialisers of the original: truncated normal for the decoders, normal for CLIP.
decoder_init = nn.initializers.truncated_normal(0.02)


def quick_gelu(x: jax.Array) -> jax.Array:
    """OpenAI CLIP's activation, x * sigmoid(1.702 x)."""
    return x * jax.nn.sigmoid(1.702 * x)


def exact_gelu(x: jax.Array) -> jax.Array:
    """x * Phi(x); JAX's default is the tanh approximation, PyTorch's is this."""
    return jax.nn.gelu(x, approximate=False)


ACTIVATIONS: dict[str, Callable[[jax.Array], jax.Array]] = {"quick_gelu": quick_gelu, "gelu": exact_gelu}


class LayerNorm(nn.Module):
    """Layer normalization in float32, with PyTorch's epsilon; the result has the dtype of the input."""

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        scale = self.param("scale", nn.initializers.ones, x.shape[-1:])
        bias = self.param("bias", nn.initializers.zeros, x.shape[-1:])
        y = x.astype(jnp.float32)
        y = y - y.mean(-1, keepdims=True)
        y = y * jax.lax.rsqrt((y * y).mean(-1, keepdims=True) + 1e-5)
        return (y * scale + bias).astype(x.dtype)


def attend(
    query: jax.Array,
    memories: Sequence[KeyValue],
    mask: jax.Array | None = None,
    drop: Callable[[jax.Array], jax.Array] = lambda weights: weights,
) -> jax.Array:
    """Scaled dot-product attention of grouped queries over one or several memories.

    The groups `g` are alternatives of one sample (the permutations of a label). A memory with g = 1 serves all of
    them without being repeated; the softmax runs over all memories together.

    Args:
        query: [b, g, q, k, e].
        memories: keys and values, [b, g or 1, m_i, k, e] each.
        mask: True where a key is visible, broadcasting to [b, g, k, q, sum of m_i].
        drop: applied to the attention weights.

    Returns:
        [b, g, q, k, e] in the dtype of `query`.
    """
    query = query * (query.shape[-1] ** -0.5)
    groups = query.shape[1]

    def shared(array: jax.Array) -> bool:
        return array.shape[1] == 1 and groups > 1

    scores = [
        jnp.einsum("bgqke,bmke->bgkqm", query, key[:, 0])
        if shared(key)
        else jnp.einsum("bgqke,bgmke->bgkqm", query, key)
        for key, _ in memories
    ]
    score = jnp.concatenate(scores, -1).astype(jnp.float32)  # [b, g, k, q, m]
    if mask is not None:
        score = jnp.where(mask, score, -jnp.inf)
    weights = drop(jax.nn.softmax(score, axis=-1)).astype(query.dtype)

    result, start = jnp.zeros((), query.dtype), 0
    for key, value in memories:
        part = weights[..., start : start + key.shape[2]]
        start += key.shape[2]
        if shared(value):
            result += jnp.einsum("bgkqm,bmke->bgqke", part, value[:, 0])
        else:
            result += jnp.einsum("bgkqm,bgmke->bgqke", part, value)
    return result


class Attention(nn.Module):
    """Multi-head attention with separate projections (PyTorch's fused `in_proj` split in three).

    The pieces are methods, so that a decoder projects its memory once and attends to it many times.
    """

    width: int
    heads: int
    dtype: Dtype = jnp.float32
    kernel_init: Callable = nn.initializers.lecun_normal()

    def setup(self):
        split = (self.heads, self.width // self.heads)
        dense = {"dtype": self.dtype, "kernel_init": self.kernel_init}
        self.query = nn.DenseGeneral(split, **dense)
        self.key = nn.DenseGeneral(split, **dense)
        self.value = nn.DenseGeneral(split, **dense)
        self.out = nn.DenseGeneral(self.width, axis=(-2, -1), **dense)

    def key_value(self, memory: jax.Array) -> KeyValue:
        """Keys and values of `memory` [..., m, d], [..., m, k, e] each."""
        return self.key(memory), self.value(memory)

    def __call__(
        self,
        x: jax.Array,
        memories: Sequence[KeyValue],
        mask: jax.Array | None = None,
        drop: Callable[[jax.Array], jax.Array] = lambda weights: weights,
    ) -> jax.Array:
        """Attention of `x` [b, g, q, d] over projected memories; see `attend`. [b, g, q, d]."""
        return self.out(attend(self.query(x), memories, mask, drop))


class TransformerBlock(nn.Module):
    """Pre-norm block of CLIP's towers (ResidualAttentionBlock in openai/CLIP clip/model.py)."""

    width: int
    heads: int
    activation: str = "quick_gelu"
    dtype: Dtype = jnp.float32

    @nn.compact
    def __call__(self, x: jax.Array, mask: jax.Array | None = None) -> jax.Array:
        """x [b, n, d]; mask: True where a key is visible, [n, n] or None. [b, n, d]."""
        attention = Attention(self.width, self.heads, self.dtype, name="attn")
        y = LayerNorm(name="ln_1")(x)[:, None]  # [b, 1, n, d]
        x = x + attention(y, [attention.key_value(y)], mask)[:, 0]
        y = LayerNorm(name="ln_2")(x)
        y = nn.Dense(4 * self.width, dtype=self.dtype, name="c_fc")(y)
        y = ACTIVATIONS[self.activation](y)
        return x + nn.Dense(self.width, dtype=self.dtype, name="c_proj")(y)


class Transformer(nn.Module):
    """A stack of blocks named resblocks_0, resblocks_1, ..."""

    width: int
    layers: int
    heads: int
    activation: str = "quick_gelu"
    dtype: Dtype = jnp.float32

    def setup(self):
        self.resblocks = [
            TransformerBlock(self.width, self.heads, self.activation, self.dtype) for _ in range(self.layers)
        ]

    def __call__(self, x: jax.Array, mask: jax.Array | None = None) -> jax.Array:
        """x [b, n, d] -> [b, n, d]. Every block's output is sown as an intermediate."""
        for block in self.resblocks:
            x = block(x, mask)
            self.sow("intermediates", "blocks", x)
        return x
