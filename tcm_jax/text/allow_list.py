"""The characters that a recognizer may output."""

import re

import numpy as np

ON_DISALLOWED = ("mask", "drop")  # what is done with other characters, see `Recognizer`


class AllowList:
    """A subset of the characters of a model.

    Args:
        spec: the characters; "a-z" stands for all from a to z by their Unicode numbers. A hyphen at the start or the
            end is itself.
        charset: of the model.

    Raises:
        ValueError: no characters, a range in the wrong order, or characters that the model does not have.
    """

    def __init__(self, spec: str, charset: str) -> None:
        self.charset, self.characters = charset, characters(spec)
        if unknown := "".join(sorted(self.characters - set(charset))):
            raise ValueError(f"allow is {spec!r}; the model can't read {unknown!r}, its characters are {charset!r}")

    def mask(self) -> np.ndarray:
        """Summand of the logits, float32 [v]: 0 for EOS, class 0, and allowed characters, else minus infinity."""
        return np.array([0.0, *np.where(self.allowed(self.charset), 0.0, -np.inf)], np.float32)

    def allowed(self, text: str) -> np.ndarray:
        """Which characters of `text` are allowed, bool [len(text)]."""
        return np.array([c in self.characters for c in text], bool)


def characters(spec: str) -> frozenset[str]:
    """The characters that `spec` stands for, see `AllowList`.

    Raises:
        ValueError: there are none, or a range is in the wrong order.
    """
    if not spec:
        raise ValueError("allow is empty; expected characters, such as 0-9A-Z")
    found: set[str] = set()
    for part in re.findall(r".-.|.", spec, re.DOTALL):
        first, last = part[0], part[-1]
        if first > last:
            raise ValueError(f"allow is {spec!r}; {part!r} runs backwards, a hyphen itself stands at the start or end")
        found.update(map(chr, range(ord(first), ord(last) + 1)))
    return frozenset(found)
