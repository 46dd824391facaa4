"""Words that are expected, and the one that a reading is most like."""

import os
from collections.abc import Sequence

from rapidfuzz import process
from rapidfuzz.distance import Levenshtein

from tcm_jax.files import as_path, local_copy

DISTANCE = 1 / 3  # one wrong character in three


class Lexicon:
    """Expected words; letter case doesn't count when they are compared.

    Args:
        words: a sequence of them, or a UTF-8 text file with one in each line.
        distance: the largest normalized edit distance (errors over the longer length) between a reading and the word
            that takes its place, 0..1; 1: the nearest word always does.

    Raises:
        ValueError: no words, or a distance outside 0..1.
        OSError: the file can't be read.
    """

    def __init__(self, words: str | os.PathLike | Sequence[str], distance: float = DISTANCE):
        if not 0 <= distance <= 1:
            raise ValueError(
                f"lexicon_distance is {distance}; expected 0 (equal but for case) .. 1 (always the nearest)"
            )
        source = "lexicon"
        if isinstance(words, str | os.PathLike):
            source = f"lexicon {words}"
            try:
                words = local_copy(as_path(words)).read_text("utf-8-sig").splitlines()
            except UnicodeDecodeError as error:
                raise ValueError(f"{source} is no UTF-8 text: {error}") from error
        self.words = [word for line in words if (word := line.strip())]
        if not self.words:
            raise ValueError(f"{source} has no words; expected one in each line")
        self.distance = distance
        self._known = frozenset(self.words)
        self._folded = [_fold(word) for word in self.words]

    def nearest(self, text: str) -> str | None:
        """The word with the smallest normalized edit distance, the first of several; None if all are too far."""
        if text in self._known:
            return text
        found = process.extractOne(
            _fold(text), self._folded, scorer=Levenshtein.normalized_distance, score_cutoff=self.distance
        )
        return self.words[found[2]] if text and found else None


def carry_over(values: Sequence[float], text: str, word: str) -> tuple[float, ...]:
    """Values of the characters of `text` for those of `word`; 0 for a character that `text` doesn't have there."""
    carried = [0.0] * len(word)
    for block in Levenshtein.opcodes(_fold(text), _fold(word)).as_matching_blocks():
        carried[block.b : block.b + block.size] = values[block.a : block.a + block.size]
    return tuple(carried)


def _fold(text: str) -> str:
    """Without case (a final sigma is a sigma), with as many characters as before."""
    return "".join(next((f for f in (c.casefold(), c.lower()) if len(f) == 1), c) for c in text)
