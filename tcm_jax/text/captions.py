"""CLIP's byte-pair encoding on the device: decoder ids to text-encoder ids inside one compiled program.

The original turns a prediction into a string, tokenizes it on the host and sends the ids back. Here the charset
adapter, the word split and the merges are table look-ups, so that decoding and training never leave the device.

The result equals `bpe.tokenize([adapter(text)], truncate=True)` for all strings, of any script, whose characters
`bpe.clean` cleans one by one, and for the Greek final sigma, which depends on its neighbours. Three steps that need
several characters are left out: HTML entities ("&lt;", "&amp") are not decoded, mojibake is not repaired, and a letter
and a combining mark are not composed. Labels are composed before (`LabelFilter`).
"""

from dataclasses import dataclass

import ftfy
import jax
import jax.numpy as jnp
import numpy as np
import regex
from jax import Array

from tcm_jax.text import bpe
from tcm_jax.text.charset import CharsetAdapter, CharsetTokenizer

_LETTER, _NUMBER, _SPACE, _OTHER = range(4)
_NO_CHARACTER = 0  # code of an empty position; no charset has NUL


def _category(character: str) -> int:
    if character.isspace():
        return _SPACE
    # Not by `unicodedata`: the word pattern of `bpe` may have a later version of Unicode than Python.
    return _LETTER if regex.match(r"\p{L}", character) else _NUMBER if regex.match(r"\p{N}", character) else _OTHER


def _compact(keep: Array, *arrays: Array) -> list[Array]:
    """Moves the kept positions of each row to the front, in order, and pads with zeros. All [b, m]."""
    order = jnp.argsort(~keep, axis=1, stable=True)
    kept = jnp.take_along_axis(keep, order, axis=1)
    return [jnp.where(kept, jnp.take_along_axis(a, order, axis=1), 0) for a in arrays]


def _shift(array: Array, by: int, fill: int) -> Array:
    """`array` [b, m] moved `by` positions to the left (to the right if negative)."""
    padded = jnp.pad(array, ((0, 0), (max(-by, 0), max(by, 0))), constant_values=fill)
    return padded[:, max(by, 0) :][:, : array.shape[1]]


def _spells(codes: Array, text: str) -> Array:
    """Where `text` starts in `codes` [b, m], bool [b, m]."""
    return jnp.stack([_shift(codes, i, 0) == ord(c) for i, c in enumerate(text)]).all(0)


