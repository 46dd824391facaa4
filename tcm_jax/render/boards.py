"""Flat pieces of text for a scene: lines of words in one or two styles, on a board of their own or on nothing."""

import math
from bisect import bisect_left
from dataclasses import dataclass, replace

import cv2
import numpy as np
from PIL import Image, ImageDraw

from tcm_jax.images.fonts import Font, FontLibrary
from tcm_jax.render.emblems import band, emblem
from tcm_jax.render.random_stream import RandomStream
from tcm_jax.render.scenery import LUMA, background, colour, colours, under_colour
from tcm_jax.render.typesetting import decorate
from tcm_jax.render.vocabulary import Words

SIZES = (9, 11, 13, 16, 19, 23, 28, 34, 42, 52, 64, 80, 100)  # ems in pixels; few, so that fonts stay open
_ATTEMPTS = 50
_DECORATIONS = ("outline", "outline", "shadow", "shadow", "glow", "solid")


@dataclass(frozen=True)
class PaintedWord:
    """A word of a text: its ink's left, top, right and bottom in pixels (whole pixels), and its em and line."""

    text: str
    box: tuple[float, float, float, float]
    em: int
    line: int


@dataclass(frozen=True)
class Text:
    """Words or marks laid out flat, not yet coloured.

    letters, marks, under: coverage, uint8 [h, w], of the letters, of what is not text, and of the decoration that
        lies under the letters.
    em: the largest font size, in pixels.
    """

    letters: np.ndarray
    marks: np.ndarray
    under: np.ndarray
    words: tuple[PaintedWord, ...]
    em: int
    decoration: str


def size_of(em: float) -> int:
    """The next larger of `SIZES`."""
    return SIZES[min(bisect_left(SIZES, em), len(SIZES) - 1)]


def lay_out(dice: RandomStream, fonts: FontLibrary, words: Words, count: int, em: float, difficulty: float) -> Text:
    """`count` words in lines; the first line's em is `size_of(em)`, other lines may be smaller."""
    first = size_of(em)
    capitals = dice.chance(0.45)
    columns = dice.pick((1, 2, 2, 3, 3, 4)) if count > 1 else 1
    leading, gap = dice.uniform(0.12, 0.55), dice.uniform(0.26, 0.6)
    alignment = dice.pick((0.0, 0.0, 0.5, 0.5, 0.5, 1.0))
    small = size_of(first * dice.pick((0.4, 0.5, 0.6, 0.75, 1.0, 1.0)))
    font: Font | None = None
    tracking, size = 0, first
    lines: list[tuple[np.ndarray, list[PaintedWord], int]] = []
    while count > 0:
        if font is None or (len(lines) == 1 and dice.chance(0.4)):
            font = None
            tracking = round(size * dice.uniform(-0.02, 0.3)) if dice.chance(0.2) else 0
        text, font = _draw_text(dice, fonts, words, font, capitals)
        texts = [text]
        for _ in range(min(count, dice.between(1, columns)) - 1):
            texts.append(_draw_text(dice, fonts, words, font, capitals)[0])
        count -= len(texts)
        lines.append((*_line(font, texts, size, tracking, gap, len(lines)), size))
        size = small
    return _stack(dice, lines, leading, alignment, difficulty)


def _draw_text(
    dice: RandomStream, fonts: FontLibrary, words: Words, font: Font | None, capitals: bool
) -> tuple[str, Font]:
    """A text that says something, and the font for it: `font` if there is one."""
    for _ in range(_ATTEMPTS):
        text, _ = words.draw(dice)
        text = text.upper() if capitals else text
        if sum(c.isalnum() for c in text) < (1 if dice.chance(0.15) else 2):
            continue
        if font is not None and not font.covers(text):
            text = text.upper()
        chosen = fonts.pick(dice, text) if font is None else font
        if chosen is not None and chosen.covers(text):
            return text, chosen
    raise ValueError(f"none of {_ATTEMPTS} words can be drawn with {font.name if font else 'any font'}")


