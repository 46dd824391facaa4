"""CLIP's tokenizer on the host against the original's ids."""

import numpy as np
import pytest

from tcm_jax.text import bpe
from tests.conftest import read_jsonl


def test_every_string_of_the_fixture(golden):
    rows = read_jsonl(golden / "tokenizer" / "tokenizer.jsonl")
    for row in rows:
        short = bpe.tokenize([row["text"]], 16, truncate=True)[0]
        np.testing.assert_array_equal(short[: len(row["ids16"])], row["ids16"], repr(row["text"]))
        assert not short[len(row["ids16"]) :].any()
        if row["ids77"] is None:
            with pytest.raises(ValueError, match="the context length is 77"):
                bpe.tokenize([row["text"]], 77)
        else:
            assert bpe.tokenize([row["text"]], 77)[0, : len(row["ids77"])].tolist() == row["ids77"]
    print(f"{len(rows)} strings, all ids equal")


def test_merges_by_hand():
    # "a" then "b" at the end of the word; the pair is a merge of its own in CLIP's table.
    a, b_end = bpe.byte_order()[ord("a")], bpe.byte_order()[ord("b")] + 256
    assert bpe.encode("ab") == [bpe.FIRST_MERGE + bpe.merges().tolist().index([a, b_end])]
    assert bpe.encode("1") == [bpe.byte_order()[ord("1")] + 256]
    assert bpe.encode("12") == bpe.encode("1") + bpe.encode("2"), "digits stand alone"
    assert bpe.encode("") == []


def test_special_tokens_and_sizes():
    assert bpe.merges().shape == (bpe.NUM_MERGES, 2)
    assert (bpe.SOT, bpe.EOT, bpe.VOCAB_SIZE) == (49406, 49407, 49408)
    assert bpe.encode("<|endoftext|>") == [bpe.EOT]
    assert bpe.tokenize(["hi"], 4).tolist() == [[bpe.SOT, *bpe.encode("hi"), bpe.EOT, 0]]


def test_every_merge_uses_earlier_tokens():
    left_right = bpe.merges()
    assert (left_right.max(1) < bpe.FIRST_MERGE + np.arange(bpe.NUM_MERGES)).all()


def test_vocabulary_words_are_plain_words():
    words = bpe.vocabulary_words()
    assert words[:2] == ["the", "ing"]
    assert len(words) > 30_000
    assert all(w.isascii() and w.isalpha() and w == w.lower() for w in words)
    assert all(len(bpe.encode(w)) == 1 for w in words[:2000])
