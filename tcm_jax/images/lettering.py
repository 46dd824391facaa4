"""Labels on images: a font that has the characters of a text, and a place where the text hides little."""

import functools
from collections.abc import Sequence

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from tcm_jax.images.fonts import Font, FontLibrary

Colour = tuple[int, int, int]  # RGB
DARK = (20, 20, 20)

_SHARE = 0.55  # font size / height of the word
_PADDING, _GAP = 2, 2  # pixels around a text in its box, and between a word and this box
_MAX_LENGTH = 60  # characters
_LABEL_COST = 10.0  # of a hidden pixel of another label, relative to one of another word; its own word costs 2


def draw_labels(
    image: np.ndarray,
    polygons: Sequence[np.ndarray],
    texts: Sequence[str],
    colours: Sequence[Colour],
    sizes: tuple[int, int],
) -> np.ndarray:
    """Draws a text on a dark box beside each polygon, where it hides the least of words and other texts.

    Args:
        image: uint8 RGB [h, w, 3], which is not changed.
        polygons: [n, 2] each, x and y in pixels.
        texts, colours: one for each polygon; nothing is drawn for "".
        sizes: minimum and maximum font size in pixels; between them it grows with the height of the word.

    Returns:
        uint8 RGB [h, w, 3].
    """
    canvas = Image.fromarray(image)
    pen = ImageDraw.Draw(canvas)
    words = np.reshape([[*polygon.min(0), *polygon.max(0)] for polygon in polygons], (-1, 4))
    labels = np.zeros((0, 4))
    for word, text, colour in zip(words, texts, colours, strict=True):
        if not text:
            continue
        # The height of an upright word is the width of its box.
        text, font = choose_font(text, int(np.clip(_SHARE * (word[2:] - word[:2]).min(), *sizes)))
        left, top, right, bottom = map(round, pen.textbbox((0, 0), text, font))
        places = _places(word, (right - left + 2 * _PADDING, bottom - top + 2 * _PADDING), canvas.size)
        hidden = _overlap(places, np.vstack([words, word])) + _LABEL_COST * _overlap(places, labels)
        x0, y0, x1, y1 = place = places[hidden.argmin()]
        labels = np.vstack([labels, place])
        pen.rectangle((x0, y0, x1 - 1, y1 - 1), fill=DARK)
        pen.text((x0 + _PADDING - left, y0 + _PADDING - top), text, fill=colour, font=font)
    return np.array(canvas)


def choose_font(text: str, size: int) -> tuple[str, ImageFont.ImageFont | ImageFont.FreeTypeFont]:
    """The text as it can be drawn on one line, of at most 60 characters, and a font of `size` pixels for it.

    Characters that the font lacks become question marks.
    """
    text = " ".join(text.split())
    text = text if len(text) <= _MAX_LENGTH else text[: _MAX_LENGTH - 3] + "..."
    if text.isascii():
        return text, _default_font(size)
    font = max(_fonts(), key=lambda font: sum(map(font.covers, text)))
    return "".join(c if font.covers(c) else "?" for c in text), font.at(size)


_default_font = functools.cache(ImageFont.load_default)


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
    flush, middle = right - width, (top + bottom - height) / 2
    above, below = top - height - _GAP, bottom + _GAP
    x = np.array([left, left, right + _GAP, left - width - _GAP, flush, flush])
    y = np.array([above, below, middle, middle, above, below])
    corners = np.round(np.clip(np.stack([x, y], axis=1), 0, np.maximum(np.subtract(canvas, size), 0)))
    return np.hstack([corners, corners + size])


def _overlap(boxes: np.ndarray, others: np.ndarray) -> np.ndarray:
    """Pixels of each box [k, 4] that the others [m, 4] hide, summed over them: [k]."""
    low = np.maximum(boxes[:, None, :2], others[None, :, :2])
    high = np.minimum(boxes[:, None, 2:], others[None, :, 2:])
    return np.maximum(high - low, 0).prod(2).sum(1)
