"""Words of CLIP's vocabulary, which a reading that is no word gives way to."""

import functools

from tcm_jax.text.bpe import vocabulary_words

_MIN_LETTERS = 4  # letters: of shorter readings too many are names and abbreviations
_AROUND = "\"'()-.,:;!?"


class DictionaryPrior:
    """The whole words of four letters and more of CLIP's byte-pair encoding.

    Letter case and punctuation around a word don't count.

    Args:
        weight: how many times as likely as one of these words another reading must be to be preferred, at least 1.

    Raises:
        ValueError: a weight below 1.
    """

    def __init__(self, weight: float):
        if not weight >= 1:
            raise ValueError(f"dictionary_prior is {weight}; expected at least 1 (no prior), such as 8")
        self.weight = weight

    def __contains__(self, text: str) -> bool:
        return _core(text).lower() in _words()

    def out_of_dictionary(self, text: str) -> bool:
        """Whether `text` looks like a word of this kind (four ASCII letters or more, nothing else), but is none."""
        core = _core(text)
        return len(core) >= _MIN_LETTERS and core.isascii() and core.isalpha() and text not in self


def _core(text: str) -> str:
    return text.strip(_AROUND)


@functools.cache
def _words() -> frozenset[str]:
    return frozenset(word for word in vocabulary_words() if len(word) >= _MIN_LETTERS)
