"""Words that occur in captions of pictures, which a doubtful reading gives way to."""

import functools

from tcm_jax.text.bpe import vocabulary_words

_LEAST = 4  # letters: of shorter readings too many are names and abbreviations
_AROUND = "\"'()-.,:;!?"


class Vocabulary:
    """The whole words of four letters and more of CLIP's byte-pair encoding.

    Letter case and punctuation around a word don't count.

    Args:
        weight: how many times as likely as one of these words another reading must be to be preferred, at least 1.

    Raises:
        ValueError: a weight below 1.
    """

    def __init__(self, weight: float):
        if not weight >= 1:
            raise ValueError(f"vocabulary_weight is {weight}; expected at least 1 (no preference), such as 8")
        self.weight = weight

    def __contains__(self, text: str) -> bool:
        return _core(text).lower() in _words()

    def doubts(self, text: str) -> bool:
        """Whether `text` looks like a word of this kind (four ASCII letters or more, nothing else), but is none."""
        core = _core(text)
        return len(core) >= _LEAST and core.isascii() and core.isalpha() and text not in self


def _core(text: str) -> str:
    return text.strip(_AROUND)


@functools.cache
def _words() -> frozenset[str]:
    return frozenset(word for word in vocabulary_words() if len(word) >= _LEAST)
