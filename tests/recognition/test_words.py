"""From predicted characters to words, computed by hand."""

import numpy as np
import pytest

from tcm_jax.recognition.model import Prediction
from tcm_jax.recognition.words import DecodedWord, words
from tcm_jax.text.charset import CharsetTokenizer
from tcm_jax.text.dictionary import DictionaryPrior

TOKENIZER = CharsetTokenizer("0acehopst!")
LENGTH, ALTERNATIVES = 8, 2
END = "$"

Hypothesis = list[str | dict[str, float]]  # a place each: a sure character, or probabilities by character, falling


def read(*hypotheses: Hypothesis, weight: float | None = 8) -> DecodedWord:
    """The word of these hypotheses; each ends with probability 1 unless it has `END` itself."""
    ids = np.zeros((1, len(hypotheses), LENGTH, ALTERNATIVES), int)
    probabilities = np.zeros(ids.shape)
    for n, hypothesis in enumerate(hypotheses):
        places = [{place: 1.0} if isinstance(place, str) else place for place in hypothesis]
        for t, place in enumerate([*places, *[{END: 1.0}] * (LENGTH - len(places))]):
            for k, (character, probability) in enumerate(place.items()):
                ids[0, n, t, k] = TOKENIZER.eos_id if character == END else TOKENIZER.charset.index(character) + 1
                probabilities[0, n, t, k] = probability
    (word,) = words(TOKENIZER, Prediction(ids, probabilities), None if weight is None else DictionaryPrior(weight))
    return word


STCP: Hypothesis = ["s", "t", {"c": 0.6, "o": 0.3}, "p", {END: 0.5, "s": 0.4}]


def test_the_likeliest_hypothesis_counts_with_the_probability_of_its_end():
    likelier: Hypothesis = ["a", {"c": 0.5}]
    for hypotheses in (likelier, ["a", {"e": 0.8}, {END: 0.5}]), (["a", {"e": 0.8}, {END: 0.5}], likelier):
        word = read(*hypotheses, weight=None)
        assert (word.text, word.raw_text, word.confidence) == ("ac", None, 0.5)
        assert word.probabilities.tolist() == [1, 0.5, 1]


def test_a_word_of_the_dictionary_takes_the_place_of_another_reading():
    word = read(STCP)
    assert (word.text, word.raw_text) == ("stop", "stcp")
    assert word.probabilities.tolist() == [1, 1, 0.3, 1, 0.5]
    assert word.confidence == pytest.approx(0.15)


def test_unless_it_is_too_unlikely():
    assert read(STCP, weight=2.1).text == "stop"
    word = read(STCP, weight=1.9)
    assert (word.text, word.raw_text) == ("stcp", None)


def test_a_known_word_and_what_can_be_none_stay():
    assert read(["s", "t", {"o": 0.4, "e": 0.4}, "p"]).text == "stop"  # although "step" is as likely
    assert read(["s", "t", {"0": 0.6, "o": 0.3}, "p"]).text == "st0p"
    assert read(["a", {"c": 0.6, "t": 0.3}]).text == "ac"


def test_all_hypotheses_that_are_likely_enough_are_searched():
    shorter: Hypothesis = ["s", {"h": 0.3, "t": 0.2}, "o", "p"]
    word = read(STCP, shorter)
    assert (word.text, word.raw_text, word.confidence) == ("shop", "stcp", pytest.approx(0.3))
    assert read(["s", "t", "c", "p"], shorter, weight=3).text == "stcp"
    assert read(["s", "t", "c", "p"], [{END: 0.4}], shorter, weight=4).text == "shop"


def test_the_likeliest_of_several_words_is_taken():
    # "scot", "shot" and the like are less likely.
    assert read(["s", {"c": 0.5, "t": 0.4}, {"c": 0.6, "o": 0.4}, {"p": 0.6, "t": 0.4}]).text == "stop"


def test_an_earlier_end_is_no_alternative():
    assert read(["s", "t", "o", "p", {"c": 0.6, END: 0.4}]).text == "stopc"


def test_punctuation_stays():
    assert read([*STCP[:4], "!"]).text == "stop!"


def test_long_unsure_readings_are_no_burden():
    """2 ** 8 readings are equally likely; only so many are looked up."""
    either = {"c": 0.5, "h": 0.5}
    assert len(read([either] * LENGTH).text) == LENGTH


def test_one_greedy_reading_of_each_image():
    ids = np.array([[1, 2, 0, 3], [0, 1, 1, 1]])
    first, nothing = words(TOKENIZER, Prediction(ids, np.array([[0.5, 0.5, 0.5, 0.1], [0.25, 1, 1, 1]])))
    assert (first.text, first.confidence) == ("0a", 0.125)
    assert (nothing.text, nothing.confidence) == ("", 0.25)
