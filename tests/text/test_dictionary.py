"""Which readings are known words, and which look like one but are none."""

import pytest

from tcm_jax.text.dictionary import DictionaryPrior


@pytest.mark.parametrize("text", ["restaurant", "STOP", "Stop!", '("then"', "June."])
def test_known_words(text):
    assert text in DictionaryPrior(8)
    assert not DictionaryPrior(8).out_of_dictionary(text)


@pytest.mark.parametrize("text", ["restaurent", "STQP", "stopp,"])
def test_words_out_of_the_dictionary(text):
    assert text not in DictionaryPrior(8)
    assert DictionaryPrior(8).out_of_dictionary(text)


@pytest.mark.parametrize("text", ["", "of", "the", "DLR", "ST0P", "24h", "a-b-c", "10.50", "café", "стоп"])
def test_what_the_vocabulary_says_nothing_about(text):
    """Less than four letters, other characters than those of ASCII's letters."""
    assert not DictionaryPrior(8).out_of_dictionary(text)


@pytest.mark.parametrize("weight", [0.5, 0, -1, float("nan")])
def test_bad_weight(weight):
    with pytest.raises(ValueError, match=rf"dictionary_prior is {weight}; expected at least 1"):
        DictionaryPrior(weight)
