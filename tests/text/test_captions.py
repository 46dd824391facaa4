"""The device tokenizer: ids of the decoder to ids of the text encoder, equal to the host's."""

import functools
import random
from collections.abc import Callable

import ftfy
import jax
import numpy as np
import pytest

from tcm_jax.text import bpe
from tcm_jax.text.captions import CaptionTokenizer
from tcm_jax.text.charset import CHARSET_36, CHARSET_94, CharsetAdapter, CharsetTokenizer
from tests.conftest import read_json, read_jsonl

LENGTH = 25


def decoder_ids(texts: list[str], charset: str, length: int = LENGTH) -> np.ndarray:
    """What a decoder would predict: characters, EOS, then anything."""
    ids = CharsetTokenizer(charset).encode(texts, length)[:, 1:]
    return np.where(ids > len(charset), 5, ids)


@functools.cache
def compiled(charset: str, caption_charset: str, context: int) -> Callable:
    return jax.jit(CaptionTokenizer(charset, caption_charset, context))


def on_device(texts: list[str], charset: str, caption_charset: str, context: int = 16) -> np.ndarray:
    return np.asarray(compiled(charset, caption_charset, context)(decoder_ids(texts, charset), LENGTH + 1))


def random_texts(count: int) -> list[str]:
    """Strings that try the tokenizer: letters of every kind, contractions, special tokens, runs of punctuation."""
    rng = random.Random(0)
    words = bpe.vocabulary_words()
    pieces = ["'s", "'t", "'re", "'LL", "'", "''", "<|endoftext|>", "<|StartOfText|>", "<|", "!!", "&", "[E", "E]"]
    texts = []
    while len(texts) < count:
        text = ""
        while rng.random() < 0.8 and len(text) < LENGTH:
            text += rng.choice(
                [rng.choice(pieces), rng.choice(words), rng.choice(words).title(), rng.choice(CHARSET_94), "7", "42"]
            )
        texts.append(text[:LENGTH])
    texts += ["".join(rng.choices(CHARSET_94, k=rng.randint(0, LENGTH))) for _ in range(count)]
    return texts


@pytest.mark.parametrize("caption_charset", [CHARSET_36, CHARSET_94])
def test_equal_to_the_host_for_all_strings_without_html_entities(caption_charset):
    adapter = CharsetAdapter(caption_charset)
    texts = [t for t in random_texts(4000) if "[E]" not in t]
    plain = [t for t in texts if bpe.clean(adapter(t)) == adapter(t).lower()]
    assert len(plain) > 0.99 * len(texts), "only strings that spell an HTML entity are left out"
    expected = bpe.tokenize([adapter(t) for t in plain], 16, truncate=True)
    np.testing.assert_array_equal(on_device(plain, CHARSET_94, caption_charset), expected)


def test_the_fixture_s_short_strings(golden):
    texts = [row["text"] for row in read_jsonl(golden / "tokenizer" / "tokenizer.jsonl")]
    texts = [t for t in texts if len(t) <= LENGTH and set(t) <= set(CHARSET_94) and "[E]" not in t]
    plain = [t for t in texts if bpe.clean(t) == t.lower()]
    print(f"{len(plain)} of {len(texts)} strings spell no HTML entity")
    expected = bpe.tokenize(plain, 16, truncate=True)
    np.testing.assert_array_equal(on_device(plain, CHARSET_94, CHARSET_94), expected)


def test_html_entities_are_the_known_difference():
    assert bpe.encode("&lt;") == bpe.encode("<")
    on_host = bpe.tokenize(["&lt;"], 16)[0]
    device = on_device(["&lt;"], CHARSET_94, CHARSET_94)[0]
    assert device.tolist() != on_host.tolist()
    np.testing.assert_array_equal(on_device(["&lt;"], CHARSET_94, CHARSET_36)[0], bpe.tokenize(["lt"], 16)[0])


def test_captions_of_the_original_s_predictions(golden):
    charsets = read_json(golden / "metrics" / "config.json")["charsets"]
    rows = read_jsonl(golden / "metrics" / "char_tokenizer.jsonl")
    full = max(charsets.values(), key=len)
    length = len(rows[0]["argmax_ids"])
    ids = np.array([r["argmax_ids"] for r in rows if len(r["argmax_ids"]) == length])
    for name, charset in charsets.items():
        captions = [r[f"caption_{name}"] for r in rows if f"caption_{name}" in r]
        if not captions:
            continue
        device = jax.jit(CaptionTokenizer(full, charset))(ids, length)
        plain = np.array([bpe.clean(c) == c.lower() for c in captions])
        expected = bpe.tokenize(captions, 16, truncate=True)
        np.testing.assert_array_equal(np.asarray(device)[plain], expected[plain], name)
        print(f"{name}: {plain.sum()} captions equal")


def test_an_end_of_sequence_spelled_in_characters_ends_a_caption():
    assert "[E]" in "ab[E]cd"
    np.testing.assert_array_equal(on_device(["ab[E]cd"], CHARSET_94, CHARSET_36), bpe.tokenize(["ab"], 16))


def test_positions_that_do_not_exist_are_ignored():
    ids = decoder_ids(["station"], CHARSET_94)
    tokenizer = CaptionTokenizer(CHARSET_94, CHARSET_36)
    np.testing.assert_array_equal(tokenizer(ids, 3), bpe.tokenize(["sta"], 16))
    both = tokenizer(np.concatenate([ids, ids]), np.array([3, 26]))
    np.testing.assert_array_equal(both, bpe.tokenize(["sta", "station"], 16))


