"""Word images made on the fly from fonts: training data without a download, and unseen words to test with."""

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
from tcm_jax.render.vocabulary import SPLITS, Words
from tcm_jax.render.warping import place

_ATTEMPTS = 50


class SyntheticWords:
    """A source of rendered words; record i is a pure function of the arguments and i.

    Args:
        charset: the characters that labels may have.
        max_length: of a label.
        seed: a non-negative number; another seed is another set of words and pictures.
        split: "train" or "test". No label of one is a label of the other, whatever its case and punctuation.
        difficulty: 0 for clean upright words, 1 for the worst of photographs, and anything between.
        size: the number of records.
        font_dir: a folder of more fonts (.ttf, .otf, .ttc, .woff2), searched recursively.
        word_file: one word per line, to use instead of the built-in list.
        listed: the share of words of the list; the others are numbers, prices, codes, addresses and so on.

    Attributes:
        fonts: the FontLibrary; fonts.broken are the font files that can't be read, with reasons.
        words: the Words; words.dropped counts the words of the list that can't be used, with reasons.
        undrawable: the characters of the charset that no font has, or that the renderer can't lay out (right to left,
            or joined to others); no label has them.

    Raises:
        ValueError: an argument is out of range, no font draws any of the charset, or no word can be used.
        OSError: the font folder or the word file can't be read.
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
        self.fonts, self.words, self.undrawable = fonts_and_words(
            charset, max_length, split, font_dir, word_file, listed
        )

    def __len__(self) -> int:
        return self.size

    def __getitem__(self, index: int) -> WordCrop:
        if not 0 <= index < self.size:
            raise IndexError(f"record {index} of {self.size}")
        dice = self._dice(index)
        text, label, font = self._text(dice)
        image = self._render(dice, text, font)
        return WordCrop(image, label, f"{self.name}:{self.seed}:{index}")

    def labels(self) -> Iterator[str]:
        """The labels of all records in order, without their images."""
        return (self._text(self._dice(index))[1] for index in range(self.size))

    def _dice(self, index: int) -> RandomStream:
        return RandomStream(self.seed, SPLITS.index(self.split), index)

    def _text(self, dice: RandomStream) -> tuple[str, str, Font]:
        for _ in range(_ATTEMPTS):
            text, label = self.words.draw(dice)
            if font := self.fonts.pick(dice, text):
                return text, label, font
        raise ValueError(f"no font draws all of {text!r}, nor of {_ATTEMPTS - 1} other words")

    def _another(self, dice: RandomStream, text: str, font: Font) -> str:
        """A word to stand beside `text`, in capitals if that is; empty if the font lacks its characters."""
        word = self.words.word(dice)
        word = capitals(word, self.words.charset) if text == text.upper() else word
        return word if font.covers(word) else ""

    def _render(self, dice: RandomStream, text: str, font: Font) -> np.ndarray:
        smallest, largest = 34 - 18 * self.difficulty, 54 + 14 * self.difficulty
        em = smallest * math.exp(dice.random() * math.log(largest / smallest))
        word = typeset(dice, font, text, em, self.difficulty, lambda: self._another(dice, text, font))
        layers, em = place(dice, word, em, self.difficulty)
        image = paint(dice, layers, word.decoration, self.difficulty)
        return degrade(dice, image, em, self.difficulty)


def fonts_and_words(
    charset: str, max_length: int, split: str, font_dir: str | Path | None, word_file: str | Path | None, listed: float
) -> tuple[FontLibrary, Words, str]:
    """The fonts, the texts that they can draw, and the characters of `charset` that none can; tells what is left out.

    Raises:
        ValueError, OSError: as `SyntheticWords`.
    """
    fonts = FontLibrary(font_dir)
    unset = "".join(c for c in charset if needs_layout(c))
    undrawable = unset + "".join(c for c in charset if c not in unset and not fonts.covers(c))
    drawable = "".join(c for c in charset if c not in undrawable)
    if unset:
        logging.warning(
            "the renderer can't lay out %r (right to left, or joined): no word will have it; use real pictures",
            unset,
        )
    if not drawable:
        reason = "the renderer can't lay out" if unset else "no font draws"
        advice = "use real pictures" if unset else "give a font_dir with fonts that do"
        raise ValueError(f"{reason} any of the charset {charset!r}; {advice}")
    words = Words(drawable, max_length, split, word_file, listed, undrawable)
    for path, reason in fonts.broken.items():
        logging.warning("font %s is not used: %s", path, reason)
    if lacking := undrawable.removeprefix(unset):
        logging.warning("no font draws %r: no word will have it; give a font_dir with fonts that do", lacking)
    if word_file is not None and words.dropped:
        logging.warning("words of %s that are not used: %s", word_file, dict(words.dropped))
    return fonts, words, undrawable
