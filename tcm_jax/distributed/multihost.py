"""Collectives between the processes of a run; every function must be called by all of them, in the same order."""

from collections.abc import Callable
from typing import TypeVar

import jax
import numpy as np
from jax.experimental import multihost_utils

T = TypeVar("T")


def broadcast_from_host0(numbers: list[int]) -> list[int]:
    """Process 0's numbers, each below 2**31, on every process."""
    if jax.process_count() == 1:
        return numbers
    length = int(multihost_utils.broadcast_one_to_all(np.int32(len(numbers))))
    mine = np.resize(np.asarray([*numbers, 0], np.int32), length)  # must have the same shape everywhere
    return multihost_utils.broadcast_one_to_all(mine).tolist()


def raise_on_all_hosts(action: Callable[[], T]) -> T:
    """The result of `action`, once all processes have theirs.

    Raises:
        OSError: `action` has failed on another process. The process where it failed raises its own exception.
    """
    error = None
    try:
        result = action()
    except Exception as e:
        error = e
    if jax.process_count() > 1:
        failed = np.flatnonzero(multihost_utils.process_allgather(np.int32(error is not None)))
        if failed.size and not error:
            raise OSError(f"process {', '.join(map(str, failed))} failed; its own message says why")
    if error:
        raise error
    return result


def multihost_sum(values: np.ndarray) -> np.ndarray:
    """The float64 sum over all processes of `values`, an array of the same shape on each of them."""
    local = np.ascontiguousarray(values, np.float64)
    if jax.process_count() == 1:
        return local
    # As raw bits: JAX would round float64 values to float32 on the way.
    gathered = multihost_utils.process_allgather(local.view(np.uint32))  # [processes, ..., 2 * n]
    return np.ascontiguousarray(gathered).view(np.float64).sum(0)


def local_rows(array: jax.Array | np.ndarray) -> np.ndarray:
    """The rows of an array [b, ...] that lie on the devices of this process, in their order; no collective."""
    if not isinstance(array, jax.Array):
        return array
    rows = {shard.index[0].start or 0: shard.data for shard in array.addressable_shards}
    return np.concatenate([np.asarray(rows[start]) for start in sorted(rows)])
