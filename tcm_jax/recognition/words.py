"""From what a recognizer predicts to words: the likeliest of several readings, with a dictionary prior."""

from typing import NamedTuple

import numpy as np

from tcm_jax.distributed.multihost import local_rows
from tcm_jax.recognition.model import Prediction
from tcm_jax.text.charset import CharsetTokenizer
from tcm_jax.text.dictionary import DictionaryPrior

_TRIED = 64  # readings of each hypothesis that are looked up in the dictionary


class DecodedWord(NamedTuple):
    """A predicted word.

    Args:
        text: its characters; probabilities: of each of its tokens, the characters and, unless cut off, EOS.
        raw_text: the likeliest reading, where a word of the dictionary took its place; else None.
    """

    text: str
    probabilities: np.ndarray
    raw_text: str | None = None

    @property
    def confidence(self) -> float:
        """Product of all probabilities, that of EOS included."""
        return float(np.prod(self.probabilities, dtype=np.float64))


def words(
    tokenizer: CharsetTokenizer, prediction: Prediction, prior: DictionaryPrior | None = None
) -> list[DecodedWord]:
    """The words in this process's rows of `prediction`, cut at their first EOS.

    Of several hypotheses the one with the largest product of probabilities counts, EOS included. If that is out
    of the prior's dictionary, the likeliest word of the dictionary with as many characters as one of the hypotheses
    takes its place, unless that is less likely by more than the prior's weight.
    """
    ids, probabilities = local_rows(prediction.ids), local_rows(prediction.probabilities).astype(np.float64)
    if ids.ndim == 2:
        ids, probabilities = (x[:, None, :, None] for x in (ids, probabilities))  # [b, n, t, k]
    ends = ids[..., 0] == tokenizer.eos_id
    behind = ends.cumsum(-1) > ends  # the first EOS
    likelihoods = np.where(behind, 1, probabilities[..., 0]).prod(-1)  # [b, n]
    best = likelihoods.argmax(1)
    found = []
    for i, text in enumerate(tokenizer.decode(ids[range(len(ids)), best, :, 0])):
        word = DecodedWord(text, probabilities[i, best[i], : len(text) + 1, 0])
        if prior is not None and prior.out_of_dictionary(text):
            lowest = word.confidence / prior.weight
            likely = likelihoods[i] >= lowest
            word = _in_dictionary(tokenizer, ids[i][likely], probabilities[i][likely], prior, lowest, text) or word
        found.append(word)
    return found


def _in_dictionary(
    tokenizer: CharsetTokenizer,
    ids: np.ndarray,
    probabilities: np.ndarray,
    prior: DictionaryPrior,
    lowest: float,
    raw_text: str,
) -> DecodedWord | None:
    """The likeliest word of the dictionary in the alternatives [n, t, k] of hypotheses, None below `lowest`."""
    found = None
    for texts, chances in zip(ids, probabilities, strict=True):
        ends = np.flatnonzero(texts[:, 0] == tokenizer.eos_id)
        length = ends[0] if len(ends) else len(texts)
        # To end earlier is no alternative: the characters that follow were predicted beside this one.
        places = np.where(texts == tokenizer.eos_id, 0, chances)[:length]
        end = chances[length : length + 1, 0]  # nothing where the word is cut off
        picks = _likeliest(places, lowest / end.prod())
        candidates = tokenizer.decode(np.take_along_axis(texts[:length], picks.T, axis=1).T)
        for text, pick in zip(candidates, picks, strict=True):
            if text in prior:
                found = DecodedWord(text, np.append(places[np.arange(length), pick], end), raw_text)
                lowest = found.confidence
                break
    return found


def _likeliest(chances: np.ndarray, lowest: float) -> np.ndarray:
    """The at most `_TRIED` ways [m, t] to pick one of k at each of t places whose product of `chances` [t, k] is at
    least `lowest`, by falling product.
    """
    picks, products = np.zeros((1, 0), int), np.ones(1)
    for row in chances:
        grown = np.outer(products, row).reshape(-1)
        kept = np.argsort(-grown, kind="stable")[:_TRIED]
        kept = kept[grown[kept] >= lowest]
        products = grown[kept]
        picks = np.column_stack([picks[kept // len(row)], kept % len(row)])
    return picks
