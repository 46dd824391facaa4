"""Fast random numbers for code that makes many small choices per record."""

from collections.abc import Sequence
from typing import TypeVar

import numpy as np

T = TypeVar("T")
_BLOCK = 256  # numbers drawn at once; one call of a numpy generator costs as much as ten reads from a list


class RandomStream:
    """Pseudorandom numbers that depend on `key` (non-negative integers) alone: equal keys give equal sequences."""

    def __init__(self, *key: int):
        self._rng = np.random.default_rng(key)
        self._block: list[float] = []

    def random(self) -> float:
        """Uniform in [0, 1)."""
        if not self._block:
            self._block = self._rng.random(_BLOCK).tolist()
        return self._block.pop()

    def uniform(self, low: float, high: float) -> float:
        """Uniform in [low, high)."""
        return low + (high - low) * self.random()

    def below(self, n: int) -> int:
        """An integer in 0 .. n - 1."""
        return int(n * self.random())

    def between(self, low: int, high: int) -> int:
        """An integer in low .. high, both included."""
        return low + self.below(high - low + 1)

    def chance(self, probability: float) -> bool:
        """True with this probability."""
        return self.random() < probability

    def sign(self) -> int:
        """-1 or 1, equally likely."""
        return 1 if self.random() < 0.5 else -1

    def pick(self, options: Sequence[T]) -> T:
        """One of `options`, all equally likely."""
        return options[self.below(len(options))]
