"""CLIP's byte-pair encoding on the host; `tcm_jax.text.captions` is its counterpart on the device.

Source: openai/CLIP clip/simple_tokenizer.py and clip/clip.py (`tokenize`).
"""

import functools
import html
import itertools
from collections.abc import Sequence
from pathlib import Path

import ftfy
import numpy as np
import regex

TABLE = Path(__file__).with_name("clip_bpe.npz")
NUM_MERGES = 48_894
FIRST_MERGE = 512  # ids 0..255 are bytes, 256..511 bytes at the end of a word, then one id per merge
SOT, EOT = FIRST_MERGE + NUM_MERGES, FIRST_MERGE + NUM_MERGES + 1
VOCAB_SIZE = EOT + 1
SPECIALS = {"<|startoftext|>": SOT, "<|endoftext|>": EOT}
CONTRACTIONS = ("'s", "'t", "'re", "'ve", "'m", "'ll", "'d")
WORDS = regex.compile(
    "|".join(map(regex.escape, [*SPECIALS, *CONTRACTIONS])) + r"|\p{L}+|\p{N}|[^\s\p{L}\p{N}]+", regex.IGNORECASE
)


@functools.cache
def byte_order() -> np.ndarray:
    """The token id of each byte value, int32 [256]: bytes that are printable in Latin-1 come first."""
    printable = [*range(ord("!"), ord("~") + 1), *range(ord("¡"), ord("¬") + 1), *range(ord("®"), ord("ÿ") + 1)]
    order = printable + [b for b in range(256) if b not in printable]
    return np.argsort(order).astype(np.int32)


def base_tokens() -> list[str]:
    """Spelling of the first 512 tokens in the merge file.

    An unprintable byte is written as a stand-in: the code points from 256 on, in the order of the bytes.
    """
    spelling = [chr(byte if token < 188 else 256 + token - 188) for token, byte in enumerate(np.argsort(byte_order()))]
    return spelling + [s + "</w>" for s in spelling]


@functools.cache
def merges() -> np.ndarray:
    """Token ids (left, right) of all merges by rank, int32 [48894, 2]."""
    with np.load(TABLE, allow_pickle=False) as table:
        return table["merges"].astype(np.int32)


@functools.cache
def _ranks() -> dict[tuple[int, int], int]:
    return {(left, right): rank for rank, (left, right) in enumerate(merges().tolist())}


@functools.lru_cache(maxsize=65_536)
def _encode_word(word: str) -> tuple[int, ...]:
    """Token ids of one word: the pair of the lowest rank is merged until none is left."""
    if word in SPECIALS:
        return (SPECIALS[word],)
    ranks, symbols = _ranks(), byte_order()[list(word.encode("utf-8"))].tolist()
    symbols[-1] += 256
    while len(symbols) > 1:
        rank, i = min((ranks.get(pair, NUM_MERGES), i) for i, pair in enumerate(itertools.pairwise(symbols)))
        if rank == NUM_MERGES:
            break
        symbols[i : i + 2] = [FIRST_MERGE + rank]
    return tuple(symbols)


def clean(text: str) -> str:
    """CLIP's text cleaning: repairs mojibake, decodes HTML entities twice, collapses white space, lowers the case."""
    text = html.unescape(html.unescape(ftfy.fix_text(text)))
    return " ".join(text.split()).lower()


def encode(text: str) -> list[int]:
    """Token ids of `text` without start and end tokens."""
    return [token for word in WORDS.findall(clean(text)) for token in _encode_word(word)]


def tokenize(texts: Sequence[str], context_length: int = 77, truncate: bool = False) -> np.ndarray:
    """Token ids [SOT, ..., EOT, 0...] of texts, int32 [b, context_length].

    Padding is 0, which is also the token "!"; the original does not mask it.

    Args:
        truncate: a longer text keeps its first ids and ends with EOT.

    Raises:
        ValueError: a text needs more than `context_length` ids and `truncate` is False.
    """
    result = np.zeros((len(texts), context_length), np.int32)
    for row, text in zip(result, texts, strict=True):
        ids = [SOT, *encode(text), EOT]
        if len(ids) > context_length and not truncate:
            raise ValueError(f"text {text!r} has {len(ids)} tokens; the context length is {context_length}")
        ids = [*ids[: context_length - 1], EOT] if len(ids) > context_length else ids
        row[: len(ids)] = ids
    return result


@functools.cache
def vocabulary_words() -> list[str]:
    """All tokens that are complete words of two or more ASCII letters, most frequent merges first."""
    tokens = [t.replace("</w>", "\n") for t in base_tokens()]  # "\n" marks the end of a word
    for left, right in merges().tolist():
        tokens.append(tokens[left] + tokens[right])
    words = (token[:-1] for token in tokens[FIRST_MERGE:] if token.endswith("\n"))
    return [word for word in words if len(word) > 1 and word.isascii() and word.isalpha()]
