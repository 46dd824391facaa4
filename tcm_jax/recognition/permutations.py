"""Permutations of a label's positions and the attention masks they mean (permuted language modelling, PARSeq).

Source: VL4STR.gen_tgt_perms and generate_attn_masks in strhub/models/vl_str/system.py of the original. There the
permutations are drawn on the host for the longest label of one process; here on the device, for the longest label of
the global batch.
"""

import itertools
import math

import jax
import jax.numpy as jnp
import numpy as np

SMALL = 5  # labels shorter than this have so few permutations that they are drawn without replacement
# The 12 of the 24 permutations of four characters (in lexicographic order) of which none mirrors another.
_HALF_OF_FOUR = [0, 3, 4, 6, 9, 10, 12, 16, 17, 18, 19, 21]


def _pool(n: int, forward: bool, mirrored: bool) -> list[tuple[int, ...]]:
    """Permutations of n < SMALL characters to draw from."""
    pool = list(itertools.permutations(range(n)))
    if mirrored:
        pool = [pool[i] for i in _HALF_OF_FOUR] if n == 4 else pool[: max(1, len(pool) // 2)]
    return pool[1:] if forward else pool


def sample_permutations(
    key: jax.Array,
    length: jax.Array,
    max_length: int,
    num: int = 6,
    forward: bool = True,
    mirrored: bool = True,
) -> tuple[jax.Array, jax.Array]:
    """Draws the permutations of one training step.

    Args:
        length: characters of the longest label, a scalar in 1..max_length.
        num: permutations wanted; `forward` includes the reading order, `mirrored` pairs each with its reverse.

    Returns:
        perms: int32 [num, max_length + 2]; position 0 is BOS, length + 1 is EOS, both in place except in the second
            permutation, which is the reverse with EOS first. Later positions are unused and stay in place.
        valid: bool [num]; short labels have fewer permutations than `num`.
    """
    drawn = num // 2 if mirrored else num  # the others are mirror images
    at = jnp.arange(max_length)
    pool_size = np.zeros(SMALL, np.int32)
    num_valid = np.full(SMALL, drawn, np.int32)
    pools = np.tile(np.arange(max_length), (SMALL, math.factorial(SMALL - 1), 1))
    for n in range(1, min(SMALL, max_length + 1)):
        pool = _pool(n, forward, mirrored)
        pool_size[n] = len(pool)
        num_valid[n] = min(drawn, max(1, math.factorial(n) // (2 if mirrored else 1)))
        for i, perm in enumerate(pool):
            pools[n, i, :n] = perm
    small = jnp.minimum(length, SMALL - 1)
    pool_key, order_key = jax.random.split(key)

    unused = jnp.arange(pools.shape[1]) >= jnp.asarray(pool_size)[small]
    order = jnp.argsort(jnp.where(unused, 2.0, jax.random.uniform(pool_key, unused.shape)))
    from_pool = jnp.asarray(pools)[small][order][: drawn - forward]
    free = jnp.where(at < length, jax.random.uniform(order_key, (drawn - forward, max_length)), 1.0 + at)
    rows = jnp.where(length < SMALL, from_pool, jnp.argsort(free, axis=1))  # [drawn - forward, max_length]
    if forward:
        rows = jnp.concatenate([at[None], rows])
    valid = jnp.arange(drawn) < jnp.where(length < SMALL, jnp.asarray(num_valid)[small], drawn)
    if mirrored:
        mirror = rows[:, jnp.where(at < length, length - 1 - at, at)]
        rows = jnp.stack([rows, mirror], axis=1).reshape(2 * drawn, max_length)
        valid = jnp.repeat(valid, 2)
    valid &= (length > 1) | (jnp.arange(len(valid)) == 0)

    ends = jnp.broadcast_to(jnp.asarray([0, max_length + 1]), (len(rows), 2))
    perms = jnp.concatenate([ends[:, :1], rows + 1, ends[:, 1:]], axis=1)  # unused places hold their own number
    if len(rows) > 1:
        position = jnp.arange(max_length + 2)
        inside = (position >= 1) & (position <= length + 1) & (length > 1)
        perms = perms.at[1].set(jnp.where(inside, length + 2 - position, perms[1]))
    return perms.astype(jnp.int32), valid


def attention_masks(perms: jax.Array) -> tuple[jax.Array, jax.Array]:
    """What each position may see when characters are read in the order of a permutation.

    Args:
        perms: [g, t + 1].

    Returns:
        content_mask, query_mask: bool [g, t, t], True where visible. Content i sees what comes no later than itself;
        query i, which predicts position i + 1, sees what comes strictly before that position.
    """
    rank = jnp.argsort(perms, axis=1)  # [g, t + 1]
    keys = rank[:, None, :-1]
    return keys <= rank[:, :-1, None], keys < rank[:, 1:, None]
