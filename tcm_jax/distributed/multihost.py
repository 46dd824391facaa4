"""What the processes of a run agree on; every function is to be called by all of them, in the same order."""

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
        OSError: `action` has failed on another process. On that one: its own exception.
    """
    error = None
    try:
        result = action()
    except Exception as e:
        error = e
    if jax.process_count() > 1:
        failed = np.flatnonzero(multihost_utils.process_allgather(np.int32(error is not None)))
        if failed.size and not error:
            raise OSError(f"process {', '.join(map(str, failed))} failed; its own message tells why")
    if error:
        raise error
    return result
