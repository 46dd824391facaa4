"""Character sets: tokens of the recognizer's decoders and the mapping between sets."""

import string
from collections.abc import Sequence

import numpy as np

CHARSET_36 = string.digits + string.ascii_lowercase
CHARSET_62 = CHARSET_36 + string.ascii_uppercase
CHARSET_94 = CHARSET_62 + string.punctuation


class CharsetTokenizer:
    """Labels as token ids: EOS 0, the characters 1..n in the order of the set, BOS n + 1, PAD n + 2.

    The classifier of a decoder has `num_classes = n + 1` outputs: EOS and the characters.
    """

    eos_id = 0

    def __init__(self, charset: str):
        self.charset = charset
        self.num_classes = len(charset) + 1
        self.bos_id = len(charset) + 1
        self.pad_id = len(charset) + 2
        self.num_tokens = len(charset) + 3
        self._ids = {character: i for i, character in enumerate(charset, start=1)}

    def encode(self, labels: Sequence[str], max_length: int) -> np.ndarray:
        """Token ids [BOS, characters, EOS, PAD...] of every label, int32 [b, max_length + 2].

        Raises:
            ValueError: a label is longer than `max_length` or has a character outside the set.
        """
        ids = np.full((len(labels), max_length + 2), self.pad_id, np.int32)
        for row, label in zip(ids, labels, strict=True):
            if len(label) > max_length:
                raise ValueError(f"label {label!r} has {len(label)} characters; at most {max_length} are allowed")
            unknown = [c for c in label if c not in self._ids]
            if unknown:
                raise ValueError(f"label {label!r} has {unknown[0]!r}, which is not in the charset")
            row[: len(label) + 2] = [self.bos_id, *(self._ids[c] for c in label), self.eos_id]
        return ids

    def decode(self, ids: np.ndarray) -> list[str]:
        """The characters before the first EOS of every row of `ids` [b, t]."""
        rows = (row[: np.argmax(row == self.eos_id)] if (row == self.eos_id).any() else row for row in ids)
        return ["".join(self.charset[i - 1] for i in row) for row in rows]


class CharsetAdapter:
    """Maps a string onto a character set: one case if the set has one case, then unknown characters dropped.

    Source: strhub/data/utils.py (CharsetAdapter) of the original.
    """

    def __init__(self, charset: str):
        self._keep = frozenset(charset)
        self._lower = charset == charset.lower()
        self._upper = charset == charset.upper()

    def __call__(self, label: str) -> str:
        if self._lower:
            label = label.lower()
        elif self._upper:
            label = label.upper()
        return "".join(c for c in label if c in self._keep)
