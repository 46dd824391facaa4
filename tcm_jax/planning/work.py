"""The work of a program: matrix products, memory traffic and collectives, loops multiplied by their trip counts.

XLA's own `cost_analysis` counts the body of a loop once, as in gradient accumulation and decoding. Only matrix products
and convolutions count as floating-point operations, as the peak rates of chips are those of products.
"""

import math
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import NamedTuple

from tcm_jax.planning.groups import groups
from tcm_jax.planning.hlo import Array, Computation, Instruction, Module
from tcm_jax.planning.loops import passes

COLLECTIVES = ("all-reduce", "all-gather", "reduce-scatter", "all-to-all", "collective-permute")
_VIEWS = ("bitcast", "reshape", "transpose", "copy", "convert")  # in a fusion these pass on what they read
_FREE = (
    *("parameter", "constant", "tuple", "get-tuple-element", "bitcast", "while", "conditional", "call", "iota"),
    *("copy-done", "slice-done", "async-done", "async-update", "optimization-barrier", "partition-id", "replica-id"),
    *("after-all", "opt-barrier", "domain", "custom-call"),
)


class Collective(NamedTuple):
    """A collective operation of devices.

    Args:
        kind: one of `COLLECTIVES`; payload: bytes of the largest array that a device holds before or after it.
        groups: numbers of the devices of each group, in the order of the mesh.
    """

    kind: str
    payload: float
    groups: tuple[tuple[int, ...], ...]

    @property
    def size(self) -> int:
        """Number of devices of a group."""
        return max(map(len, self.groups))

    @property
    def sent(self) -> float:
        """Minimum bytes that each device sends."""
        if self.kind == "collective-permute":
            return self.payload
        share = self.payload * (self.size - 1) / self.size
        return 2 * share if self.kind == "all-reduce" else share


@dataclass(frozen=True)
class Operation:
    """An operation that the device launches as one, such as a fusion.

    Args:
        times: number of executions; flops: of its matrix products; f32: those of them whose operands are float32.
        bytes: read from and written to the device's main memory.
    """

    name: str
    times: float = 1
    flops: float = 0
    f32: float = 0
    bytes: float = 0
    collective: Collective | None = None


@dataclass
class Work:
    """All operations of one run of a program on one device.

    Args:
        unbounded: loops whose trip count depends on data, counted once.
        library: number of products that are library calls and can't be counted.
    """

    operations: list[Operation] = field(default_factory=list)
    unbounded: list[str] = field(default_factory=list)
    library: int = 0

    @property
    def flops(self) -> float:
        """Floating-point operations of all matrix products."""
        return sum(x.times * x.flops for x in self.operations)

    @property
    def bytes(self) -> float:
        """Memory traffic."""
        return sum(x.times * x.bytes for x in self.operations)

    def sent(self) -> dict[str, tuple[float, float]]:
        """Number of collectives of each kind, and bytes that each device sends in them."""
        total = dict.fromkeys(COLLECTIVES, (0.0, 0.0))
        for x in self.operations:
            if x.collective:
                count, size = total[x.collective.kind]
                total[x.collective.kind] = count + x.times, size + x.times * x.collective.sent
        return total


def work(module: Module, devices: int = 1) -> Work:
    """The work of a program that runs on that number of devices."""
    counter = _Counter(module, devices)
    counter.add(module.computations[module.entry], 1)
    return counter.work


