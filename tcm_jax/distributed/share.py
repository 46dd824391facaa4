"""Which rows of a batch a process holds, and how it gets at them."""

import itertools
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import grain


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


WHOLE = Share.of(0, 1)


class Rows:
    """The rows of a process in batches of `batch_size`."""

    def __init__(self, batch_size: int, share: Share):
        if not share.parts or not 0 <= share.parts[0] <= share.parts[-1] < share.count:
            raise ValueError(f"parts {share.parts} of {share.count}")
        if batch_size < 1 or batch_size % share.count:
            raise ValueError(f"batch_size {batch_size} is no positive multiple of the {share.count} parts it is cut in")
        self.share = share
        self.part = batch_size // share.count
        self.local = self.part * len(share.parts)

    def of(self, rows: grain.MapDataset, start_step: int, stack: Callable[[Sequence[Any]], dict]) -> grain.MapDataset:
        """Of the rows of all batches, this process's of the batches from `start_step` on, stacked."""
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
        """Whether this process scores row `row` of all batches, counted on."""
        return row // self.part % self.share.count in self.share.scored
