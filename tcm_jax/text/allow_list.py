"""The characters that a reading may have."""

import re

import numpy as np

ON_DISALLOWED = ("mask", "drop")  # what is done with other characters, see `Recognizer`


class AllowList:
    """Some of the characters that a model reads.

    Args:
        spec: the characters; "a-z" stands for all from a to z by their Unicode numbers. A hyphen at the start or the
            end is itself.
        charset: of the model.

    Raises:
        ValueError: no characters, a range that runs backwards, or characters that the model can't read.
    """

    def __init__(self, spec: str, charset: str):
        self.charset, self.characters = charset, characters(spec)
        if unknown := "".join(sorted(self.characters - set(charset))):
            raise ValueError(f"allow is {spec!r}; the model can't read {unknown!r}, its characters are {charset!r}")

    def mask(self) -> np.ndarray:
        """What is added to the logits of the model's classes, float32 [v]: 0, or minus infinity for one that is not
        allowed. The end of a word, the first class, always is.
        """
        return np.array([0.0, *(0.0 if c in self.characters else -np.inf for c in self.charset)], np.float32)

    def allowed(self, text: str) -> np.ndarray:
        """Which characters of `text` may stay, bool [len(text)]."""
        return np.array([c in self.characters for c in text], bool)


def characters(spec: str) -> frozenset[str]:
    """The characters that `spec` stands for, see `AllowList`.

    Raises:
        ValueError: there are none; a range runs backwards.
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
