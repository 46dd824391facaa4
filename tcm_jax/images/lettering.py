"""Writing what words say into pictures: a font that has the characters, a place that hides little."""

import functools
from collections.abc import Sequence

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from tcm_jax.images.drawing import Colour
from tcm_jax.images.fonts import Font, FontLibrary

_GROUND = (20, 20, 20)
_SIZES = (12, 28)  # pixels of an em
_SHARE = 0.55  # of a word's height
_PADDING, _GAP = 2, 2
_LONGEST = 60  # characters
_ON_LABEL, _ON_WORD = 10.0, 1.0  # cost of a hidden pixel: a label can't be read under another one
_SUBSTITUTE = "?"


def write_labels(
    picture: np.ndarray, polygons: Sequence[np.ndarray], texts: Sequence[str], colours: Sequence[Colour]
) -> np.ndarray:
    """`picture`, uint8 RGB [h, w, 3], with a text beside each polygon [n, 2] (x and y in pixels).

    Characters that no installed font has are question marks.
    """
    drawn = Image.fromarray(picture)
    pen = ImageDraw.Draw(drawn)
    words = [_box(polygon) for polygon in polygons]
    all_words = np.array(words).reshape(-1, 4)
    labels = np.zeros((0, 4))
    for i, (polygon, text, colour) in enumerate(zip(polygons, texts, colours, strict=True)):
        if not text:
            continue
        text, font = typeset(text, _size(polygon))
        left, top, right, bottom = map(round, pen.textbbox((0, 0), text, font))
        width, height = right - left + 2 * _PADDING, bottom - top + 2 * _PADDING
        places = _places(words[i], width, height, drawn.width, drawn.height)
        others = np.delete(all_words, i, axis=0)
        cost = _ON_LABEL * _overlap(places, labels) + _ON_WORD * _overlap(places, others)
        cost += 2 * _ON_WORD * _overlap(places, all_words[i : i + 1])  # least of all its own word
        place = places[cost.argmin()]
        labels = np.concatenate([labels, place[None]])
        x, y = place[:2]
        pen.rectangle((x, y, x + width - 1, y + height - 1), fill=_GROUND)
        pen.text((x + _PADDING - left, y + _PADDING - top), text, fill=colour, font=font)
    return np.array(drawn)


def _box(polygon: np.ndarray) -> tuple[float, float, float, float]:
    """Left, top, right, bottom."""
    (left, top), (right, bottom) = polygon.min(0), polygon.max(0)
    return left, top, right, bottom


def _size(polygon: np.ndarray) -> int:
    """Of the text for a word, from the word's height: that of its box, or its width if it is upright."""
    return int(np.clip(_SHARE * np.ptp(polygon, axis=0).min(), *_SIZES))


def _places(word: tuple[float, float, float, float], width: int, height: int, columns: int, rows: int) -> np.ndarray:
    """Boxes [k, 4] in the picture around a word, the best place first: above, below, right, left, and aligned right."""
    left, top, right, bottom = word
    middle = (top + bottom - height) / 2
    corners = np.array(
        [
            (left, top - height - _GAP),
            (left, bottom + _GAP),
            (right + _GAP, middle),
            (left - width - _GAP, middle),
            (right - width, top - height - _GAP),
            (right - width, bottom + _GAP),
        ]
    )
    corners = np.round(np.clip(corners, 0, np.maximum((columns - width, rows - height), 0)))
    return np.concatenate([corners, corners + (width, height)], axis=1)


def _overlap(boxes: np.ndarray, others: np.ndarray) -> np.ndarray:
    """Pixels of each box [k, 4] that all others [m, 4] hide: [k]."""
    low = np.maximum(boxes[:, None, :2], others[None, :, :2])
    high = np.minimum(boxes[:, None, 2:], others[None, :, 2:])
    return np.maximum(high - low, 0).prod(2).sum(1)


def typeset(text: str, size: int) -> tuple[str, ImageFont.ImageFont | ImageFont.FreeTypeFont]:
    """The text as it can be drawn on one line, and the font."""
    text = " ".join(text.split())
    text = text if len(text) <= _LONGEST else text[: _LONGEST - 3] + "..."
    if text.isascii():
        return text, ImageFont.load_default(size)
    font = max(_fonts(), key=lambda font: sum(map(font.covers, text)))
    return "".join(c if font.covers(c) else _SUBSTITUTE for c in text), font.at(size)


@functools.cache
def _fonts() -> list[Font]:
    """Of the fonts of the package, plain ones first, one for each family."""
    families: dict[str, Font] = {}
    for font in sorted(FontLibrary().fonts, key=lambda font: (font.style != "Regular", font.family != "Roboto")):
        families.setdefault(font.family, font)
    return list(families.values())