@dataclass(frozen=True)
class CaptionTokenizer:
    """Tokenizer of decoder predictions over `charset`, mapped by the adapter of `caption_charset`.

    Args:
        charset: characters of the decoder, with the ids of `CharsetTokenizer`.
        caption_charset: the original's `charset_test`; the released models read captions in lower case, 0-9a-z.
        context_length: length of the result, in tokens.
    """

    charset: str
    caption_charset: str
    context_length: int = 16

    @property
    def _adapter_lowers(self) -> bool:
        """Whether the adapter lowers the case, before `bpe.clean` does."""
        return self.caption_charset == self.caption_charset.lower()

    @property
    def _adapted(self) -> list[str]:
        """The adapted character of each decoder id, and as one id more a final sigma."""
        adapter = CharsetAdapter(self.caption_charset)
        final_sigma = adapter("ς") if self._adapter_lowers else "ς"
        return ["", *map(adapter, self.charset), "", "", final_sigma]

    def _tables(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """By decoder id: codes of the cleaned characters [n, k], their categories [n, k], and the ids of their UTF-8
        bytes [n, k, bytes], -1 padded.

        k is 1, or 2 for charsets with letters such as "İ", whose lower case has two characters.
        """
        cleaned = [" " if text.isspace() else bpe.clean(text) for text in self._adapted]
        shape = len(cleaned), max(map(len, [*cleaned, "a"]))
        codes, categories = np.full(shape, _NO_CHARACTER, np.int32), np.full(shape, _SPACE, np.int32)
        width = max(len(c.encode("utf-8")) for c in "".join(cleaned) + "a")
        symbols = np.full((*shape, width), -1, np.int32)
        for i, text in enumerate(cleaned):
            for k, character in enumerate(text):
                # The word pattern ignores case: "ſ" is an s in a contraction.
                codes[i, k] = ord(folded if len(folded := character.casefold()) == 1 else character)
                categories[i, k] = _category(character)
                data = [] if categories[i, k] == _SPACE else list(character.encode("utf-8"))
                symbols[i, k, : len(data)] = bpe.byte_order()[data]
        return codes, categories, symbols

    def _with_final_sigmas(self, ids: Array, inside: Array) -> Array:
        """`ids` [b, t] with the additional id for each "Σ" whose lower case is "ς", by Python's rule.

        Such a sigma follows a cased letter and is not followed by one, where marks and apostrophes are passed over.
        The rule applies to the prediction if the adapter lowers the case, else to the adapted prediction.
        """
        texts = ["", *self.charset] if self._adapter_lowers else [ftfy.fix_text(text) for text in self._adapted]
        texts += [""] * (len(self._adapted) - len(texts))
        capital = np.array([text == "Σ" for text in texts])
        if not capital.any():
            return ids
        cased_before = np.array([f"-{text}Σ".lower().endswith("ς") for text in texts])
        cased_after = np.array([f"ΑΣ{text}-".lower()[1] == "σ" for text in texts])
        passed = ~cased_before & np.array([f"Α{text}Σ".lower().endswith("ς") for text in texts])

        t, at = ids.shape[1], jnp.arange(ids.shape[1])
        stops = inside & jnp.asarray(~passed)[ids]  # [b, t]
        before = _shift(jax.lax.cummax(jnp.where(stops, at, -1), axis=1), -1, -1)
        after = _shift(jax.lax.cummin(jnp.where(stops, at, t), axis=1, reverse=True), 1, t)

        def neighbour(table: np.ndarray, position: Array) -> Array:
            found = jnp.take_along_axis(jnp.asarray(table)[ids], jnp.clip(position, 0, t - 1), axis=1)
            return found & (position >= 0) & (position < t)

        final = jnp.asarray(capital)[ids] & neighbour(cased_before, before) & ~neighbour(cased_after, after)
        return jnp.where(final, len(texts) - 1, ids)

    def __call__(self, ids: Array, num_positions: Array | int) -> Array:
        """Text-encoder ids of predictions.

        A prediction ends at its first EOS and, as in the original, where it spells the three characters "[E]".

        Args:
            ids: decoder ids [b, t], argmax of the logits.
            num_positions: number of positions to use, a scalar or [b]; later ones are ignored.

        Returns:
            int32 [b, context_length]: SOT, merged ids, EOT, zeros.
        """
        codes_table, categories_table, symbols_table = self._tables()
        b, t = ids.shape
        ends = ids == CharsetTokenizer.eos_id
        if set("[E]") <= set(self.charset):
            raw = np.array([0, *map(ord, self.charset), 0, 0], np.int32)
            ends |= _spells(jnp.asarray(raw)[ids], "[E]")
        inside = jnp.cumsum(ends, axis=1) == 0  # [b, t]
        inside &= jnp.arange(t) < jnp.reshape(num_positions, (-1, 1))

        ids = self._with_final_sigmas(ids, inside)
        k = codes_table.shape[1]
        t = t * k  # from here on each position is a character of the cleaned text
        ids = (ids[:, :, None] * k + np.arange(k)).reshape(b, t)  # rows of the flat tables
        codes = jnp.asarray(codes_table.reshape(-1))[ids]
        inside = jnp.repeat(inside, k, axis=1)
        ids, codes = _compact(inside & (codes != _NO_CHARACTER), ids, codes)
        categories = jnp.asarray(categories_table.reshape(-1))[ids]
        width = symbols_table.shape[2]
        symbols = jnp.asarray(symbols_table.reshape(-1, width))[ids]  # [b, t, bytes]
        starts, symbols = _split_words(codes, categories, symbols, set(codes_table.flat))

        valid = (symbols >= 0).reshape(b, t * width)
        first_byte = jnp.arange(t * width) % width == 0
        starts = jnp.repeat(starts, width, axis=1) & first_byte
        # Spaces have no symbols, but they end a word: count the starts before they are compacted away.
        word = jnp.cumsum(starts, axis=1)
        word, symbols = _compact(valid, word, symbols.reshape(b, -1))
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


def _split_words(codes: Array, categories: Array, symbols: Array, known: set[int]) -> tuple[Array, Array]:
    """Splits rows of characters by CLIP's word pattern, with its contractions and special tokens.

    Args:
        codes, categories: [b, m]; symbols: [b, m, bytes].
        known: all codes that can occur.

    Returns:
        Where words start, bool [b, m], and the symbols with special tokens replaced by their ids.
    """
    categories = jnp.where(codes == _NO_CHARACTER, _SPACE, categories)
    before = _shift(categories, -1, _SPACE)
    starts = (categories != before) | (categories == _NUMBER)

    def cover(starts: Array, found: Array, length: int) -> tuple[Array, Array]:
        """Starts with a word of `length` characters at each position in `found`, and all positions of these words."""
        covered = jnp.stack([_shift(found, -i, 0) for i in range(length)]).any(0)
        return jnp.where(covered, found, starts) | _shift(found, -length, 0), covered

    # The pattern tries special tokens and contractions first, but only where a match begins, which is not inside a
    # run of other characters. After a special token a match begins again.
    free = before != _OTHER
    if {ord("<"), ord("|")} <= known:
        inside_special = jnp.zeros_like(starts)
        for _ in range(codes.shape[1] // min(map(len, bpe.SPECIALS))):
            free = (before != _OTHER) | (_shift(inside_special, -1, 0) & ~inside_special)
            for text, token in bpe.SPECIALS.items():
                found = _spells(codes, text) & free  # [b, m]
                starts, covered = cover(starts, found, len(text))
                inside_special |= covered
                symbols = jnp.where(covered[..., None], -1, symbols)
                symbols = symbols.at[:, :, 0].set(jnp.where(found, token, symbols[:, :, 0]))
    if ord("'") in known:
        for text in bpe.CONTRACTIONS:
            starts, _ = cover(starts, _spells(codes, text) & free & (categories == _OTHER), len(text))
    return starts, symbols


def _merge(symbols: Array, word: Array, length: Array) -> tuple[Array, Array]:
    """Merges the pair of the lowest rank in each row until there is none.

    Pairs never cross words, so that the result is the same as of each word alone.

    Args:
        symbols: byte ids [b, m].
        word: number of the word that each symbol belongs to, [b, m].
        length: number of symbols, [b].

    Returns:
        (merged symbols [b, m], their number [b]).
    """
    pairs = bpe.merges().astype(np.uint32)
    keys = pairs[:, 0] * np.uint32(bpe.VOCAB_SIZE) + pairs[:, 1]  # < 2**32
    order = np.argsort(keys)
    sorted_keys, ranks = jnp.asarray(keys[order]), jnp.asarray(order.astype(np.int32))
    at = jnp.arange(symbols.shape[1])

    def lowest(symbols: Array, word: Array, length: Array) -> tuple[Array, Array]:
        """Rank and position of the pair to merge, [b] each."""
        follower, word_of_follower = _shift(symbols, 1, 0), _shift(word, 1, -1)
        key = symbols.astype(jnp.uint32) * np.uint32(bpe.VOCAB_SIZE) + follower.astype(jnp.uint32)
        found = jnp.minimum(jnp.searchsorted(sorted_keys, key), len(keys) - 1)
        usable = (sorted_keys[found] == key) & (word == word_of_follower) & (at + 1 < length[:, None])
        rank = jnp.where(usable, ranks[found], bpe.NUM_MERGES)  # [b, m]
        return rank.min(1), rank.argmin(1)

    def step(state: tuple[Array, ...]) -> tuple[Array, ...]:
        symbols, word, length, rank, where = state
        merged = rank < bpe.NUM_MERGES
        source = jnp.where(merged[:, None] & (at > where[:, None]), at + 1, at)
        source = jnp.minimum(source, at[-1])
        word = jnp.take_along_axis(word, source, axis=1)
        symbols = jnp.take_along_axis(symbols, source, axis=1)
        here = merged[:, None] & (at == where[:, None])
        symbols, length = jnp.where(here, bpe.FIRST_MERGE + rank[:, None], symbols), length - merged
        return symbols, word, length, *lowest(symbols, word, length)

    state: tuple[Array, ...] = symbols, word, length, *lowest(symbols, word, length)
    symbols, _, length, *_ = jax.lax.while_loop(lambda s: (s[3] < bpe.NUM_MERGES).any(), step, state)
    return symbols, length