class _Counter:
    def __init__(self, module: Module, devices: int) -> None:
        self.module, self.devices, self.work = module, devices, Work()
        # A collective that overlaps with other work appears in all fusions that it overlaps with, in loops too. Its
        # channel marks them as one, which runs as often as its start: that comes first.
        self._channels: set[str] = set()
        self._known: dict[str, tuple[float, float]] = {}

    def add(self, computation: Computation, times: float) -> None:
        """Adds the work of `times` executions of a computation."""
        for x in computation.instructions.values():
            if x.opcode == "while":
                count = passes(self.module, computation, x)
                if count is None:
                    self.work.unbounded.append(x.name)
                count = 1 if count is None else count
                self.add(self._named(x.attribute("body")), times * count)
                self.add(self._named(x.attribute("condition")), times * (count + 1))
            elif x.opcode == "call":
                self.add(self._named(x.called()[0]), times)
            elif x.opcode == "conditional":
                self.add(max(map(self._named, x.called()), key=lambda branch: self._flops(branch)[0]), times)
            else:
                self._add_operation(computation, x, times)

    def _add_operation(self, computation: Computation, x: Instruction, times: float) -> None:
        flops, f32 = self._instruction_flops(computation, x)
        traffic = 0.0
        for instruction, collective in self._collectives(computation, x):
            channel = instruction.attribute("channel_id") if x.opcode == "fusion" else None
            if channel is None or channel not in self._channels:
                self.work.operations.append(Operation(instruction.name, times, collective=collective))
            self._channels.update([channel] if channel else [])
        if not x.opcode.startswith(COLLECTIVES):
            traffic = self._traffic(computation, x)
        self.work.library += bool(re.search(r'custom_call_target="[^"]*(cublas|cudnn|onednn)', x.attributes))
        if flops or traffic:
            self.work.operations.append(Operation(x.name, times, flops, f32, traffic))

    def _named(self, name: str | None) -> Computation:
        return self.module.computations[(name or "").lstrip("%")]

    def _collectives(self, computation: Computation, x: Instruction) -> Iterator[tuple[Instruction, Collective]]:
        """The collectives of an instruction and of what it calls."""
        kind = x.opcode.removesuffix("-start")
        if kind in COLLECTIVES:
            sizes = [_size(y.arrays) for y in (x, *computation.operands(x))]
            # The result of a "-start" holds the operands too.
            payload = max(sizes[0] - sum(sizes[1:]) if x.opcode != kind and x.is_tuple else sizes[0], sum(sizes[1:]))
            members = groups(x, self.devices)
            if kind == "all-reduce" and "all-reduce-scatter" in computation.name:
                kind = "reduce-scatter"  # as a TPU's compiler writes it: a fusion of an all-reduce and a slice
            if max(map(len, members)) > 1:
                yield x, Collective(kind, payload, members)
        elif x.opcode in ("fusion", "async-start"):
            for name in x.called():
                called = self._named(name)
                for inner in called.instructions.values():
                    yield from self._collectives(called, inner)

    def _flops(self, computation: Computation) -> tuple[float, float]:
        """Operations of the matrix products, and of those in float32; a loop inside counts once."""
        if computation.name not in self._known:
            found = [self._instruction_flops(computation, x) for x in computation.instructions.values()]
            self._known[computation.name] = sum(a for a, _ in found), sum(b for _, b in found)
        return self._known[computation.name]

    def _instruction_flops(self, computation: Computation, x: Instruction) -> tuple[float, float]:
        if x.opcode in ("dot", "convolution"):
            flops = product_flops(computation, x)
            wide = all(y.arrays[0].dtype == "f32" for y in computation.operands(x))
            return flops, flops if wide else 0.0
        found = [self._flops(self._named(name)) for name in x.called()]
        return sum(a for a, _ in found), sum(b for _, b in found)

    def _traffic(self, computation: Computation, x: Instruction) -> float:
        """Bytes to and from the main memory of the device; its fast memory costs nothing."""
        if x.opcode in _FREE:
            return 0.0
        if x.opcode in ("copy-start", "slice-start"):
            new, old = (x.arrays[0], x.arrays[1]) if x.opcode == "copy-start" else (x.arrays[-2], x.arrays[0])
            return sum(new.size for array in (new, old) if not array.memory)
        if x.opcode == "fusion":
            return self._fusion_traffic(self._named(x.called()[0]), x, [*computation.operands(x)])
        operands = [_main(y) for y in computation.operands(x)]
        if x.opcode in ("dynamic-slice", "gather", "slice"):
            return 2 * _main(x)
        if x.opcode in ("dynamic-update-slice", "scatter"):
            return 2 * operands[-1 if x.opcode == "scatter" else 1]
        return sum(operands) + _main(x)

    def _fusion_traffic(self, inside: Computation, x: Instruction, operands: list[Instruction]) -> float:
        read = sum(
            self._read(inside, parameter.name, _main(operand))
            for parameter, operand in zip(inside.parameters, operands, strict=True)
        )
        root = inside.instructions[inside.root]
        results = [*inside.operands(root)] if root.opcode == "tuple" else [root]
        shapes = x.arrays if len(x.arrays) == len(results) else [None] * len(results)
        written = 0.0
        for result, shape in zip(results, shapes, strict=True):
            if result.opcode == "dynamic-update-slice":
                written += _main(inside.instructions[result.operands[1]])
            elif result.opcode not in ("parameter", "custom-call", *COLLECTIVES):
                written += _main(result) if shape is None else 0.0 if shape.memory else shape.size
        return read + written

    def _read(self, inside: Computation, name: str, size: float) -> float:
        """Bytes that a fusion reads of an operand of `size` bytes: of one that is only sliced, the slices."""
        total = 0.0
        for user in inside.users[name]:
            first = user.operands[0] == name
            if first and user.opcode in ("dynamic-slice", "slice", "gather"):
                total += min(size, _size(user.arrays))
            elif user.opcode == "fusion":
                called = self._named(user.called()[0])
                positions = [i for i, operand in enumerate(user.operands) if operand == name]
                total += sum(self._read(called, called.parameters[i].name, size) for i in positions)
            elif user.opcode in _VIEWS:
                total += self._read(inside, user.name, size) if inside.users[user.name] else size
            elif not (
                user.opcode in ("tuple", "custom-call", *COLLECTIVES)
                or (first and user.opcode == "dynamic-update-slice")  # in place
            ):
                return size
        return min(total, size)


