"""Character sets, their tokenizer and the adapter between sets."""

import numpy as np
import pytest

from tcm_jax.recognition.model import Prediction
from tcm_jax.recognition.words import words
from tcm_jax.text.charset import CHARSET_36, CHARSET_62, CHARSET_94, CharsetAdapter, CharsetTokenizer
from tcm_jax.text.charset_spec import load_charset
from tests.conftest import read_json, read_jsonl


def test_named_charsets():
    assert CHARSET_36 == "0123456789abcdefghijklmnopqrstuvwxyz"
    assert [len(load_charset(spec)) for spec in ("36", "62", "94")] == [36, 62, 94]
    assert load_charset("62") == CHARSET_62
    assert load_charset("94") == CHARSET_94
    assert load_charset("abc") == "abc"


def test_charset_file(tmp_path):
    path = tmp_path / "set.txt"
    # A byte order mark and line ends don't belong to the set, a space does.
    path.write_bytes("\ufeffäöü\r\nß \n".encode())
    assert load_charset(f"file:{path}") == "äöüß "


@pytest.mark.parametrize(("spec", "message"), [("", "empty"), ("abca", "'a' more than once")])
def test_bad_charset(tmp_path, spec, message):
    with pytest.raises(ValueError, match=message):
        load_charset(spec)
    path = tmp_path / "set.txt"
    path.write_text(spec)
    with pytest.raises(ValueError, match=rf"set\.txt.*{message}"):
        load_charset(f"file:{path}")


def test_missing_charset_file(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"nowhere\.txt"):
        load_charset(f"file:{tmp_path}/nowhere.txt")


def test_encode():
    tokenizer = CharsetTokenizer("abc")
    assert (tokenizer.eos_id, tokenizer.bos_id, tokenizer.pad_id) == (0, 4, 5)
    assert (tokenizer.num_classes, tokenizer.num_tokens) == (4, 6)
    ids = tokenizer.encode(["cab", ""], max_length=4)
    assert ids.dtype == np.int32
    assert ids.tolist() == [[4, 3, 1, 2, 0, 5], [4, 0, 5, 5, 5, 5]]


@pytest.mark.parametrize(
    ("label", "message"), [("abcab", "'abcab' has 5 characters; at most 4"), ("abX", "'abX' has 'X'")]
)
def test_encode_names_the_bad_label(label, message):
    with pytest.raises(ValueError, match=message):
        CharsetTokenizer("abc").encode(["a", label], max_length=4)


def test_decode():
    ids = np.array([[1, 2, 0, 3], [0, 1, 2, 3], [3, 3, 2, 1]])  # cut after two, at once, never
    assert CharsetTokenizer("abc").decode(ids) == ["ab", "", "ccba"]


def test_decode_is_the_inverse_of_encode():
    tokenizer = CharsetTokenizer(CHARSET_94)
    labels = ["", "Hello!", "[E]", CHARSET_94[:25]]
    assert tokenizer.decode(tokenizer.encode(labels, 25)[:, 1:]) == labels


@pytest.mark.parametrize(
    ("charset", "label", "expected"),
    [
        ("abc", "A-b C", "abc"),
        ("ABC", "a-b c", "ABC"),
        ("abcABC", "aB-C d", "aBC"),
        ("123", "a1B2", "12"),
    ],
)
def test_adapter(charset, label, expected):
    assert CharsetAdapter(charset)(label) == expected


def test_adapter_equals_the_original(golden):
    charsets = read_json(golden / "metrics/config.json")["charsets"]
    adapters = {name: CharsetAdapter(charset) for name, charset in charsets.items()}
    for case in read_jsonl(golden / "metrics/charset_adapter.jsonl"):
        assert {name: adapt(case["in"]) for name, adapt in adapters.items()} | {"in": case["in"]} == case


@pytest.fixture(scope="module")
def batch_case(golden):
    return read_json(golden / "metrics/char_tokenizer_batch.json")


@pytest.fixture(scope="module")
def tokenizer(batch_case):
    """The original's tokens are EOS, the charset, BOS and PAD."""
    return CharsetTokenizer("".join(batch_case["itos"][1:-2]))


def test_tokenizer_equals_the_original(batch_case, tokenizer):
    special = tokenizer.bos_id, tokenizer.eos_id, tokenizer.pad_id, tokenizer.num_tokens
    assert special == tuple(batch_case[key] for key in ("bos_id", "eos_id", "pad_id", "len"))
    longest = max(map(len, batch_case["labels"]))
    assert tokenizer.encode(batch_case["labels"], longest).tolist() == batch_case["encoded"]


def test_words_equal_the_original(golden, tokenizer):
    for case in read_jsonl(golden / "metrics/char_tokenizer.jsonl"):
        text = case["text"]
        assert tokenizer.encode([text], len(text))[0].tolist() == case["encode"]
        (word,) = words(tokenizer, Prediction(np.array([case["argmax_ids"]]), np.array([case["max_probs"]])))
        assert word.text == case["decode"]
        assert len(word.probabilities) == case["decode_num_probs"]
        # The original multiplies in float32.
        assert word.confidence == pytest.approx(case["confidence"], rel=1e-5)
