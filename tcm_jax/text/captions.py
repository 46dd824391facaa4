"""CLIP's byte-pair encoding on the device: decoder ids to text-encoder ids inside one compiled program.

The original turns a prediction into a string, tokenizes it on the host and sends the ids back. Here the charset
adapter, the word split and the merges are table look-ups, so that decoding and training never leave the device.

Equal to `bpe.tokenize(adapter(text), truncate=True)` for every string that `bpe.clean` only lower-cases, which is
every string over the 94 characters that spells no HTML entity ("&lt;", "&amp"). Entities are not decoded here, and
of ftfy's repairs (mojibake, full-width letters, curly quotes) none is made.
"""

import unicodedata
from dataclasses import dataclass

import jax
import jax.numpy as jnp
import numpy as np

from tcm_jax.text import bpe
from tcm_jax.text.charset import CharsetAdapter, CharsetTokenizer

_LETTER, _NUMBER, _SPACE, _OTHER = range(4)
_NO_CHARACTER = 0  # code of an empty position; no charset holds NUL


def _category(character: str) -> int:
    if character.isspace():
        return _SPACE
    return {"L": _LETTER, "N": _NUMBER}.get(unicodedata.category(character)[0], _OTHER)


def _compact(keep: jax.Array, *arrays: jax.Array) -> list[jax.Array]:
    """Moves the kept positions of every row to the front, in order; zeros behind them. All [b, m]."""
    order = jnp.argsort(~keep, axis=1, stable=True)
    kept = jnp.take_along_axis(keep, order, axis=1)
    return [jnp.where(kept, jnp.take_along_axis(a, order, axis=1), 0) for a in arrays]


def _shift(array: jax.Array, by: int, fill: int) -> jax.Array:
    """`array` [b, m] moved `by` positions to the left (to the right if negative)."""
    padded = jnp.pad(array, ((0, 0), (max(-by, 0), max(by, 0))), constant_values=fill)
    return padded[:, max(by, 0) :][:, : array.shape[1]]


def _spells(codes: jax.Array, text: str) -> jax.Array:
    """Whether `text` stands at a position of `codes` [b, m]."""
    return jnp.stack([_shift(codes, i, 0) == ord(c) for i, c in enumerate(text)]).all(0)