def test_long_captions_keep_their_beginning():
    text = "1234567890123456789012345"
    device = on_device([text], CHARSET_94, CHARSET_36, context=8)
    np.testing.assert_array_equal(device, bpe.tokenize([text], 8, truncate=True))
    assert device[0, -1] == bpe.EOT


GREEK_LOWER = "αβγδεζηθικλμνξοπρσςτυφχψωάέήίόύώϊϋΐΰ"
GREEK_CAPITALS = "ΑΒΓΔΕΖΗΘΙΚΛΜΝΞΟΠΡΣΤΥΦΧΨΩΆΈΉΊΌΎΏΪΫ"
SCRIPTS = {
    "greek": GREEK_LOWER + GREEK_CAPITALS + "012 .'-·",
    "greek capitals": GREEK_CAPITALS + "09'",
    "greek with Latin": "abcXYZ" + GREEK_CAPITALS + "σς.:’",
    "german": "abcdefgßäöüABÄÖÜẞ-'„“ 12",
    "turkish": "abcçdgğhıijğösşuüABCÇDIİĞÖŞ'",
    "cyrillic": "абвгдежзийклмнопрстуфхцчшщъыьэюяёіїєґАБВЁІЇ'0123456789",
    "japanese": "あいうえお日本語駅ｱｲカタカナabc'1!１２Ａ",
    "other digits": "٠١٢٣٤०१२३๐๑๒ⅣⅫ½²①٣x,.",
    "hebrew and arabic": "אבגדהוזחטיםןץ״׳ابتثجحخدذرزسشصضطظعغفقكلمنهويءآأ١٢",
    "devanagari and thai": "कखगघचछजझटठडढणतथिीुूेैोौ्ंกขคงจฉชซิีึื่้๊๋",
    "ligatures": "ﬁﬂĳŉæœſ“”‘’«»…–—€№™",
}


def everything() -> str:
    """The characters of all scripts, each once."""
    return "".join(dict.fromkeys("".join(SCRIPTS.values()) + GREEK_LOWER))


@pytest.mark.parametrize(
    "caption_charset", [everything(), "".join(dict.fromkeys(everything().lower())), GREEK_CAPITALS], ids=len
)
def test_captions_of_any_script(caption_charset):
    """Random strings of each script and of all, with an adapter that keeps, lowers or raises the case."""
    rng = random.Random(1)
    adapter = CharsetAdapter(caption_charset)
    texts = []
    for characters in (*SCRIPTS.values(), everything()):
        texts += ["".join(rng.choices(characters, k=rng.randint(0, LENGTH))) for _ in range(300)]
    plain = [t for t in texts if bpe.clean(adapter(t)) == by_characters(adapter(t))]
    assert len(plain) > 0.98 * len(texts), "only mojibake and marks that are composed are left out"
    expected = bpe.tokenize([adapter(t) for t in plain], 16, truncate=True)
    np.testing.assert_array_equal(on_device(plain, everything(), caption_charset), expected)


def by_characters(text: str) -> str:
    """Each character cleaned alone, then made lower case together."""
    return " ".join("".join(" " if c.isspace() else fix_character(c) for c in text).split()).lower()


@functools.cache
def fix_character(character: str) -> str:
    return ftfy.fix_text(character)


@pytest.mark.parametrize(
    ("text", "caption_charset", "caption"),
    [
        ("ΟΔΟΣ", GREEK_LOWER, "οδος"),  # a final sigma, as in words that are written in lower case
        ("ΟΔΟΣ", GREEK_CAPITALS, "οδος"),
        ("ΣΟΦΟΣ", GREEK_LOWER, "σοφος"),
        ("Έξοδος", GREEK_LOWER, "έξοδος"),  # the tonos stays
        ("ΕΞΟΔΟΣ", GREEK_LOWER.replace("ς", ""), "εξοδο"),  # as the adapter of the whole word does
        ("Ταΐζω", GREEK_LOWER + GREEK_CAPITALS, "ταΐζω"),
        ("οδός", CHARSET_36, ""),  # a caption charset of another script leaves nothing
    ],
)
def test_greek_captions(text, caption_charset, caption):
    assert CharsetAdapter(caption_charset)(text).lower() == caption
    expected = bpe.tokenize([caption], 16)
    np.testing.assert_array_equal(on_device([text], GREEK_LOWER + GREEK_CAPITALS, caption_charset), expected)


@pytest.mark.parametrize(
    ("text", "caption"),
    [("STRAẞE", "straße"), ("Straße", "straße"), ("ＡＢ１", "ab1"), ("ﬁn", "fin"), ("it’s", "it's"), ("İZ", "i̇z")],
)
def test_characters_that_are_cleaned(text, caption):
    charset = "".join(dict.fromkeys("STRAẞEtraßeＡＢ１ﬁnit’sİZ"))
    assert bpe.clean(text) == caption
    np.testing.assert_array_equal(on_device([text], charset, charset), bpe.tokenize([caption], 16))


def test_marks_that_are_not_composed_are_a_known_difference():
    decomposed = "e\u0301"
    assert bpe.clean(decomposed) == "é"
    on_host = bpe.tokenize([decomposed], 16)
    assert on_device([decomposed], "e\u0301é", "e\u0301é").tolist() != on_host.tolist()
