"""Shards made by several processes of this machine."""

import multiprocessing
import os
import signal
import threading
from collections.abc import Callable
from concurrent.futures import FIRST_COMPLETED, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from multiprocessing.connection import wait as wait_for

from tcm_jax.data.shards import Records, Shard, ShardPlan, make_shard

_POLL_SECONDS = 0.2


class _Stopped(Exception):
    """The main process wants no more."""


def make_shards(source: Records, plan: ShardPlan, workers: int, progress: Callable[[int], None]) -> list[Shard]:
    """Makes all shards of `plan`, which `start` has prepared; those that are there are kept.

    When it is interrupted (Ctrl-C), the processes end at their next record; finished shards stay.

    Args:
        source: is sent to the processes.
        progress: called now and then with the number of records done.

    Raises:
        OSError: the disk is full, or one of the processes was killed.
    """
    # Processes that are started anew inherit no lock, thread or open LMDB of this one.
    context = multiprocessing.get_context("spawn")
    done, stop = context.RawArray("q", plan.shards), context.RawValue("b", 0)  # each number has one writer: no locks
    pool = ProcessPoolExecutor(min(workers, plan.shards), context, _start, (source, plan, done, stop))
    try:
        waiting = {pool.submit(_make, number) for number in range(plan.shards)}
        shards: list[Shard] = []
        while waiting:
            finished, waiting = wait(waiting, _POLL_SECONDS, FIRST_COMPLETED)
            shards += [future.result() for future in finished]
            progress(sum(done))
    except BrokenProcessPool as error:
        raise OSError("a process was killed (for too much memory?); the same command makes the other shards") from error
    finally:
        stop.value = 1
        pool.shutdown(cancel_futures=True)
    return shards


def _start(source: Records, plan: ShardPlan, done, stop) -> None:
    """Runs first in each process."""
    global _work
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches all processes; the main one tells the others
    threading.Thread(target=_end_with_parent, daemon=True).start()

    def work(number: int) -> Shard:
        def tick() -> None:
            done[number] += 1
            if stop.value:
                raise _Stopped

        return make_shard(source, plan, number, tick)

    _work = work


_work: Callable[[int], Shard]


def _make(number: int) -> Shard:
    return _work(number)


def _end_with_parent() -> None:
    """A killed main process can't tell the others to end."""
    parent = multiprocessing.parent_process()
    assert parent is not None
    wait_for([parent.sentinel])
    os._exit(1)
