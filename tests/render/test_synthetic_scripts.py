"""Rendered words of other scripts: capitals, numerals, what is left out and why, and the split."""

import string
import unicodedata
from pathlib import Path

import pytest

from tcm_jax.images.fonts import FontLibrary
from tcm_jax.render.random_stream import RandomStream
from tcm_jax.render.scripts import capitals, has_marks, needs_layout, without_marks
from tcm_jax.render.vocabulary import TextSampler, read_words, split_of
from tcm_jax.render.words import SyntheticWords

GREEK = "αβγδεζηθικλμνξοπρσςτυφχψωάέήίόύώϊϋΐΰΑΒΓΔΕΖΗΘΙΚΛΜΝΞΟΠΡΣΤΥΦΧΨΩΆΈΉΊΌΎΏΪΫ"
CYRILLIC = "абвгдежзийклмнопрстуфхцчшщъыьэюя"


def drawn(words: TextSampler, count: int = 500) -> list[str]:
    rng = RandomStream(1)
    return [words.draw(rng)[0] for _ in range(count)]


@pytest.mark.parametrize(
    ("text", "charset", "expected"),
    [
        ("Straße", "", "STRASSE"),
        ("Straße", "aẞ", "STRAẞE"),
        ("οδός", "", "ΟΔΟΣ"),
        ("μάιος", "", "ΜΑΪΟΣ"),
        ("προϊόν", "", "ΠΡΟΪΟΝ"),
        ("ταΐζω", "", "ΤΑΪΖΩ"),
        ("café", "", "CAFÉ"),
        ("izmir", "ıİ", "İZMİR"),
        ("izmir", "", "IZMIR"),
        ("йод", "", "ЙОД"),
        ("駅が", "", "駅が"),
    ],
)
def test_capitals_as_signs_have_them(text, charset, expected):
    assert capitals(text, charset) == expected == unicodedata.normalize("NFC", expected)


def test_letters_that_are_not_set_in_a_row():
    assert all(map(needs_layout, "שלאبक்க"))
    assert not any(map(needs_layout, "aß5ώж駅ก٣३"))
    assert has_marks("e\u0301")
    assert has_marks("กี")
    assert not has_marks("é")
    assert without_marks("Ölpreis οδός й") == "Olpreis οδος и"


def test_a_charset_without_latin_letters_has_texts_of_its_own():
    words = TextSampler(GREEK + string.digits, 12, word_file=None)
    texts = drawn(words)
    assert words.words == [], "the built-in list is English"
    assert all(set(text) <= set(GREEK + string.digits + string.punctuation) for text in texts)
    kinds = {generate.__name__ for generate in words._kinds}
    assert "_number" in kinds
    assert "_address" not in kinds
    assert set(words.capitals) == set("ΑΒΓΔΕΖΗΘΙΚΛΜΝΞΟΠΡΣΤΥΦΧΨΩΪΫ")
    kinds = {generate.__name__ for generate in TextSampler(CYRILLIC, 12)._kinds}
    assert kinds == {"_code", "_joined", "_punctuated", "_random_characters", "_single"}


def test_numbers_and_prices_have_the_charset_s_digits_and_currencies():
    own = TextSampler("०१२३४५६७८९₹.,/:-", 12)
    texts = "".join(drawn(own))
    assert not set(string.digits) & set(texts)
    assert set("०१२३४५६७८९₹") <= set(texts)
    assert "$" not in texts
    both = TextSampler("०१२३४५६७८९0123456789$€", 12)
    texts = drawn(both)
    assert set("०१२३४५६७८९0123456789$€") <= set("".join(texts))


def test_accents_do_not_separate_the_splits():
    for word in ("οδός", "έξοδος", "Bäckerei", "προϊόντα"):
        assert split_of(word) == split_of(capitals(word)) == split_of(without_marks(word))


def test_words_of_a_file_are_composed(tmp_path):
    path = tmp_path / "words.txt"
    path.write_text(unicodedata.normalize("NFD", "öffnen\nοδός\n"), encoding="utf-8")
    assert read_words(path) == ["öffnen", "οδός"]


def word_file(folder: Path, *words: str) -> Path:
    path = folder / "words.txt"
    path.write_text("\n".join(words), encoding="utf-8")
    return path


def test_punctuation_of_any_script_may_be_left_out_of_labels(tmp_path):
    words = TextSampler(string.ascii_letters, 12, "train", word_file(tmp_path, "l’eau", "«ici»", "naïf"), listed=1.0)
    assert words.words == ["l’eau", "«ici»"]
    assert words.dropped == {"a letter or digit outside the charset": 1}
    assert {words.draw(RandomStream(i))[1].lower() for i in range(50)} == {"leau", "ici"}


def test_words_that_no_font_draws_are_named(tmp_path, caplog):
    path = word_file(tmp_path, "漢字", "漢語", "駅")
    with pytest.raises(ValueError, match=r"has no word for split 'train'.*right to left.': 3"):
        SyntheticWords("abc漢字語駅", word_file=path)
    SyntheticWords("abc漢")
    assert "no font draws '漢': no word will have it; give a font_dir" in caplog.text


def test_scripts_that_the_renderer_does_not_lay_out(caplog):
    words = SyntheticWords("abcשלם", size=5)
    assert words.undrawable == "שלם"
    assert "can't lay out 'שלם'" in caplog.text
    assert all(set(label) <= set("abc") for label in words.labels())
    with pytest.raises(ValueError, match="can't lay out any of the charset 'سلام'; use real images"):
        SyntheticWords("سلام")


def test_scripts_of_the_packaged_fonts():
    fonts = FontLibrary().fonts

    def families(characters: str) -> int:
        return len({font.family for font in fonts if font.covers(characters)})

    assert families("äöüßÄÖÜ") == 8
    assert families("ąćęłńóśźżğışéèêåøő") >= 6
    assert families(GREEK) == families(CYRILLIC + CYRILLIC.upper()) == 4
    assert families("ạảấầẩậắằẳặ") >= 4
    assert families("漢") == families("ก") == families("अ") == families("ب") == 0


def test_marks_stay_with_their_letters():
    marked = "อย่าี" + "e̱"
    words = TextSampler(marked + "abc", 8)
    for text in drawn(words, 300):
        assert not has_marks(text[0])
