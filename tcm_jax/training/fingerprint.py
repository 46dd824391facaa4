"""A checksum of an array that is computed where the array lies, however it is sharded over devices and processes."""

import math
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np


def leaves_by_path(tree: Any) -> dict[str, Any]:
    """The leaves of any pytree, {"params/a/kernel": leaf}."""
    leaves, _ = jax.tree_util.tree_flatten_with_path(tree)
    return {jax.tree_util.keystr(path, simple=True, separator="/"): leaf for path, leaf in leaves}


def fingerprints(arrays: dict[str, jax.Array]) -> dict[str, int]:
    """The fingerprint of every array; to be called by all processes that hold a part of them.

    Each one is awaited before the next is launched: of many collective programs in flight, the simulated devices of a
    busy machine may start different ones and wait for each other in vain.
    """
    return {path: int(fingerprint(array)) for path, array in arrays.items()}


@jax.jit
def fingerprint(x: jax.Array) -> jax.Array:
    """A uint32 of the bits of `x`: integers, floats or booleans of 1, 2, 4 or 8 bytes.

    Every word (4 bytes, or a shorter element) is hashed together with its position, and the hashes are added modulo
    2**32, in any order and therefore on any number of devices. One wrong word always changes the sum, since the hash
    is a bijection (the finalizer of MurmurHash3). Several wrong words leave it as it is in one case of 2**32.
    """
    words = _words(x)
    position = jnp.zeros(words.shape, jnp.uint32)
    for axis in range(words.ndim):  # not by reshaping, which would gather the shards
        stride = np.uint32(math.prod(words.shape[axis + 1 :]) % 2**32)
        position += jax.lax.broadcasted_iota(jnp.uint32, words.shape, axis) * stride
    h = words ^ (position * np.uint32(0x9E3779B1))
    h = (h ^ (h >> 16)) * np.uint32(0x85EBCA6B)
    h = (h ^ (h >> 13)) * np.uint32(0xC2B2AE35)
    return jnp.sum(h ^ (h >> 16), dtype=jnp.uint32)


def _words(x: jax.Array) -> jax.Array:
    """The bits of `x` as uint32; 8-byte elements get a further axis of two words."""
    if x.dtype == jnp.bool_:
        return x.astype(jnp.uint32)
    unsigned = {1: jnp.uint8, 2: jnp.uint16, 4: jnp.uint32, 8: jnp.uint32}[x.dtype.itemsize]
    return jax.lax.bitcast_convert_type(x, unsigned).astype(jnp.uint32)
