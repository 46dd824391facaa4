"""Expected characters and words: of a recognizer, and by themselves."""

import argparse

import numpy as np
import pytest

from tcm_jax import Reading, Recognizer
from tcm_jax.commands.read import READ_FLAGS
from tcm_jax.options import add_flags, from_flags
from tcm_jax.recognition.options import ReadingOptions
from tcm_jax.text.allow_list import AllowList, characters
from tcm_jax.text.charset import CHARSET_36
from tcm_jax.text.lexicon import Lexicon, carry_over


def pictures() -> list[np.ndarray]:
    return [np.random.default_rng(n).integers(0, 256, (20 + n, 40, 3), np.uint8) for n in range(4)]


@pytest.fixture(scope="module")
def readings(tiny_model) -> list[Reading]:
    return Recognizer(tiny_model, batch_size=4, quiet=True).read(pictures())


def test_ranges():
    assert characters("0-3a-c") == set("0123abc")
    assert characters("-+") == characters("+-") == {"+", "-"}
    assert characters("A-A.") == {"A", "."}
    assert characters("ä-ü") >= {"ä", "ö", "ü"}


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ("", "allow is empty; expected characters, such as 0-9A-Z"),
        ("9-0", "'9-0' runs backwards"),
        ("0-9A-C", "the model can't read 'ABC', its characters are '0123456789abc"),
    ],
)
def test_what_no_allow_list_can_be(spec, message):
    with pytest.raises(ValueError, match=message):
        AllowList(spec, CHARSET_36)


def test_mask_lets_words_end():
    assert AllowList("bd", "abcd").mask().tolist() == [0, -np.inf, 0, -np.inf, 0]


def test_masked_characters_are_never_read(tiny_model, readings):
    """The model chooses among the others, and its confidences are those of this choice."""
    digits = Recognizer(tiny_model, batch_size=4, allow="0-9", quiet=True).read(pictures())
    assert any(reading.text for reading in digits)
    assert all(reading.text.isdigit() or not reading.text for reading in digits)
    assert all(0 < c <= 1 for reading in digits for c in (reading.confidence, *reading.char_confidences))
    assert [reading.text for reading in digits] != [reading.text for reading in readings]


def test_a_mask_of_all_characters_changes_nothing(tiny_model, readings):
    everything = "".join(map(chr, range(33, 127)))
    hyphen_last = everything.replace("-", "") + "-"
    same = Recognizer(tiny_model, batch_size=4, allow=hyphen_last, quiet=True).read(pictures())
    assert [reading.text for reading in same] == [reading.text for reading in readings]


def test_dropped_characters_take_their_probabilities_along(tiny_model, readings):
    (unwanted,) = {min(readings[0].text)}
    others = "".join(c for c in map(chr, range(33, 127)) if c not in (unwanted, "-")) + "-"
    recognizer = Recognizer(tiny_model, batch_size=4, allow=others, on_disallowed="drop", quiet=True)
    whole, rest = readings[0], recognizer.read(pictures())[0]
    kept = [(c, p) for c, p in zip(whole.text, whole.char_confidences, strict=True) if c != unwanted]
    assert rest.text == "".join(c for c, _ in kept)
    assert len(rest.text) < len(whole.text)
    assert rest.char_confidences == pytest.approx([p for _, p in kept])
    dropped = np.prod([p for c, p in zip(whole.text, whole.char_confidences, strict=True) if c == unwanted])
    assert rest.confidence == pytest.approx(whole.confidence / dropped, rel=1e-4)


def test_the_nearest_word():
    lexicon = Lexicon(["Exit", "exile", "Sale", "SALE"], distance=0.34)
    assert lexicon.nearest("EX1T") == "Exit"  # one of four
    assert lexicon.nearest("sale") == "Sale"  # the first of those that differ in case alone
    assert lexicon.nearest("SALE") == "SALE"  # but not if it is a word itself
    assert lexicon.nearest("EXXX") is None
    assert lexicon.nearest("") is None
    assert Lexicon(["Exit"], distance=1).nearest("???") == "Exit"


def test_lexicon_files(tmp_path):
    path = tmp_path / "words.txt"
    path.write_bytes("\ufeffStraße\r\n\r\n  Exit \r\n".encode())
    assert Lexicon(path).words == Lexicon(str(path)).words == ["Straße", "Exit"]
    path.write_bytes(b"\n\n")
    with pytest.raises(ValueError, match=r"words\.txt has no words; expected one in each line"):
        Lexicon(path)
    path.write_bytes(b"\xff\xfe")
    with pytest.raises(ValueError, match=r"words\.txt is no UTF-8 text"):
        Lexicon(path)
    with pytest.raises(FileNotFoundError):
        Lexicon(tmp_path / "none.txt")
    with pytest.raises(ValueError, match="lexicon_distance is 2; expected 0"):
        Lexicon(["a"], 2)


def test_probabilities_are_those_of_the_characters_that_were_read():
    assert carry_over((0.1, 0.2, 0.3, 0.4), "EX1T", "Exit") == (0.1, 0.2, 0, 0.4)
    assert carry_over((0.1, 0.2, 0.3), "cat", "coat") == (0.1, 0, 0.2, 0.3)
    assert carry_over((0.1, 0.2, 0.3), "cat", "at") == (0.2, 0.3)
    assert carry_over((0.5,), "İ", "İ") == (0.5,)


def test_a_reading_in_the_spelling_of_the_lexicon(tiny_model, readings):
    word = readings[0].text
    recognizer = Recognizer(tiny_model, batch_size=4, lexicon=[word + "!"], lexicon_distance=0.05, quiet=True)
    first, *others = recognizer.read(pictures())
    assert (first.text, first.raw_text) == (word + "!", word)
    assert first.confidence == pytest.approx(readings[0].confidence, rel=1e-4)
    assert first.char_confidences == pytest.approx((*readings[0].char_confidences, 0), rel=1e-4)
    assert [reading.text for reading in others] == [reading.text for reading in readings[1:]]
    assert all(reading.raw_text is None for reading in others)


def test_options_of_commands(tmp_path):
    parser = argparse.ArgumentParser()
    add_flags(parser.add_argument, ReadingOptions, *READ_FLAGS)

    def options(words: str) -> ReadingOptions:
        return from_flags(ReadingOptions, parser.parse_args(words.split()))

    assert options("") == ReadingOptions(None, None, None, lexicon_distance=1 / 3)
    words = f"--allow 0-9 --on-disallowed drop --lexicon {tmp_path} --lexicon-distance 0.5"
    given = {"allow": "0-9", "on_disallowed": "drop", "lexicon": str(tmp_path), "lexicon_distance": 0.5}
    for flag in ("--dictionary-prior", "--vocabulary-weight"):
        assert options(f"{flag} 3 {words}") == ReadingOptions(dictionary_prior=3, **given)


def test_options(tiny_model):
    with pytest.raises(ValueError, match="on_disallowed is 'ignore'; expected one of mask, drop"):
        Recognizer(tiny_model, allow="a", on_disallowed="ignore")


def test_warmup_compiles_all_sizes(tiny_model, monkeypatch):
    recognizer = Recognizer(tiny_model, batch_size=6, quiet=True)
    sizes = []
    monkeypatch.setattr(recognizer, "_predict", lambda variables, images, mask: sizes.append(len(images)))
    recognizer.warmup()
    assert sizes == [1, 2, 4, 6]
