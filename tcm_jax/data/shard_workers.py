"""Shards made by several processes of this machine."""

import multiprocessing
from collections.abc import Callable
from concurrent.futures import FIRST_COMPLETED, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from typing import Any

from tcm_jax.data.shards import Shard, ShardPlan, make_shard
from tcm_jax.data.workers import end_with_parent
from tcm_jax.records import Source

_POLL_SECONDS = 0.2


class _StoppedError(Exception):
    """The main process wants no more."""


def make_shards(source: Source[Any], plan: ShardPlan, workers: int, advance: Callable[[int], object]) -> list[Shard]:
    """Makes all shards of `plan`, which `start` has prepared; those that are there are kept.

    When it is interrupted (Ctrl-C), the processes end at their next record; finished shards stay.

    Args:
        source: is sent to the processes.
        workers: maximum number of processes.
        advance: called now and then with the number of records done since the last call.

    Raises:
        OSError: the disk is full, or one of the processes was killed.
    """
    # Processes that are started anew inherit no lock, thread or open LMDB of this one.
    context = multiprocessing.get_context("spawn")
    done, stop = context.RawArray("q", plan.shards), context.RawValue("b", 0)  # each number has one writer: no locks
    pool = ProcessPoolExecutor(min(workers, plan.shards), context, _start, (source, plan, done, stop))
    shards: list[Shard] = []
    reported = 0
    try:
        waiting = {pool.submit(_make, number) for number in range(plan.shards)}
        while waiting:
            finished, waiting = wait(waiting, _POLL_SECONDS, FIRST_COMPLETED)
            shards += [future.result() for future in finished]
            before, reported = reported, sum(done)
            advance(reported - before)
    except BrokenProcessPool as error:
        raise OSError("a process was killed (for too much memory?); the same command makes the other shards") from error
    finally:
        stop.value = 1
        pool.shutdown(cancel_futures=True)
    return shards


_job: tuple[Source[Any], ShardPlan, Any, Any]  # of this process


def _start(*job: Any) -> None:
    """Runs first in each process."""
    global _job
    _job = job
    end_with_parent()


def _make(number: int) -> Shard:
    source, plan, done, stop = _job

    def tick() -> None:
        done[number] += 1
        if stop.value:
            raise _StoppedError

    return make_shard(source, plan, number, tick)
