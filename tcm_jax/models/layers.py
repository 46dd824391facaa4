"""Layers that CLIP's towers, the recognizer's decoders and the detectors share."""

import functools
import itertools
import math
from collections.abc import Callable, Sequence
from typing import Any, Literal, get_args

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax import Array

Dtype = Any
DtypeName = Literal["auto", "float32", "bfloat16"]
DTYPES = get_args(DtypeName)
KeyValue = tuple[Array, Array]  # keys and values, [b, k, g, m, e] each
ArrayFunction = Callable[[Array], Array]

# The originals' initializer of the recognizer's decoders and of TCM's prompt layers.
decoder_init = nn.initializers.truncated_normal(0.02)


def quick_gelu(x: Array) -> Array:
    """OpenAI CLIP's activation, x * sigmoid(1.702 x)."""
    return x * jax.nn.sigmoid(1.702 * x)


def exact_gelu(x: Array) -> Array:
    """x * Phi(x); JAX's default is the tanh approximation, PyTorch's is this."""
    return jax.nn.gelu(x, approximate=False)


# Mesh axes over which the batch axis is sharded.
BATCH_AXES = ("data", "fsdp")

# What a block keeps of its forward pass for the backward pass; None keeps everything.
REMAT_POLICIES: dict[str, Callable | None] = {
    "none": None,
    "dots": jax.checkpoint_policies.dots_with_no_batch_dims_saveable,
    "full": jax.checkpoint_policies.nothing_saveable,
}


def shard_batch(x: Array) -> Array:
    """x [b, ...], with its batch axis sharded over the mesh and its other axes replicated.

    As a constraint on activations between blocks it makes XLA gather sharded weights, which are small, instead of
    activations. Without a mesh, or if the batch can't be divided evenly, x is returned as it is.
    """
    mesh = jax.sharding.get_abstract_mesh()
    axes = tuple(axis for axis in BATCH_AXES if axis in mesh.axis_names)
    if not axes or len(x) % math.prod(mesh.shape[axis] for axis in axes):
        return x
    return jax.lax.with_sharding_constraint(x, jax.sharding.PartitionSpec(axes))


def remat_block(block: type[nn.Module], policy: str, static: tuple[int, ...] = ()) -> type[nn.Module]:
    """A block that recomputes in the backward pass what `policy`, one of `REMAT_POLICIES`, does not keep.

    Args:
        static: positions of the arguments that are not arrays, where the module itself is 0.
    """
    if policy == "none":
        return block
    return nn.remat(block, policy=REMAT_POLICIES[policy], static_argnums=static)


ACTIVATIONS: dict[str, ArrayFunction] = {"quick_gelu": quick_gelu, "gelu": exact_gelu}


def compute_dtype(name: str) -> Dtype:
    """The JAX type of one of `DTYPES`; "auto" is float32 on a CPU and bfloat16 on other devices.

    Raises:
        ValueError: the name is not one of them.
    """
    if name not in DTYPES:
        raise ValueError(f"dtype is {name!r}; expected one of {', '.join(DTYPES)}")
    if name == "auto":
        name = "float32" if jax.default_backend() == "cpu" else "bfloat16"
    return getattr(jnp, name)


class LayerNorm(nn.Module):
    """Layer normalization in float32, with PyTorch's epsilon; the result has the dtype of the input."""

    @nn.compact
    def __call__(self, x: Array) -> Array:
        """x [..., d], normalized over its last axis."""
        scale = self.param("scale", nn.initializers.ones, x.shape[-1:])
        bias = self.param("bias", nn.initializers.zeros, x.shape[-1:])
        y = x.astype(jnp.float32)
        y = y - y.mean(-1, keepdims=True)
        y = y * jax.lax.rsqrt((y * y).mean(-1, keepdims=True) + 1e-5)
        return (y * scale + bias).astype(x.dtype)


class Embed(nn.Embed):
    """An embedding whose table is replicated before the look-up: XLA is slow at looking up in a sharded table."""

    def __call__(self, inputs: Array) -> Array:
        """Ids [b, ...] -> embeddings [b, ..., features]."""
        table = self.embedding.astype(self.dtype)
        if not jax.sharding.get_abstract_mesh().empty:
            table = jax.lax.with_sharding_constraint(table, jax.sharding.PartitionSpec())
        return shard_batch(jnp.take(table, inputs, axis=0))


class Dense(nn.Module):
    """Linear layer from the last `inputs` axes of its input to the axes `features`.

    As nn.DenseGeneral, but always one product of two matrices. With several leading axes XLA's CPU backend transposes
    the activations in the backward pass, which more than doubles its time.
    """

    features: int | tuple[int, ...]
    inputs: int = 1  # number of input axes that are contracted
    use_bias: bool = True
    dtype: Dtype = jnp.float32
    kernel_init: Callable = nn.initializers.lecun_normal()

    @nn.compact
    def __call__(self, x: Array) -> Array:
        """x [..., *inputs] -> [..., *features]."""
        features = (self.features,) if isinstance(self.features, int) else self.features
        rest, axes = x.shape[: -self.inputs], x.shape[-self.inputs :]
        matrix = math.prod(axes), math.prod(features)

        def init(key: Array, shape: tuple[int, ...], dtype: Dtype = jnp.float32) -> Array:
            return self.kernel_init(key, matrix, dtype).reshape(shape)

        kernel = self.param("kernel", init, (*axes, *features)).astype(self.dtype).reshape(matrix)
        y = x.astype(self.dtype).reshape(-1, matrix[0]) @ kernel
        if self.use_bias:
            y = y + self.param("bias", nn.initializers.zeros, features).astype(self.dtype).reshape(-1)
        return y.reshape(*rest, *features)


