"""XLA's text form of a program (HLO), before or after compilation, as Python objects."""

import functools
import math
import re
from collections.abc import Iterator
from dataclasses import dataclass, field

_BYTES = {"pred": 1, "s4": 0.5, "u4": 0.5, "token": 0, "opaque": 0}
_ARRAY = re.compile(r"([a-z]\w*)\[([\d,<=]*)\](?:\{([^{}]*)\})?")
_HEAD = re.compile(r"\s+(ROOT )?%?([\w.\-]+) = ")
_COMPUTATION = re.compile(r"(ENTRY )?%?([\w.\-]+) .*\{$")
_BRACKETS = re.compile(r"[(){}\[\]]")


@dataclass(frozen=True)
class Array:
    """One array of a shape.

    Args:
        dtype: such as "bf16"; dims: its shape.
        size: bytes, including the padding of the layout's tiles.
        memory: number of its memory space; 0 is the device's main memory.
    """

    dtype: str
    dims: tuple[int, ...]
    size: float
    memory: int = 0


@dataclass
class Instruction:
    """One line of a program; `attributes` is all that follows the operands."""

    name: str
    shape: str
    opcode: str
    operands: tuple[str, ...]
    attributes: str
    text: str  # between the parentheses: of a constant the value, of a parameter the number

    @property
    def arrays(self) -> tuple[Array, ...]:
        """What it computes: one array, or those of a tuple however nested."""
        return arrays(self.shape)

    @property
    def is_tuple(self) -> bool:
        """Whether it computes a tuple."""
        return self.shape.startswith("(")

    def attribute(self, name: str) -> str | None:
        """The text of `name=...` up to the comma that ends it."""
        found = re.search(rf"(?:^|[ ,{{]){name}=", self.attributes)
        return _upto_comma(self.attributes, found.end()) if found else None

    def numbers(self, name: str) -> tuple[int, ...]:
        """The numbers of an attribute such as `dimensions={0,2}`; () if there is none."""
        return tuple(int(n) for n in re.findall(r"\d+", self.attribute(name) or ""))

    def called(self) -> list[str]:
        """The computations that it calls, except those applied to single elements."""
        keys = ["calls", "body", "called_computations", *(["to_apply"] if self.opcode == "call" else [])]
        names = [self.attribute(key) for key in keys]
        branches = self.attribute("branch_computations") or ""
        names += branches.strip("{}").split(", ") if branches else []
        names += [self.attribute("true_computation"), self.attribute("false_computation")]
        return [name.lstrip("%") for name in names if name]


@dataclass
class Computation:
    """Instructions by name, in an order in which they can be executed."""

    name: str
    instructions: dict[str, Instruction] = field(default_factory=dict)
    root: str = ""

    @functools.cached_property
    def parameters(self) -> list[Instruction]:
        """The parameters in their order."""
        found = [x for x in self.instructions.values() if x.opcode == "parameter"]
        return sorted(found, key=lambda x: int(x.text))

    @functools.cached_property
    def users(self) -> dict[str, list[Instruction]]:
        """The instructions that take the result of an instruction, by its name."""
        users: dict[str, list[Instruction]] = {name: [] for name in self.instructions}
        for instruction in self.instructions.values():
            for name in dict.fromkeys(instruction.operands):
                users[name].append(instruction)
        return users

    def operands(self, instruction: Instruction) -> Iterator[Instruction]:
        """The instructions whose results `instruction` takes."""
        return (self.instructions[name] for name in instruction.operands)


@dataclass
class Module:
    """A program: its computations by name, and the name of the entry."""

    computations: dict[str, Computation]
    entry: str


def parse(text: str) -> Module:
    """Reads a program.

    Args:
        text: of `jax.stages.Compiled.as_text()` or `jax.stages.Lowered.as_text("hlo")`.

    Raises:
        ValueError: it has no entry.
    """
    computations: dict[str, Computation] = {}
    entry, current = "", None
    for line in text.splitlines():
        if current is None:
            head = _COMPUTATION.match(line)
            if head and not line.startswith("HloModule"):
                current = computations[head[2]] = Computation(head[2])
                entry = head[2] if head[1] else entry
        elif line.startswith("}"):
            current = None
        elif head := _HEAD.match(line):
            instruction = _instruction(head[2], line, head.end())
            current.instructions[head[2]] = instruction
            if head[1]:
                current.root = head[2]
    if not entry:
        raise ValueError("this is no HLO program: it has no ENTRY computation")
    return Module(computations, entry)


@functools.lru_cache(maxsize=100_000)
def arrays(shape: str) -> tuple[Array, ...]:
    """The arrays of a shape such as "(f32[8,128]{1,0:T(8,128)S(1)}, s32[])"."""
    return tuple(_array(*found.groups()) for found in _ARRAY.finditer(re.sub(r"/\*.*?\*/", "", shape)))


def _array(dtype: str, shape: str, layout: str | None) -> Array:
    dims = tuple(int(side.lstrip("<=")) for side in shape.split(",") if side)
    order, _, tiling = (layout or "").partition(":")
    minor = [int(i) for i in order.split(",") if i]  # dimensions, the fastest first
    tile = re.search(r"T\(([\d,]+)\)", tiling)
    padded = list(dims)
    if tile:
        for side, i in zip(reversed([int(n) for n in tile[1].split(",")]), minor, strict=False):
            padded[i] = -(-dims[i] // side) * side
    memory = re.search(r"S\((\d+)\)", tiling)
    return Array(dtype, dims, math.prod(padded) * _width(dtype), int(memory[1]) if memory else 0)


def _width(dtype: str) -> float:
    """Bytes of an element."""
    if dtype in _BYTES:
        return _BYTES[dtype]
    bits = re.search(r"\d+", dtype)  # of f8e4m3fn the first number, of c64 all of both parts
    return int(bits[0]) / 8 if bits else 0


def _instruction(name: str, line: str, start: int) -> Instruction:
    """The instruction of a line whose shape begins at `start`."""
    end = _closing(line, start) if line[start] == "(" else line.index(" ", start)
    opened = line.index("(", end + 1)
    closed = _closing(line, opened)
    text = line[opened + 1 : closed - 1]
    opcode = line[end:opened].strip()
    operands: tuple[str, ...] = ()
    if opcode not in ("constant", "parameter", "iota"):
        clean = re.sub(r"/\*.*?\*/", "", text)
        operands = tuple(part.split(" ")[-1].lstrip("%") for part in _parts(clean))
    attributes = line[closed:].split(", metadata={", 1)
    backend = attributes[1].partition(", backend_config=") if len(attributes) > 1 else ("", "", "")
    return Instruction(name, line[start:end], opcode, operands, attributes[0] + backend[1] + backend[2], text)


def _closing(text: str, start: int) -> int:
    """The position after the bracket that closes the one at `start`."""
    depth = 0
    for bracket in _BRACKETS.finditer(text, start):
        depth += 1 if bracket[0] in "([{" else -1
        if not depth:
            return bracket.end()
    raise ValueError(f"brackets do not match: {text[start : start + 100]}")


def _parts(text: str) -> list[str]:
    """The parts between commas outside of brackets."""
    parts, start = [], 0
    while start < len(text):
        part = _upto_comma(text, start)
        parts.append(part.strip())
        start += len(part) + 1
    return parts


def _upto_comma(text: str, start: int) -> str:
    depth = 0
    for i in range(start, len(text)):
        if text[i] in "([{":
            depth += 1
        elif text[i] in ")]}":
            depth -= 1
            if depth < 0:
                return text[start:i]
        elif text[i] == "," and not depth:
            return text[start:i]
    return text[start:]
