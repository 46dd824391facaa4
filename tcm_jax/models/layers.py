"""Layers that CLIP's towers and the recognizer's decoders share."""

import functools
import itertools
import math
from collections.abc import Callable, Sequence
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

Dtype = Any
DTYPES = ("auto", "float32", "bfloat16")
KeyValue = tuple[jax.Array, jax.Array]  # keys and values, [b, k, g, m, e] each

# PyTorch initialisers of the original: truncated normal for the decoders, normal for CLIP.
decoder_init = nn.initializers.truncated_normal(0.02)


def quick_gelu(x: jax.Array) -> jax.Array:
    """OpenAI CLIP's activation, x * sigmoid(1.702 x)."""
    return x * jax.nn.sigmoid(1.702 * x)


def exact_gelu(x: jax.Array) -> jax.Array:
    """x * Phi(x); JAX's default is the tanh approximation, PyTorch's is this."""
    return jax.nn.gelu(x, approximate=False)


# Mesh axes over which the rows of a batch are spread; models know no other.
BATCH_AXES = ("data", "fsdp")

# What a block keeps of its forward pass for the backward pass; None keeps everything.
REMAT_POLICIES: dict[str, Callable | None] = {
    "none": None,
    "dots": jax.checkpoint_policies.dots_with_no_batch_dims_saveable,
    "full": jax.checkpoint_policies.nothing_saveable,
}


def rows_over_mesh(x: jax.Array) -> jax.Array:
    """x [b, ...] with its rows spread over the mesh and everything else whole on every device.

    Said of what flows between blocks, it makes XLA gather sharded weights, which are small, not activations. Without
    a mesh, or with rows that can't be spread evenly, x is as it was.
    """
    mesh = jax.sharding.get_abstract_mesh()
    axes = tuple(axis for axis in BATCH_AXES if axis in mesh.axis_names)
    if not axes or len(x) % math.prod(mesh.shape[axis] for axis in axes):
        return x
    return jax.lax.with_sharding_constraint(x, jax.sharding.PartitionSpec(axes))


def whole_on_mesh(x: jax.Array) -> jax.Array:
    """x with all of it on every device of the mesh, if there is one."""
    if jax.sharding.get_abstract_mesh().empty:
        return x
    return jax.lax.with_sharding_constraint(x, jax.sharding.PartitionSpec())


def remat_block(block: type[nn.Module], policy: str, static: tuple[int, ...] = ()) -> type[nn.Module]:
    """A block that computes again in the backward pass what `policy`, one of `REMAT_POLICIES`, does not keep.

    Args:
        static: numbers of the arguments that are no arrays, the module being 0.
    """
    if policy == "none":
        return block
    return nn.remat(block, policy=REMAT_POLICIES[policy], static_argnums=static)


ACTIVATIONS: dict[str, Callable[[jax.Array], jax.Array]] = {"quick_gelu": quick_gelu, "gelu": exact_gelu}


def compute_dtype(name: str):
    """The type that one of `DTYPES` stands for on this machine.

    Raises:
        ValueError: another name.
    """
    if name not in DTYPES:
        raise ValueError(f"dtype is {name!r}; expected one of {', '.join(DTYPES)}")
    if name == "auto":
        name = "float32" if jax.default_backend() == "cpu" else "bfloat16"
    return {"float32": jnp.float32, "bfloat16": jnp.bfloat16}[name]


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


class Embed(nn.Embed):
    """Rows of a table, which is gathered from the mesh first: XLA has no good way to look up in a sharded one."""

    def __call__(self, inputs: jax.Array) -> jax.Array:
        """Numbers of rows [b, ...] -> [b, ..., features]."""
        table = whole_on_mesh(self.embedding.astype(self.dtype))
        return rows_over_mesh(jnp.take(table, inputs, axis=0))