def attend(
    query: Array, memories: Sequence[KeyValue], mask: Array | None = None, drop: ArrayFunction = lambda weights: weights
) -> Array:
    """Scaled dot-product attention of grouped queries over one or several memories.

    The groups `g` are alternatives of one sample, such as the permutations of a label. A memory with g = 1 serves all
    of them without being repeated. The softmax runs over the keys of all memories.

    Args:
        query: [b, k, g, q, e] with k heads.
        memories: keys and values, [b, k, g or 1, m_i, e] each.
        mask: True where a key is visible, broadcasting to [b, g, q, sum of m_i].
        drop: dropout of the attention weights.

    Returns:
        [b, g, q, k, e] in the dtype of `query`.
    """
    query = query * (query.shape[-1] ** -0.5)
    b, k, g, q, _ = query.shape

    def product(equation: str, x: Array, y: Array) -> Array:
        """Each group of x with its group of y, or all groups of x with the only one of y."""
        if y.shape[2] == 1:
            x, y = x.reshape(b, k, g * q, -1), y[:, :, 0]
        else:
            x, y = x.reshape(b, k * g, q, -1), y.reshape(b, k * g, *y.shape[3:])
        return jnp.einsum(equation, x, y).reshape(b, k, g, q, -1)

    scores = [product("bkqe,bkme->bkqm", query, key) for key, _ in memories]
    score = jnp.concatenate(scores, -1).astype(jnp.float32)  # [b, k, g, q, m]
    if mask is not None:
        score = jnp.where(jnp.expand_dims(mask, -4) if mask.ndim == 4 else mask, score, -jnp.inf)
    weights = drop(jax.nn.softmax(score, axis=-1)).astype(query.dtype)
    ends = list(itertools.accumulate(key.shape[3] for key, _ in memories))
    parts = jnp.split(weights, ends[:-1], axis=-1)
    outputs = [product("bkqm,bkme->bkqe", w, value) for w, (_, value) in zip(parts, memories, strict=True)]
    return functools.reduce(jnp.add, outputs).transpose(0, 2, 3, 1, 4)


def heads_first(x: Array) -> Array:
    """[b, g, m, k, e] -> [b, k, g, m, e], the order in which attention is two plain batched products."""
    return x.transpose(0, 3, 1, 2, 4)


class Attention(nn.Module):
    """Multi-head attention with separate projections (PyTorch's fused `in_proj` split in three).

    Projection and attention are separate methods, so that a decoder projects its memory once and reuses it.
    """

    width: int
    heads: int
    dtype: Dtype = jnp.float32
    kernel_init: Callable = nn.initializers.lecun_normal()

    def setup(self) -> None:
        """Creates the four projections."""
        dense = functools.partial(Dense, dtype=self.dtype, kernel_init=self.kernel_init)
        split = (self.heads, self.width // self.heads)
        self.query, self.key, self.value = dense(split), dense(split), dense(split)
        self.out = dense(self.width, inputs=2)

    def key_value(self, memory: Array) -> KeyValue:
        """Keys and values of `memory` [b, g, m, d], [b, k, g, m, e] each."""
        return heads_first(self.key(memory)), heads_first(self.value(memory))

    def __call__(
        self, x: Array, memories: Sequence[KeyValue], mask: Array | None, drop: ArrayFunction = lambda x: x
    ) -> Array:
        """Attention of x [b, g, q, d] over projected memories, see `attend` -> [b, g, q, d]."""
        return self.out(attend(heads_first(self.query(x)), memories, mask, drop))


def project_and_attend(
    x: Array, memory: Array, mask: Array | None, width: int, heads: int, output: str, **options: Any
) -> Array:
    """Multi-head attention in a compact module, by layers named q_proj, k_proj, v_proj and `output`.

    Args:
        x: [b, q, d].
        memory: [b, m, d].
        mask: keys that are visible, bool [b, m].
        width: of the result.
        options: of the layers; `use_bias` is of the first three only.

    Returns:
        [b, q, width].
    """
    split = heads, x.shape[-1] // heads
    inputs = {"q_proj": x, "k_proj": memory, "v_proj": memory}
    query, key, value = (heads_first(Dense(split, **options, name=n)(y[:, None])) for n, y in inputs.items())
    y = attend(query, [(key, value)], None if mask is None else mask[:, None, None])
    return Dense(width, inputs=2, **options | {"use_bias": True}, name=output)(y)[:, 0]


class TransformerBlock(nn.Module):
    """Pre-norm block of CLIP's towers (ResidualAttentionBlock in openai/CLIP clip/model.py)."""

    width: int
    heads: int
    activation: str = "quick_gelu"
    dtype: Dtype = jnp.float32

    @nn.compact
    def __call__(self, x: Array, mask: Array | None = None) -> Array:
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

    @nn.compact
    def __call__(self, x: Array, mask: Array | None = None) -> Array:
        """x [b, n, d] -> [b, n, d]; mask as of a block. The output of each block is sown as an intermediate."""
        block = remat_block(TransformerBlock, self.remat)
        x = shard_batch(x)
        for i in range(self.layers):
            x = shard_batch(block(self.width, self.heads, self.activation, self.dtype, name=f"resblocks_{i}")(x, mask))
            self.sow("intermediates", "blocks", x)
        return x