@dataclass(frozen=True)
class CaptionTokenizer:
    """Tokenizes decoder predictions over `charset`, seen through the adapter of `caption_charset`.

    Args:
        charset: characters of the decoder (ids as in `CharsetTokenizer`).
        caption_charset: the original's `charset_test`; the released models read captions in lower case, 0-9a-z.
        context_length: length of the result.
    """

    charset: str
    caption_charset: str
    context_length: int = 16

    def _tables(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """By decoder id: code of the adapted character, its category, the ids of its UTF-8 bytes (-1 padded)."""
        size = CharsetTokenizer(self.charset).num_tokens
        adapter = CharsetAdapter(self.caption_charset)
        adapted = [adapter(c).lower() for c in self.charset]
        width = max(len(a.encode("utf-8")) for a in [*adapted, "a"])
        codes = np.full(size, _NO_CHARACTER, np.int32)
        categories = np.full(size, _SPACE, np.int32)
        symbols = np.full((size, width), -1, np.int32)
        for i, text in enumerate(adapted, start=1):
            if text:
                # A character whose lower case is several characters (rare) is split by its first one.
                codes[i], categories[i] = ord(text[0]), _category(text[0])
                data = list(text.encode("utf-8")) if categories[i] != _SPACE else []
                symbols[i, : len(data)] = bpe.byte_order()[data]
        return codes, categories, symbols

    def __call__(self, ids: jax.Array, num_positions: jax.Array | int) -> jax.Array:
        """Text-encoder ids of predictions.

        Args:
            ids: decoder ids [b, t], argmax of the logits.
            num_positions: positions that exist; later ones are ignored. A scalar or [b].

        Returns:
            int32 [b, context_length]: SOT, merged ids, EOT, zeros. A prediction ends at its first EOS, and, as in
            the original, where it spells the three characters "[E]".
        """
        codes_table, categories_table, symbols_table = self._tables()
        t = ids.shape[1]
        position = jnp.arange(t)
        ends = ids == CharsetTokenizer.eos_id
        if set("[E]") <= set(self.charset):
            raw = np.zeros(len(codes_table), np.int32)
            raw[1 : len(self.charset) + 1] = [ord(c) for c in self.charset]
            ends |= _spells(jnp.asarray(raw)[ids], "[E]")
        inside = jnp.cumsum(ends, axis=1) == 0  # [b, t]
        inside &= position < jnp.reshape(num_positions, (-1, 1))

        codes = jnp.asarray(codes_table)[ids]  # [b, t]
        ids, codes = _compact(inside & (codes != _NO_CHARACTER), ids, codes)
        categories = jnp.asarray(categories_table)[ids]
        symbols = jnp.asarray(symbols_table)[ids]  # [b, t, bytes]
        starts, symbols = self._split_words(codes, categories, symbols)

        width = symbols.shape[2]
        valid = (symbols >= 0).reshape(len(ids), t * width)
        first_byte = jnp.arange(t * width) % width == 0
        starts = jnp.repeat(starts, width, axis=1) & first_byte
        # Spaces have no symbols, but they end a word: count the starts before they are compacted away.
        word = jnp.cumsum(starts, axis=1)
        word, symbols = _compact(valid, word, symbols.reshape(len(ids), -1))
        length = valid.sum(1)
        last = (word != _shift(word, 1, -1)) | (jnp.arange(t * width) == length[:, None] - 1)
        symbols = jnp.where(last & (symbols < 256), symbols + 256, symbols)
        symbols, length = _merge(symbols, word, length)

        context = self.context_length
        symbols = jnp.pad(symbols, ((0, 0), (1, max(0, context - 1 - t * width))))[:, :context]
        eot = jnp.minimum(length + 1, context - 1)[:, None]  # [b, 1]
        at = jnp.arange(context)
        result = jnp.where(at < eot, symbols, jnp.where(at == eot, bpe.EOT, 0))
        return result.at[:, 0].set(bpe.SOT).astype(jnp.int32)

    def _split_words(self, codes, categories, symbols):
        """Where CLIP's word pattern starts a match; contractions and special tokens take part. [b, t]."""
        characters = set(self.caption_charset)
        categories = jnp.where(codes == _NO_CHARACTER, _SPACE, categories)
        before = _shift(categories, -1, _SPACE)
        starts = (categories != before) | (categories == _NUMBER)

        # The pattern tries special tokens and contractions first, but only where a match begins: inside a run of
        # other characters it never looks. After a special token a match begins again.
        free = before != _OTHER
        if "<" in characters and "|" in characters:
            inside_special = jnp.zeros_like(starts)
            for _ in range(codes.shape[1] // min(map(len, bpe.SPECIALS))):
                free = (before != _OTHER) | (_shift(inside_special, -1, 0) & ~inside_special)
                for text, token in bpe.SPECIALS.items():
                    found = _spells(codes, text) & free  # [b, t]
                    covered = jnp.stack([_shift(found, -i, 0) for i in range(len(text))]).any(0)
                    inside_special |= covered
                    symbols = jnp.where(covered[..., None], -1, symbols)
                    symbols = symbols.at[:, :, 0].set(jnp.where(found, token, symbols[:, :, 0]))
                    starts = jnp.where(covered, found, starts)
                    starts |= _shift(found, -len(text), 0)
        if "'" in characters:
            for text in bpe.CONTRACTIONS:
                found = _spells(codes, text) & free & (categories == _OTHER)
                for i in range(1, len(text)):
                    starts &= ~_shift(found, -i, 0)
                starts |= _shift(found, -len(text), 0)
        return starts, symbols


def _merge(symbols: jax.Array, word: jax.Array, length: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Merges the pair of the lowest rank in every row until no row has one.

    Words of a row don't meet, so taking the lowest rank of the row equals doing each word for itself.

    Args:
        symbols: byte ids [b, m]; word: number of the word each belongs to [b, m]; length: symbols in use [b].
    """
    pairs = bpe.merges().astype(np.uint32)
    keys = pairs[:, 0] * np.uint32(bpe.VOCAB_SIZE) + pairs[:, 1]  # < 2**32
    order = np.argsort(keys)
    sorted_keys, ranks = jnp.asarray(keys[order]), jnp.asarray(order.astype(np.int32))
    at = jnp.arange(symbols.shape[1])

    def lowest(symbols, word, length):
        follower, word_of_follower = _shift(symbols, 1, 0), _shift(word, 1, -1)
        key = symbols.astype(jnp.uint32) * np.uint32(bpe.VOCAB_SIZE) + follower.astype(jnp.uint32)
        found = jnp.minimum(jnp.searchsorted(sorted_keys, key), len(keys) - 1)
        usable = (sorted_keys[found] == key) & (word == word_of_follower) & (at + 1 < length[:, None])
        rank = jnp.where(usable, ranks[found], bpe.NUM_MERGES)  # [b, m]
        return rank.min(1), rank.argmin(1)

    def step(state):
        symbols, word, length, rank, where = state
        merged = rank < bpe.NUM_MERGES
        source = jnp.where(merged[:, None] & (at > where[:, None]), at + 1, at)
        source = jnp.minimum(source, at[-1])
        word = jnp.take_along_axis(word, source, axis=1)
        symbols = jnp.take_along_axis(symbols, source, axis=1)
        here = merged[:, None] & (at == where[:, None])
        symbols = jnp.where(here, bpe.FIRST_MERGE + rank[:, None], symbols)
        length = length - merged
        return symbols, word, length, *lowest(symbols, word, length)

    state = symbols, word, length, *lowest(symbols, word, length)
    symbols, _, length, *_ = jax.lax.while_loop(lambda s: (s[3] < bpe.NUM_MERGES).any(), step, state)
    return symbols, length