def product_flops(computation: Computation, x: Instruction) -> float:
    """Floating-point operations of a `dot` or a `convolution`, counting multiplications and additions.

    As XLA counts them: of a convolution, only products with pixels that exist, neither padding nor the holes of a
    dilated input. So a product of matrices that the compiler writes as a convolution costs what it costs as a product.
    """
    left, right = (y.arrays[0].dims for y in computation.operands(x))
    if x.opcode == "dot":
        return 2.0 * math.prod(x.arrays[0].dims) * math.prod(left[i] for i in x.numbers("lhs_contracting_dims"))
    labels = re.split(r"_|->", x.attribute("dim_labels") or "")
    lefts, rights, outs = labels
    window = {key: value.split("x") for key, value in re.findall(r"(\w+)=([\w\-]+)", x.attribute("window") or "")}
    spatial = len(rights) - 2
    pairs = 1
    for i in range(spatial):
        label = str(i)
        size = right[rights.index(label)]
        stride, wide, dilation = (int(window.get(key, ["1"] * spatial)[i]) for key in _WINDOW)
        low = int(window["pad"][i].split("_")[0]) if "pad" in window else 0
        pairs *= _valid(
            left[lefts.index(label)], size, x.arrays[0].dims[outs.index(label)], stride, wide, dilation, low
        )
    count = int(x.attribute("batch_group_count") or 1)
    features = math.prod(right[rights.index(label)] for label in "io")
    return 2.0 * pairs * features * left[lefts.index("b")] / count


_WINDOW = ("stride", "lhs_dilate", "rhs_dilate")


def _valid(pixels: int, size: int, out: int, stride: int, wide: int, dilation: int, low: int) -> int:
    """Number of pairs of an output and a weight, along one dimension, whose pixel exists."""
    last, count = (pixels - 1) * wide, 0
    for i in range(size):
        for j in range(out):
            position = j * stride + i * dilation - low
            count += 0 <= position <= last and position % wide == 0
    return count


def _main(x: Instruction) -> float:
    """Bytes of an instruction's result that lie in the device's main memory."""
    return sum(array.size for array in x.arrays if not array.memory)


def _size(arrays: Iterable[Array]) -> float:
    return sum(array.size for array in arrays)
