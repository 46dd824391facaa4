"""What the evaluations of words and of scenes share: rows and sums of processes, and the word on broken images."""

import logging
from collections.abc import Sequence

import jax
import numpy as np
from jax.experimental import multihost_utils

_LOGGED_NAMES = 10  # of images that can't be decoded


def multihost_sum(values: np.ndarray) -> np.ndarray:
    """The float64 sums of `values`, which have the same shape everywhere, over all processes; all must call it."""
    local = np.ascontiguousarray(values, np.float64)
    if jax.process_count() == 1:
        return local
    # As raw bits: JAX would round float64 values to float32 on the way.
    gathered = multihost_utils.process_allgather(local.view(np.uint32))  # [processes, ..., 2 * n]
    return np.ascontiguousarray(gathered).view(np.float64).sum(0)


def local_rows(array: jax.Array | np.ndarray) -> np.ndarray:
    """The rows of an array [b, ...] that lie on the devices of this process, in their order."""
    if not isinstance(array, jax.Array):
        return array
    rows = {shard.index[0].start or 0: shard.data for shard in array.addressable_shards}
    return np.concatenate([np.asarray(rows[start]) for start in sorted(rows)])


def warn_undecodable(source: str, names: Sequence[str], counted: str) -> None:
    """Logs how many images of `source`, if any, can't be decoded, the first of their names and how they count."""
    if names:
        shown = ", ".join(names[:_LOGGED_NAMES]) + (", ..." if len(names) > _LOGGED_NAMES else "")
        logging.warning(f"{source}: {len(names):,} images can't be decoded and count as {counted}: {shown}")