class Dense(nn.Module):
    """Linear layer from the last axes of the input to the axes `features`.

    As nn.DenseGeneral, but the product is always one of two matrices: XLA's CPU backend transposes whole activations
    in the backward pass of a product with several leading axes, which more than doubles its time.
    """

    features: int | tuple[int, ...]
    inputs: int = 1  # axes of the input that are contracted
    use_bias: bool = True
    dtype: Dtype = jnp.float32
    kernel_init: Callable = nn.initializers.lecun_normal()

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        features = (self.features,) if isinstance(self.features, int) else self.features
        rest, axes = x.shape[: -self.inputs], x.shape[-self.inputs :]
        matrix = math.prod(axes), math.prod(features)

        def init(key, shape, dtype=jnp.float32):
            return self.kernel_init(key, matrix, dtype).reshape(shape)

        kernel = self.param("kernel", init, (*axes, *features)).astype(self.dtype).reshape(matrix)
        y = x.astype(self.dtype).reshape(-1, matrix[0]) @ kernel
        if self.use_bias:
            y = y + self.param("bias", nn.initializers.zeros, features).astype(self.dtype).reshape(-1)
        return y.reshape(*rest, *features)


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
        query: [b, k, g, q, e].
        memories: keys and values, [b, k, g or 1, m_i, e] each.
        mask: True where a key is visible, broadcasting to [b, g, q, sum of m_i].
        drop: applied to the attention weights.

    Returns:
        [b, k, g, q, e] in the dtype of `query`.
    """
    query = query * (query.shape[-1] ** -0.5)
    b, k, g, q, _ = query.shape

    def product(equation: str, x: jax.Array, y: jax.Array) -> jax.Array:
        """Groups of x with their groups of y, or all of them at once with the one that they share."""
        if y.shape[2] == 1:
            return jnp.einsum(equation, x.reshape(b, k, g * q, -1), y[:, :, 0]).reshape(b, k, g, q, -1)
        return jnp.einsum(equation, x.reshape(b, k * g, q, -1), y.reshape(b, k * g, *y.shape[3:])).reshape(
            b, k, g, q, -1
        )

    scores = [product("bkqe,bkme->bkqm", query, key) for key, _ in memories]
    score = jnp.concatenate(scores, -1).astype(jnp.float32)  # [b, k, g, q, m]
    if mask is not None:
        score = jnp.where(jnp.expand_dims(mask, -4) if mask.ndim == 4 else mask, score, -jnp.inf)
    weights = drop(jax.nn.softmax(score, axis=-1)).astype(query.dtype)
    ends = list(itertools.accumulate(key.shape[3] for key, _ in memories))
    parts = jnp.split(weights, ends[:-1], axis=-1)
    outputs = [product("bkqm,bkme->bkqe", w, value) for w, (_, value) in zip(parts, memories, strict=True)]
    return functools.reduce(jnp.add, outputs)


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
        options = {"dtype": self.dtype, "kernel_init": self.kernel_init}
        self.query = Dense(split, **options)
        self.key = Dense(split, **options)
        self.value = Dense(split, **options)
        self.out = Dense(self.width, inputs=2, **options)

    def key_value(self, memory: jax.Array) -> KeyValue:
        """Keys and values of `memory` [b, g, m, d], [b, k, g, m, e] each."""
        return heads_first(self.key(memory)), heads_first(self.value(memory))

    def __call__(
        self,
        x: jax.Array,
        memories: Sequence[KeyValue],
        mask: jax.Array | None = None,
        drop: Callable[[jax.Array], jax.Array] = lambda weights: weights,
    ) -> jax.Array:
        """Attention of `x` [b, g, q, d] over projected memories; see `attend`. [b, g, q, d]."""
        y = attend(heads_first(self.query(x)), memories, mask, drop)
        return self.out(y.transpose(0, 2, 3, 1, 4))


def heads_first(x: jax.Array) -> jax.Array:
    """[b, g, m, k, e] -> [b, k, g, m, e], the order in which attention is two plain batched products."""
    return x.transpose(0, 3, 1, 2, 4)


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
        y = Dense(4 * self.width, dtype=self.dtype, name="c_fc")(y)
        y = ACTIVATIONS[self.activation](y)
        return x + Dense(self.width, dtype=self.dtype, name="c_proj")(y)


class Transformer(nn.Module):
    """A stack of blocks named resblocks_0, resblocks_1, ..."""

    width: int
    layers: int
    heads: int
    activation: str = "quick_gelu"
    dtype: Dtype = jnp.float32
    remat: str = "none"  # one of REMAT_POLICIES

    def setup(self):
        block = remat_block(TransformerBlock, self.remat)
        self.resblocks = [block(self.width, self.heads, self.activation, self.dtype) for _ in range(self.layers)]

    def __call__(self, x: jax.Array, mask: jax.Array | None = None) -> jax.Array:
        """x [b, n, d] -> [b, n, d]. Every block's output is sown as an intermediate."""
        x = rows_over_mesh(x)
        for block in self.resblocks:
            x = rows_over_mesh(block(x, mask))
            self.sow("intermediates", "blocks", x)
        return x
