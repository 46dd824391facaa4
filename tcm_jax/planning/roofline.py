"""The least time that a chip needs for a program's work: for its products, its memory traffic and its exchanges."""

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
        serial: of one operation after the other, each bound by its products or its memory, and no exchange hidden
            behind other work.
    """

    compute: float
    memory: float
    network: float
    serial: float

    @property
    def best(self) -> float:
        """All at the same time: no step is faster."""
        return max(self.compute, self.memory, self.network)

    @property
    def bound(self) -> str:
        """What a step waits for at best, one of `BOUNDS`."""
        return max(BOUNDS, key=lambda name: getattr(self, name))


def roofline(work: Work, chip: Chip, grid: "Grid") -> Roofline:
    """Of a program whose devices have those places."""

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
    """Where the devices of a mesh stand, and what their links carry at best.

    Args:
        devices: in the order of the mesh. sides: of the grid of chips, () if a switch joins them.
    """

    def __init__(self, devices: Sequence[Any], sides: Sequence[int]):
        self.sides = tuple(sides)
        self.places = [tuple(device.coords)[: len(self.sides)] if self.sides else () for device in devices]
        self._paths: dict[tuple[int, ...], tuple[float, float]] = {}

    def seconds(self, collective: Collective, chip: Chip) -> float:
        """Time of an exchange in the slowest of its groups, which all work at the same time.

        An all-gather, an all-reduce or a reduce-scatter sends its bytes around rings, one for each side of the grid
        along which the group lies, in both directions (https://jax-ml.github.io/scaling-book/sharding/). So do the
        collective-permutes into which the compiler cuts them to run beside products. A pair of an all-to-all sends over
        as many links as lie between.
        """
        if not self.sides:
            return collective.sent / (chip.links * chip.link_bandwidth)
        links, hops = min(self._path(group, chip) for group in set(collective.groups) if len(group) > 1)
        if collective.kind == "all-to-all":
            return collective.sent * hops / (links * chip.link_bandwidth)
        return collective.sent / (links * chip.link_bandwidth)

    def _path(self, group: tuple[int, ...], chip: Chip) -> tuple[float, float]:
        """Links that a device of the group sends over at a time, and links between two of its devices on average."""
        if group not in self._paths:
            links = hops = 0.0
            for axis, side in enumerate(self.sides):
                values = sorted({self.places[i][axis] for i in group})
                if len(values) == 1:
                    continue
                # Other groups lie in the gaps of this one and use the same links.
                gap = min(b - a for a, b in zip(values, values[1:], strict=False))
                ring = side >= chip.ring_from and len(values) * gap == side
                links += (2 if ring else 1) / gap
                hops += max(1.0, len(values) * gap / (4 if ring else 3))
            self._paths[group] = links, hops
        return self._paths[group]
