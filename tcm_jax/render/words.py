"""Synthetic word crops rendered on the fly from fonts: training data without a download, and unseen test words."""

import math
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from absl import logging

from tcm_jax.images.fonts import Font, FontLibrary
from tcm_jax.records import WordCrop
from tcm_jax.render.degradation import degrade
from tcm_jax.render.random_stream import RandomStream
from tcm_jax.render.scenery import paint
from tcm_jax.render.scripts import capitals, needs_layout
from tcm_jax.render.typesetting import typeset
from tcm_jax.render.vocabulary import SPLITS, TextSampler
from tcm_jax.render.warping import warp_to_crop

_ATTEMPTS = 50


class SyntheticWords:
    """A `WordSource` of rendered words; record i is a pure function of the arguments and i.

    Args:
        charset: the characters that labels may have.
        max_length: maximum number of characters of a label.
        seed: a non-negative number; another seed gives other words and images.
        split: "train" or "test". The two have no label in common, ignoring case and punctuation.
        difficulty: 0 for clean upright words to 1 for the worst photographs.
        size: number of records.
        font_dir: folder of further fonts (.ttf, .otf, .ttc, .woff2), searched recursively.
        word_file: file with one word per line, which replaces the built-in word list.
        listed: share of texts from the word list; the others are generated numbers, prices, codes and so on.

    Attributes:
        fonts: the `FontLibrary`; `fonts.broken` has the unusable font files, with reasons.
        words: the `TextSampler`; `words.dropped` counts the unusable words of the list, by reason.
        undrawable: the characters of the charset that no font has, or that the renderer can't lay out (right to left,
            or joined to others); no label has them.

    Raises:
        ValueError: an argument is out of range, no font draws any of the charset, or no word is usable.
        OSError: the font folder or the word file is unreadable.
    """

    def __init__(
        self,
        charset: str,
        max_length: int = 25,
        seed: int = 0,
        split: str = "train",
        difficulty: float = 1.0,
        size: int = 1_000_000,
        font_dir: str | Path | None = None,
        word_file: str | Path | None = None,
        listed: float = 0.6,
    ):
        if not 0 <= difficulty <= 1:
            raise ValueError(f"difficulty {difficulty}; expected a number of 0 .. 1")
        self.seed, self.split, self.difficulty, self.size = seed, split, difficulty, size
        self.name = f"synthetic/{split}"
        self.fonts, self.words, self.undrawable = fonts_and_sampler(
            charset, max_length, split, font_dir, word_file, listed
        )

    def __len__(self) -> int:
        return self.size

    def __getitem__(self, index: int) -> WordCrop:
        if not 0 <= index < self.size:
            raise IndexError(f"record {index} of {self.size}")
        rng = self._stream(index)
        text, label, font = self._text(rng)
        image = self._render(rng, text, font)
        return WordCrop(image, label, f"{self.name}:{self.seed}:{index}")

    def labels(self) -> Iterator[str]:
        """The labels of all records in order, without their images."""
        return (self._text(self._stream(index))[1] for index in range(self.size))

    def _stream(self, index: int) -> RandomStream:
        return RandomStream(self.seed, SPLITS.index(self.split), index)

    def _text(self, rng: RandomStream) -> tuple[str, str, Font]:
        for _ in range(_ATTEMPTS):
            text, label = self.words.draw(rng)
            if font := self.fonts.pick(rng, text):
                return text, label, font
        raise ValueError(f"no font draws all of {text!r}, nor of {_ATTEMPTS - 1} other words")

    def _neighbour(self, rng: RandomStream, text: str, font: Font) -> str:
        """A word to stand beside `text`, in capitals if `text` is; "" if the font lacks its characters."""
        word = self.words.draw_word(rng)
        word = capitals(word, self.words.charset) if text == text.upper() else word
        return word if font.covers(word) else ""

    def _render(self, rng: RandomStream, text: str, font: Font) -> np.ndarray:
        min_em, max_em = 34 - 18 * self.difficulty, 54 + 14 * self.difficulty
        em = min_em * math.exp(rng.random() * math.log(max_em / min_em))
        word = typeset(rng, font, text, em, self.difficulty, lambda: self._neighbour(rng, text, font))
        layers, em = warp_to_crop(rng, word, em, self.difficulty)
        image = paint(rng, layers, word.decoration, self.difficulty)
        return degrade(rng, image, em, self.difficulty)


def fonts_and_sampler(
    charset: str, max_length: int, split: str, font_dir: str | Path | None, word_file: str | Path | None, listed: float
) -> tuple[FontLibrary, TextSampler, str]:
    """The fonts, the sampler of texts that they can draw, and the characters of `charset` that none can.

    Logs warnings about characters, fonts and words that are left out.

    Raises:
        ValueError, OSError: as `SyntheticWords`.
    """
    fonts = FontLibrary(font_dir)
    unset = "".join(c for c in charset if needs_layout(c))
    undrawable = unset + "".join(c for c in charset if c not in unset and not fonts.covers(c))
    drawable = "".join(c for c in charset if c not in undrawable)
    if unset:
        logging.warning(
            "the renderer can't lay out %r (right to left, or joined): no word will have it; use real images",
            unset,
        )
    if not drawable:
        reason = "the renderer can't lay out" if unset else "no font draws"
        advice = "use real images" if unset else "give a font_dir with fonts that do"
        raise ValueError(f"{reason} any of the charset {charset!r}; {advice}")
    sampler = TextSampler(drawable, max_length, split, word_file, listed, undrawable)
    for path, reason in fonts.broken.items():
        logging.warning("font %s is not used: %s", path, reason)
    if lacking := undrawable.removeprefix(unset):
        logging.warning("no font draws %r: no word will have it; give a font_dir with fonts that do", lacking)
    if word_file is not None and sampler.dropped:
        logging.warning("words of %s that are not used: %s", word_file, dict(sampler.dropped))
    return fonts, sampler, undrawable