def _line(
    font: Font, texts: list[str], size: int, tracking: int, gap: float, line: int
) -> tuple[np.ndarray, list[PaintedWord]]:
    """A line of words as tight coverage [h, w], and the words' boxes in it."""
    face = font.at(size)
    space = max(2, round(gap * size) + tracking)
    pieces, x = [], 0
    for text in texts:
        ink, rise = _ink(face, text, size, tracking)
        pieces.append((text, ink, x, rise))
        x += ink.shape[1] + space
    top = max(rise for *_, rise in pieces)
    height = top + max(ink.shape[0] - rise for _, ink, _, rise in pieces)
    coverage = np.zeros((height, x - space), np.uint8)
    words = []
    for text, ink, left, rise in pieces:
        y = top - rise
        coverage[y : y + ink.shape[0], left : left + ink.shape[1]] = ink
        words.append(PaintedWord(text, (left, y, left + ink.shape[1], y + ink.shape[0]), size, line))
    return coverage, words


def _ink(face, text: str, size: int, tracking: int) -> tuple[np.ndarray, int]:
    """The tight coverage [h, w] of a word and how many of its rows are above the baseline."""
    left, top, right, bottom = map(round, face.getbbox(text, anchor="ls"))
    pad = 2 + size // 4
    width = right - left + max(tracking, 0) * len(text) + 2 * pad
    canvas = Image.new("L", (width, bottom - top + 2 * pad))
    pen = ImageDraw.Draw(canvas)
    if tracking:
        x = float(pad - left)
        for character in text:
            pen.text((x, pad - top), character, fill=255, font=face, anchor="ls")
            x += face.getlength(character) + tracking
    else:
        pen.text((pad - left, pad - top), text, fill=255, font=face, anchor="ls")
    pixels = np.asarray(canvas)
    # An annotator's box ends where the ink can be seen, not at the faintest rim of a letter.
    ys, xs = np.flatnonzero(pixels.max(1) > 60), np.flatnonzero(pixels.max(0) > 60)
    if not len(ys):
        ys, xs = np.array([pad]), np.array([pad])
    return pixels[ys[0] : ys[-1] + 1, xs[0] : xs[-1] + 1], int(pad - top - ys[0])


def _stack(dice: RandomStream, lines: list, leading: float, alignment: float, difficulty: float) -> Text:
    em = max(size for *_, size in lines)
    pad = max(3, round(em * dice.pick((0.15, 0.3, 0.3, 0.5, 0.9))))
    inner = max(coverage.shape[1] for coverage, *_ in lines)
    spaces = [max(2, round(leading * size)) for *_, size in lines[1:]] + [0]
    height = sum(coverage.shape[0] for coverage, *_ in lines) + sum(spaces)
    letters = np.zeros((height + 2 * pad, inner + 2 * pad), np.uint8)
    words: list[PaintedWord] = []
    y = pad
    for (coverage, found, _), space in zip(lines, spaces, strict=True):
        h, w = coverage.shape
        x = pad + round(alignment * (inner - w))
        letters[y : y + h, x : x + w] = coverage
        for word in found:
            left, top, right, bottom = word.box
            words.append(PaintedWord(word.text, (left + x, top + y, right + x, bottom + y), word.em, word.line))
        y += h + space
    if em >= 16 and dice.chance(0.4):  # bolder: most faces at hand are lighter than what signs are set in
        width = 2 if em < 52 else 3
        letters = cv2.dilate(letters, np.ones((width, width), np.uint8))  # grows to the right and down first
        words = [_grown(word, width - 2, 1) for word in words]
    decoration = dice.pick(_DECORATIONS) if em >= 16 and dice.chance(0.3 * difficulty) else "none"
    under, reach = decorate(dice, letters, em, decoration)
    if decoration in ("outline", "solid"):
        words = [_grown(word, reach, reach) for word in words]
    marks = np.zeros_like(letters)
    if dice.chance(0.2):
        letters, marks, under, words = _beside(dice, letters, under, words)
    return Text(letters, marks, under, tuple(words), em, decoration)


