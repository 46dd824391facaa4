"""The roofline of a program on a chip: minimum times of its products, its memory traffic and its collectives."""

import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from tcm_jax.planning.chips import Chip
from tcm_jax.planning.work import Collective, Operation, Work

BOUNDS = ("compute", "memory", "network")


@dataclass(frozen=True)
class Roofline:
    """Seconds of one step.

    Args:
        compute, memory, network: of each alone, at the chip's peak rates.
        serial: of one operation after the other, each bound by its products or its memory, and no collective
            overlapped with other work.
    """

    compute: float
    memory: float
    network: float
    serial: float

    @property
    def best(self) -> float:
        """Seconds if all of it overlaps: no step is faster."""
        return max(self.compute, self.memory, self.network)

    @property
    def bound(self) -> str:
        """What limits `best`, one of `BOUNDS`."""
        return max(BOUNDS, key=lambda name: getattr(self, name))


def roofline(work: Work, chip: Chip, grid: "Grid") -> Roofline:
    """The times of a program on a grid of chips."""

    def compute(x: Operation) -> float:
        return (x.flops - x.f32) / chip.bf16 + x.f32 / chip.f32

    def network(x: Operation) -> float:
        return grid.seconds(x.collective, chip) if x.collective else 0.0

    exchange = sum(x.times * network(x) for x in work.operations)
    return Roofline(
        sum(x.times * compute(x) for x in work.operations),
        work.bytes / chip.memory_bandwidth,
        exchange,
        exchange + sum(x.times * max(compute(x), x.bytes / chip.memory_bandwidth) for x in work.operations),
    )


class Grid:
    """The positions of the devices of a mesh, and the bandwidth of their links.

    Args:
        devices: in the order of the mesh; sides: of the grid of chips, () if a switch joins them.
    """

    def __init__(self, devices: Sequence[Any], sides: Sequence[int]) -> None:
        self.sides = tuple(sides)
        self.positions = [tuple(device.coords)[: len(self.sides)] if self.sides else () for device in devices]
        self._paths: dict[tuple[int, ...], tuple[float, float]] = {}

    def seconds(self, collective: Collective, chip: Chip) -> float:
        """Seconds of a collective in the slowest of its groups, which all work at the same time.

        An all-gather, an all-reduce or a reduce-scatter sends its bytes around rings, one for each side of the grid
        along which the group lies, in both directions (https://jax-ml.github.io/scaling-book/sharding/). So do the
        collective-permutes into which the compiler splits them to overlap with products. A pair of an all-to-all sends
        over as many links as lie between.
        """
        if not self.sides:
            return collective.sent / (chip.links * chip.link_bandwidth)
        links, hops = min(self._path(group, chip) for group in set(collective.groups) if len(group) > 1)
        if collective.kind == "all-to-all":
            return collective.sent * hops / (links * chip.link_bandwidth)
        return collective.sent / (links * chip.link_bandwidth)

    def _path(self, group: tuple[int, ...], chip: Chip) -> tuple[float, float]:
        """Links that a device of the group sends over at a time, and mean number of hops between two devices."""
        if group not in self._paths:
            links = hops = 0.0
            for axis, side in enumerate(self.sides):
                values = sorted({self.positions[i][axis] for i in group})
                if len(values) == 1:
                    continue
                # Other groups lie in the gaps of this one and use the same links.
                gap = min(b - a for a, b in itertools.pairwise(values))
                ring = side >= chip.ring_from and len(values) * gap == side
                links += (2 if ring else 1) / gap
                hops += max(1.0, len(values) * gap / (4 if ring else 3))
            self._paths[group] = links, hops
        return self._paths[group]
