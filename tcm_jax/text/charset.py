"""Character sets: tokens of the recognizer's decoders and the mapping between sets."""

import string
from collections.abc import Sequence

import numpy as np

CHARSET_36 = string.digits + string.ascii_lowercase
CHARSET_62 = CHARSET_36 + string.ascii_uppercase
CHARSET_94 = CHARSET_62 + string.punctuation


class CharsetTokenizer:
    """Tokenizer of labels: EOS is 0, the n characters of the set are 1..n in its order, BOS n + 1, PAD n + 2.

    A decoder's classifier has `num_classes` = n + 1 outputs: EOS and the characters.
    """

    eos_id = 0

    def __init__(self, charset: str) -> None:
        self.charset, n = charset, len(charset)
        self.num_classes, self.num_tokens = n + 1, n + 3
        self.bos_id, self.pad_id = n + 1, n + 2
        self._ids = {character: i for i, character in enumerate(charset, start=1)}

    def encode(self, labels: Sequence[str], max_length: int) -> np.ndarray:
        """Token ids [BOS, characters, EOS, PAD...] of labels, int32 [b, max_length + 2].

        Raises:
            ValueError: a label is longer than `max_length` or has a character outside the set.
        """
        ids = np.full((len(labels), max_length + 2), self.pad_id, np.int32)
        for row, label in zip(ids, labels, strict=True):
            if len(label) > max_length:
                raise ValueError(f"label {label!r} has {len(label)} characters; at most {max_length} are allowed")
            if unknown := [c for c in label if c not in self._ids]:
                raise ValueError(f"label {label!r} has {unknown[0]!r}, which is not in the charset")
            row[: len(label) + 2] = [self.bos_id, *(self._ids[c] for c in label), self.eos_id]
        return ids

    def decode(self, ids: np.ndarray) -> list[str]:
        """The texts that `ids` [b, t] stand for: the characters of each row before the first EOS."""
        rows = (row[: np.argmax(row == self.eos_id)] if (row == self.eos_id).any() else row for row in ids)
        return ["".join(self.charset[i - 1] for i in row) for row in rows]


class CharsetAdapter:
    """Maps a string to a character set: changes the case if the set has one case only, drops unknown characters.

    Source: strhub/data/utils.py (CharsetAdapter) of the original.
    """

    def __init__(self, charset: str) -> None:
        self._keep = frozenset(charset)
        self._lower = charset == charset.lower()
        self._upper = charset == charset.upper()

    def __call__(self, label: str) -> str:
        """`label`, mapped to the set."""
        label = label.lower() if self._lower else label.upper() if self._upper else label
        return "".join(c for c in label if c in self._keep)