def _beside(dice: RandomStream, letters: np.ndarray, under: np.ndarray, words: list[PaintedWord]) -> tuple:
    """The layers and words with an emblem before or after the words."""
    h, w = letters.shape
    side = max(8, round(h * dice.uniform(0.35, 0.9)))
    room = round(side * dice.uniform(1.05, 1.3))
    first = dice.chance(0.7)
    marks = np.zeros((h, w + room), np.uint8)
    x, y = (room - side if first else w), (h - side) // 2
    marks[y : y + side, x : x + side] = emblem(dice, side)
    wider = ((0, 0), (room, 0) if first else (0, room))
    if first:
        words = [
            replace(word, box=(word.box[0] + room, word.box[1], word.box[2] + room, word.box[3])) for word in words
        ]
    return np.pad(letters, wider), marks, np.pad(under, wider), words


def lay_out_marks(dice: RandomStream, em: float) -> Text:
    """Something as large as text of `em` that is none: an emblem, a row or stack of them, a bar code."""
    side = max(8, round(em * dice.uniform(0.7, 3)))
    roll = dice.random()
    if roll < 0.4:
        marks = emblem(dice, side)
    elif roll < 0.8:
        marks = band(dice, max(8, round(em)))
    else:
        gap, heights = max(2, side // 6), dice.between(2, 4)
        bands = [band(dice, max(8, round(em * 0.6))) for _ in range(heights)]
        width = max(mask.shape[1] for mask in bands)
        marks = np.vstack([np.pad(mask, ((0, gap), (0, width - mask.shape[1]))) for mask in bands])
    marks = np.pad(marks, max(2, round(em * dice.pick((0.1, 0.2, 0.4)))))
    nothing = np.zeros_like(marks)
    return Text(nothing, marks, nothing, (), max(1, round(em)), "none")


def _grown(word: PaintedWord, before: int, after: int) -> PaintedWord:
    left, top, right, bottom = word.box
    return replace(word, box=(left - before, top - before, right + after, bottom + after))


def paint_text(dice: RandomStream, text: Text, around: np.ndarray, busy: float, difficulty: float) -> np.ndarray:
    """The text in colour, float32 [h, w, 4]: RGB 0 .. 255 times alpha, and alpha 0 .. 1.

    around: mean colour of what it is put on; busy: the spread of its luma. Text is put right there, or on a board if
    there is too much going on, and sometimes anyway.
    """
    h, w = text.letters.shape
    on_board = dice.chance(0.55) or busy > dice.uniform(18, 60)
    ground, ink = colours(dice, difficulty)
    if not on_board:
        ground = around
        ink = ink_for(dice, ground, dice.uniform(60 - 15 * difficulty, 130) + busy)
    picture = np.zeros((h, w, 4), np.float32)
    if on_board:
        margin = min((min(*word.box[:2], w - word.box[2], h - word.box[3]) for word in text.words), default=h)
        picture = _board(dice, h, w, ground, abs(float((ink - ground) @ LUMA)), difficulty, text.em, margin)
    if text.decoration != "none":
        under = under_colour(dice, ground, ink)
        opacity = dice.uniform(0.5, 1.0) if text.decoration in ("shadow", "glow") else 1.0
        _lay(picture, under, text.under, opacity)
    inks = np.empty((h, 1, 3), np.float32)
    inks[:] = ink
    if on_board and dice.chance(0.3):  # another colour from the second line on
        lines = [word.box[1] for word in text.words if word.line == 1]
        if lines:
            inks[max(0, int(min(lines))) :] = ink_for(dice, ground, 70)
    mark_ink = inks if dice.chance(0.5) else ink_for(dice, ground, 50)
    _lay(picture, mark_ink, text.marks)
    _lay(picture, inks, text.letters)
    return picture


def ink_for(dice: RandomStream, ground: np.ndarray, least: float) -> np.ndarray:
    """A colour whose luma differs from `ground`'s by `least` if possible."""
    for _ in range(6):
        ink = colour(dice)
        if abs(float((ink - ground) @ LUMA)) >= least:
            return ink
    return np.full(3, 0 if float(ground @ LUMA) > 127 else 255, np.float32)


def _lay(picture: np.ndarray, paint: np.ndarray, layer: np.ndarray, opacity: float = 1.0) -> None:
    """Paint, RGB [3] or [h, 1, 3], over a premultiplied picture [h, w, 4] where `layer`, uint8 [h, w], has it."""
    x, y, w, h = cv2.boundingRect(layer)  # of what isn't 0; most marks and decorations are small or none
    if not w:
        return
    full = np.ones((*paint.shape[:-1], 4), np.float32)
    full[..., :3] = paint
    part = picture[y : y + h, x : x + w]
    change = (full[y : y + h] if full.ndim == 3 else full) - part
    change *= layer[y : y + h, x : x + w, None] * np.float32(opacity / 255)
    part += change


def _board(
    dice: RandomStream, h: int, w: int, ground: np.ndarray, contrast: float, difficulty: float, em: float, margin: float
) -> np.ndarray:
    """An empty board as `paint_text` returns it: a plate, a plate with a frame, rounded or oval.

    margin: pixels at its sides that are free of letters.
    """
    picture = np.empty((h, w, 4), np.float32)
    picture[..., :3] = background(dice, h, w, ground, contrast, 0.8 * difficulty)
    thick = max(1, round(em * dice.uniform(0.03, 0.14)))
    roll = dice.random()
    if roll < 0.35:
        cv2.rectangle(picture, (0, 0), (w - 1, h - 1), (*colour(dice).tolist(), 1.0), 2 * thick - 1)
    elif roll < 0.45 and min(h, w) > 6 * thick:
        inset = 2 * thick
        cv2.rectangle(
            picture, (inset, inset), (w - 1 - inset, h - 1 - inset), (*ink_for(dice, ground, 60).tolist(), 1.0), thick
        )
    shape = np.zeros((h, w), np.uint8)
    # A corner of this radius just touches the corner of what is `margin` pixels inside.
    radius = int(min(min(h, w) * dice.pick((0.0, 0.0, 0.0, 0.15, 0.3, 0.5)), margin * (2 + math.sqrt(2))))
    if radius > 1:
        cv2.rectangle(shape, (radius, 0), (w - 1 - radius, h - 1), 255, -1)
        cv2.rectangle(shape, (0, radius), (w - 1, h - 1 - radius), 255, -1)
        for x in (radius, w - 1 - radius):
            for y in (radius, h - 1 - radius):
                cv2.circle(shape, (x, y), radius, 255, -1, cv2.LINE_AA)
    else:
        shape[:] = 255
    picture[..., 3] = shape.astype(np.float32) * (dice.uniform(0.6, 1.0) / 255 if dice.chance(0.1) else 1 / 255)
    picture[..., :3] *= picture[..., 3:]
    return picture


def readable(image: np.ndarray, coverage: np.ndarray, polygon: np.ndarray) -> float:
    """How far the letters stand out of a word's area in a finished picture, in grey levels.

    image: uint8 [h, w, 3]; coverage of letters, uint8 [h, w]; polygon [n, 2].
    """
    h, w = coverage.shape
    x0, y0 = np.clip(np.floor(polygon.min(0)).astype(int), 0, (w, h))
    x1, y1 = np.clip(np.ceil(polygon.max(0)).astype(int) + 1, 0, (w, h))
    if x1 <= x0 or y1 <= y0:
        return 0.0
    area = np.zeros((y1 - y0, x1 - x0), np.uint8)
    cv2.fillPoly(area, [np.round(polygon - (x0, y0)).astype(np.int32)], 1)
    inside = coverage[y0:y1, x0:x1].astype(np.float32) * (area / np.float32(255))
    outside = area - inside
    pixels = image[y0:y1, x0:x1].reshape(-1, 3).astype(np.float32)
    first = inside.ravel() @ pixels / max(float(inside.sum()), 1.0)
    second = outside.ravel() @ pixels / max(float(outside.sum()), 1.0)
    return math.sqrt(float(((first - second) ** 2).mean()))
