"""Trip counts of loops, found by executing what their condition depends on.

A loop of a compiled program is a `while` over a tuple. A counter in it starts at a constant, and the body changes it by
constants; so the known scalars are computed pass by pass, and all else is unknown (None). "unknown and False"
is False: of a loop with a counter and another reason to stop, the limit is found. Values are computed on demand: a
program has thousands of other scalars, each depending on the one before.
"""

import operator
import re
from collections.abc import Callable
from typing import Any

from tcm_jax.planning.hlo import Computation, Instruction, Module

LIMIT = 10_000  # passes after which a loop counts as one without a limit
_COMPARE = {"LT": operator.lt, "LE": operator.le, "GT": operator.gt, "GE": operator.ge, "EQ": operator.eq}
_ARITHMETIC: dict[str, Callable[..., Any]] = {
    "add": operator.add,
    "subtract": operator.sub,
    "multiply": operator.mul,
    "minimum": min,
    "maximum": max,
}
_SAME = ("copy", "convert", "bitcast", "reshape", "optimization-barrier")
Argument = Callable[[int, int | None], Any]  # the value of parameter n, or of element i of it


def passes(module: Module, computation: Computation, loop: Instruction) -> int | None:
    """The maximum trip count of the `while` instruction `loop` of `computation`; None if no limit is found."""
    known = re.search(r'"known_trip_count":\{"n":"(\d+)"', loop.attributes)
    if known:
        return int(known[1])
    condition, body = (module.computations[(loop.attribute(name) or "").lstrip("%")] for name in ("condition", "body"))
    outside = _Values(module, computation, lambda n, i: None)
    state = _State(lambda i: outside.of(loop.operands[0], i))
    for count in range(LIMIT):
        if _Values(module, condition, state.argument).of(condition.root) is False:
            return count
        inside = _Values(module, body, state.argument)
        new = _State(lambda i, inside=inside: inside.of(body.root, i))  # type: ignore[misc]
        if {i: new[i] for i in list(state.known)} == state.known:
            return None  # no known value that the condition reads changes any more
        state = new
    return None


class _State:
    """The elements of a loop's tuple before one of its passes, computed on demand."""

    def __init__(self, compute: Callable[[int], Any]) -> None:
        self.compute, self.known = compute, dict[int, Any]()

    def __getitem__(self, i: int) -> Any:
        if i not in self.known:
            self.known[i] = self.compute(i)
        return self.known[i]

    def argument(self, _: int, i: int | None) -> Any:
        """As the only parameter of the loop's condition and body."""
        return None if i is None else self[i]


class _Values:
    """Known scalars of one execution of a computation; what is unknown is None."""

    def __init__(self, module: Module, computation: Computation, argument: Argument) -> None:
        self.module, self.computation, self.argument = module, computation, argument
        self.known: dict[tuple[str, int | None], Any] = {}

    def of(self, name: str, i: int | None = None) -> Any:
        """The value of an instruction, or of element i of it."""
        if (name, i) not in self.known:
            x = self.computation.instructions[name]
            self.known[name, i] = self._scalar(x) if i is None else self._element(x, i)
        return self.known[name, i]

    def _called(self, x: Instruction, i: int | None) -> Any:
        called = self.module.computations[x.called()[0]]
        return _Values(self.module, called, lambda n, j: self.of(x.operands[n], j)).of(called.root, i)

    def _element(self, x: Instruction, i: int) -> Any:
        if x.opcode == "tuple":
            return self.of(x.operands[i])
        if x.opcode == "parameter":
            return self.argument(int(x.text), i)
        if x.opcode in ("fusion", "call"):
            return self._called(x, i)
        return self.of(x.operands[0], i) if x.opcode in ("copy", "optimization-barrier") else None

    def _scalar(self, x: Instruction) -> Any:
        op = x.opcode
        if x.is_tuple or any(array.dims for array in x.arrays):
            return None
        if op == "parameter":
            return self.argument(int(x.text), None)
        if op == "constant":
            return {"true": True, "false": False}.get(x.text) if x.arrays[0].dtype == "pred" else _integer(x.text)
        if op == "get-tuple-element":
            return self.of(x.operands[0], x.numbers("index")[0])
        if op == "copy-done":
            return self.of(self.computation.instructions[x.operands[0]].operands[0])
        if op in ("fusion", "call"):
            return self._called(x, None)
        values = [self.of(name) for name in x.operands]
        if op in _SAME:
            return values[0]
        if op in ("and", "or"):
            decides = op == "or"
            return decides if decides in values else None if None in values else not decides
        if None in values:
            return None
        if op == "not":
            return not values[0]
        if op == "compare":
            direction = x.attribute("direction")
            return values[0] != values[1] if direction == "NE" else _COMPARE[direction or ""](*values)
        if op == "select":
            return values[1] if values[0] else values[2]
        return _ARITHMETIC[op](*values) if op in _ARITHMETIC else None


def _integer(text: str) -> int | None:
    return int(text) if re.fullmatch(r"-?\d+", text) else None
