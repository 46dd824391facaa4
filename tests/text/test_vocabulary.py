"""Which readings are known words, and which look like one but are none."""

import pytest

from tcm_jax.text.vocabulary import Vocabulary


@pytest.mark.parametrize("text", ["restaurant", "STOP", "Stop!", '("then"', "June."])
def test_known_words(text):
    assert text in Vocabulary(8)
    assert not Vocabulary(8).doubts(text)


@pytest.mark.parametrize("text", ["restaurent", "STQP", "stopp,"])
def test_doubtful_words(text):
    assert text not in Vocabulary(8)
    assert Vocabulary(8).doubts(text)


@pytest.mark.parametrize("text", ["", "of", "the", "DLR", "ST0P", "24h", "a-b-c", "10.50", "café", "стоп"])
def test_what_the_vocabulary_says_nothing_about(text):
    """Less than four letters, other characters than those of ASCII's letters."""
    assert not Vocabulary(8).doubts(text)


@pytest.mark.parametrize("weight", [0.5, 0, -1, float("nan")])
def test_bad_weight(weight):
    with pytest.raises(ValueError, match=rf"vocabulary_weight is {weight}; expected at least 1"):
        Vocabulary(weight)
