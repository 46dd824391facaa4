"""Expected words, of which the nearest one replaces what was read."""

import os
from collections.abc import Sequence

from rapidfuzz import process
from rapidfuzz.distance import Levenshtein

from tcm_jax.files import as_path, local_copy

DISTANCE = 1 / 3  # one wrong character in three


class Lexicon:
    """Expected words, which are compared without case.

    Args:
        words: the words, or a UTF-8 text file with one in each line.
        distance: maximum normalized edit distance (errors over the longer length) between a text and the word that
            replaces it, 0..1; with 1 the nearest word always does.

    Raises:
        ValueError: no words, or a distance outside 0..1.
        OSError: the file is unreadable.
    """

    def __init__(self, words: str | os.PathLike | Sequence[str], distance: float = DISTANCE) -> None:
        if not 0 <= distance <= 1:
            expected = "0 (equal but for case) .. 1 (always the nearest)"
            raise ValueError(f"lexicon_distance is {distance}; expected {expected}")
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
        """The word with the smallest normalized edit distance, the first of several; None if all exceed `distance`."""
        if text in self._known:
            return text
        found = process.extractOne(
            _fold(text), self._folded, scorer=Levenshtein.normalized_distance, score_cutoff=self.distance
        )
        return self.words[found[2]] if text and found else None


def carry_over(values: Sequence[float], text: str, word: str) -> tuple[float, ...]:
    """Values of the characters of `word`, from those of the aligned characters of `text`; 0 where there is none."""
    carried = [0.0] * len(word)
    for block in Levenshtein.opcodes(_fold(text), _fold(word)).as_matching_blocks():
        carried[block.b : block.b + block.size] = values[block.a : block.a + block.size]
    return tuple(carried)


def _fold(text: str) -> str:
    """`text` without case (a final sigma is a sigma), of the same length."""
    return "".join(next((f for f in (c.casefold(), c.lower()) if len(f) == 1), c) for c in text)
