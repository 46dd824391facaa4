"""Labels on images: a font that has the characters of a text, and a place where the text hides little."""

import functools
from collections.abc import Sequence

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from tcm_jax.images.drawing import Colour, PillowFont, draw_text_box, text_box
from tcm_jax.images.fonts import Font, FontLibrary

_SIZES = (12, 28)  # minimum and maximum font size in pixels
_SHARE = 0.55  # font size / height of the word
_GAP = 2  # pixels between a word and its label
_MAX_LENGTH = 60  # characters
_LABEL_COST = 10.0  # of a hidden pixel of another label, relative to one of another word; its own word costs 2


def draw_labels(
    image: np.ndarray, polygons: Sequence[np.ndarray], texts: Sequence[str], colours: Sequence[Colour]
) -> np.ndarray:
    """Draws a text beside each polygon, where it hides the least of words and other texts.

    Characters that no installed font has become question marks; an empty text is not drawn.

    Args:
        image: uint8 RGB [h, w, 3], which is not changed.
        polygons: [n, 2] each, x and y in pixels.
        texts, colours: one for each polygon.

    Returns:
        uint8 RGB [h, w, 3].
    """
    canvas = Image.fromarray(image)
    pen = ImageDraw.Draw(canvas)
    words = np.reshape([[*polygon.min(0), *polygon.max(0)] for polygon in polygons], (-1, 4))
    labels = np.zeros((0, 4))
    for word, text, colour in zip(words, texts, colours, strict=True):
        if text:
            # The height of an upright word is the width of its box.
            text, font = choose_font(text, int(np.clip(_SHARE * (word[2:] - word[:2]).min(), *_SIZES)))
            places = _places(word, text_box(pen, text, font), canvas.size)
            hidden = _overlap(places, np.vstack([words, word])) + _LABEL_COST * _overlap(places, labels)
            place = places[hidden.argmin()]
            labels = np.vstack([labels, place])
            draw_text_box(pen, *place[:2], text, font, colour)
    return np.array(canvas)


def choose_font(text: str, size: int) -> tuple[str, PillowFont]:
    """The text as it can be drawn on one line, of at most 60 characters, and a font of `size` pixels for it.

    Characters that the font lacks become question marks.
    """
    text = " ".join(text.split())
    text = text if len(text) <= _MAX_LENGTH else text[: _MAX_LENGTH - 3] + "..."
    if text.isascii():
        return text, ImageFont.load_default(size)
    font = max(_fonts(), key=lambda font: sum(map(font.covers, text)))
    return "".join(c if font.covers(c) else "?" for c in text), font.at(size)


@functools.cache
def _fonts() -> list[Font]:
    """One font of each family of the font packages, plain ones first."""
    families: dict[str, Font] = {}
    for font in sorted(FontLibrary().fonts, key=lambda font: (font.style != "Regular", font.family != "Roboto")):
        families.setdefault(font.family, font)
    return list(families.values())


def _places(word: np.ndarray, size: tuple[int, int], canvas: tuple[int, int]) -> np.ndarray:
    """Boxes [6, 4] of `size` (width, height) around a word [4], within the canvas (width, height), the best first."""
    (left, top, right, bottom), (width, height) = word, size
    above, below, before, middle = top - height - _GAP, bottom + _GAP, left - width - _GAP, (top + bottom - height) / 2
    flush_right = right - width
    corners = np.array(
        [
            (left, above),
            (left, below),
            (right + _GAP, middle),
            (before, middle),
            (flush_right, above),
            (flush_right, below),
        ]
    )
    corners = np.round(np.clip(corners, 0, np.maximum(np.subtract(canvas, size), 0)))
    return np.hstack([corners, corners + size])


def _overlap(boxes: np.ndarray, others: np.ndarray) -> np.ndarray:
    """Pixels of each box [k, 4] that the others [m, 4] hide, summed over them: [k]."""
    low = np.maximum(boxes[:, None, :2], others[None, :, :2])
    high = np.minimum(boxes[:, None, 2:], others[None, :, 2:])
    return np.maximum(high - low, 0).prod(2).sum(1)
