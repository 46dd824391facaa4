"""Which rows of a batch a process holds, and how it reads them."""

import itertools
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import grain
import jax

from tcm_jax.distributed.job import hostname


@dataclass(frozen=True)
class Share:
    """The rows of every batch that a process holds: some of `count` equal parts.

    Args:
        parts: numbers of the parts, ascending.
        scored: those of them that no process before this one holds too; results of the others don't count here.
    """

    count: int
    parts: tuple[int, ...]
    scored: tuple[int, ...]

    @classmethod
    def of(cls, index: int, count: int) -> "Share":
        """One of `count` contiguous parts."""
        return cls(count, (index,), (index,))


ALL_ROWS = Share.of(0, 1)


def startup_line(batch_size: int, share: Share) -> str:
    """Which process this is, where, with which devices and rows of every batch; each process prints its own."""
    size = batch_size // share.count
    runs = itertools.groupby(enumerate(share.parts), lambda item: item[1] - item[0])  # neighbouring parts
    ranges = [[part for _, part in run] for _, run in runs]
    return (
        f"process {jax.process_index()} of {jax.process_count()} on {hostname()} pid {os.getpid()}: "
        f"{jax.local_device_count()} of {jax.device_count()} devices ({jax.local_devices()[0].device_kind}), "
        f"rows {', '.join(f'{r[0] * size}..{(r[-1] + 1) * size - 1}' for r in ranges)} of every batch"
    )


class Rows:
    """The rows of a process in batches of `batch_size`; ValueError if the share does not fit the batch."""

    def __init__(self, batch_size: int, share: Share) -> None:
        if not share.parts or not 0 <= share.parts[0] <= share.parts[-1] < share.count:
            raise ValueError(f"parts {share.parts} of {share.count}")
        if batch_size < 1 or batch_size % share.count:
            raise ValueError(f"batch_size {batch_size} is no positive multiple of the {share.count} parts it is cut in")
        self.share = share
        self.part = batch_size // share.count
        self.local = self.part * len(share.parts)

    def of(self, rows: grain.MapDataset, start_step: int, stack: Callable[[Sequence[Any]], dict]) -> grain.MapDataset:
        """This process's rows of the batches from `start_step` on, each batch stacked; `rows` are those of all."""
        share, held = self.share, len(self.share.parts)
        if share.parts == tuple(range(share.parts[0], share.parts[0] + held)) and share.parts[0] % held == 0:
            batches, count = rows.batch(self.local, batch_fn=stack), share.count // held
            return batches[start_step * count + share.parts[0] // held :: count]
        # The devices of a process lie anywhere on the mesh: its rows are several runs of each batch.
        runs = rows.batch(self.part, batch_fn=list)
        mine = [runs[start_step * share.count + number :: share.count] for number in share.parts]
        joined = grain.MapDataset.mix(mine).batch(held, batch_fn=list)
        return joined.map(lambda parts: stack(list(itertools.chain.from_iterable(parts))))

    def scored(self, row: int) -> bool:
        """Whether this process scores row `row`, counted over all batches."""
        return row // self.part % self.share.count in self.share.scored
