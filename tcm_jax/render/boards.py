"""Flat blocks of text for a synthetic scene: lines of words in one or two styles, on a signboard or on nothing."""

import math
from bisect import bisect_left
from dataclasses import dataclass, replace

import cv2
import numpy as np
from PIL import Image, ImageDraw, ImageFont

from tcm_jax.images.fonts import Font, FontLibrary
from tcm_jax.render.emblems import band, emblem
from tcm_jax.render.random_stream import RandomStream
from tcm_jax.render.scenery import LUMA, background, colour, colours, under_colour
from tcm_jax.render.typesetting import decorate
from tcm_jax.render.vocabulary import TextSampler

SIZES = (9, 11, 13, 16, 19, 23, 28, 34, 42, 52, 64, 80, 100)  # ems in pixels; few, so that fonts stay open
_ATTEMPTS = 50
_DECORATIONS = ("outline", "outline", "shadow", "shadow", "glow", "solid")


@dataclass(frozen=True)
class WordBox:
    """A word of a text block.

    Attributes:
        text: the word.
        box: left, top, right and bottom of its ink, in whole pixels of the block.
        em: font size in pixels.
        line: number of its line, from 0.
    """

    text: str
    box: tuple[float, float, float, float]
    em: int
    line: int


@dataclass(frozen=True)
class TextBlock:
    """Words or marks laid out flat, not yet coloured.

    Attributes:
        letters, marks, under: coverage, uint8 [h, w], of the letters, of what is not text, and of the decoration that
            lies under the letters.
        words: the words and their boxes; none for marks.
        em: the maximum font size, in pixels.
        decoration: as of `TypesetWord`.
    """

    letters: np.ndarray
    marks: np.ndarray
    under: np.ndarray
    words: tuple[WordBox, ...]
    em: int
    decoration: str


def size_of(em: float) -> int:
    """The smallest of `SIZES` that is at least `em`, else the largest."""
    return SIZES[min(bisect_left(SIZES, em), len(SIZES) - 1)]


def lay_out(
    rng: RandomStream, fonts: FontLibrary, sampler: TextSampler, count: int, em: float, difficulty: float
) -> TextBlock:
    """Lays out `count` words in lines; the first line's em is `size_of(em)`, other lines may be smaller.

    Raises:
        ValueError: no drawn text can be rendered with one of the fonts.
    """
    first = size_of(em)
    capitals = rng.chance(0.45)
    columns = rng.pick((1, 2, 2, 3, 3, 4)) if count > 1 else 1
    leading, gap = rng.uniform(0.12, 0.55), rng.uniform(0.26, 0.6)
    alignment = rng.pick((0.0, 0.0, 0.5, 0.5, 0.5, 1.0))
    small = size_of(first * rng.pick((0.4, 0.5, 0.6, 0.75, 1.0, 1.0)))
    font: Font | None = None
    tracking, size = 0, first
    lines: list[tuple[np.ndarray, list[WordBox], int]] = []
    while count > 0:
        if font is None or (len(lines) == 1 and rng.chance(0.4)):
            font = None
            tracking = round(size * rng.uniform(-0.02, 0.3)) if rng.chance(0.2) else 0
        text, font = _draw_text(rng, fonts, sampler, font, capitals)
        texts = [text]
        for _ in range(min(count, rng.between(1, columns)) - 1):
            texts.append(_draw_text(rng, fonts, sampler, font, capitals)[0])
        count -= len(texts)
        lines.append((*_line(font, texts, size, tracking, gap, len(lines)), size))
        size = small
    return _stack(rng, lines, leading, alignment, difficulty)


def _draw_text(
    rng: RandomStream, fonts: FontLibrary, sampler: TextSampler, font: Font | None, capitals: bool
) -> tuple[str, Font]:
    """A text with enough letters or digits, and the font for it: `font` if there is one."""
    for _ in range(_ATTEMPTS):
        text, _ = sampler.draw(rng)
        text = text.upper() if capitals else text
        if sum(c.isalnum() for c in text) < (1 if rng.chance(0.15) else 2):
            continue
        if font is not None and not font.covers(text):
            text = text.upper()
        chosen = fonts.pick(rng, text) if font is None else font
        if chosen is not None and chosen.covers(text):
            return text, chosen
    raise ValueError(f"none of {_ATTEMPTS} words can be drawn with {font.name if font else 'any font'}")


def _line(
    font: Font, texts: list[str], size: int, tracking: int, gap: float, line: int
) -> tuple[np.ndarray, list[WordBox]]:
    """A line of words as tight coverage uint8 [h, w], and the words' boxes in it."""
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
        words.append(WordBox(text, (left, y, left + ink.shape[1], y + ink.shape[0]), size, line))
    return coverage, words


def _ink(face: ImageFont.FreeTypeFont, text: str, size: int, tracking: int) -> tuple[np.ndarray, int]:
    """The tight coverage uint8 [h, w] of a word and how many of its rows are above the baseline."""
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
    # An annotator's box ends where the ink is visible, not at the faintest rim of a letter.
    ys, xs = np.flatnonzero(pixels.max(1) > 60), np.flatnonzero(pixels.max(0) > 60)
    if not len(ys):
        ys, xs = np.array([pad]), np.array([pad])
    return pixels[ys[0] : ys[-1] + 1, xs[0] : xs[-1] + 1], int(pad - top - ys[0])


def _stack(
    rng: RandomStream,
    lines: list[tuple[np.ndarray, list[WordBox], int]],
    leading: float,
    alignment: float,
    difficulty: float,
) -> TextBlock:
    """Lines, each (coverage, words, em), one below the other; some bolder, decorated or with an emblem."""
    em = max(size for *_, size in lines)
    pad = max(3, round(em * rng.pick((0.15, 0.3, 0.3, 0.5, 0.9))))
    inner = max(coverage.shape[1] for coverage, *_ in lines)
    spaces = [max(2, round(leading * size)) for *_, size in lines[1:]] + [0]
    height = sum(coverage.shape[0] for coverage, *_ in lines) + sum(spaces)
    letters = np.zeros((height + 2 * pad, inner + 2 * pad), np.uint8)
    words: list[WordBox] = []
    y = pad
    for (coverage, found, _), space in zip(lines, spaces, strict=True):
        h, w = coverage.shape
        x = pad + round(alignment * (inner - w))
        letters[y : y + h, x : x + w] = coverage
        for word in found:
            left, top, right, bottom = word.box
            words.append(WordBox(word.text, (left + x, top + y, right + x, bottom + y), word.em, word.line))
        y += h + space
    if em >= 16 and rng.chance(0.4):  # bolder: most faces at hand are lighter than what signs are set in
        width = 2 if em < 52 else 3
        letters = cv2.dilate(letters, np.ones((width, width), np.uint8))  # grows to the right and down first
        words = [_grown(word, width - 2, 1) for word in words]
    decoration = rng.pick(_DECORATIONS) if em >= 16 and rng.chance(0.3 * difficulty) else "none"
    under, reach = decorate(rng, letters, em, decoration)
    if decoration in ("outline", "solid"):
        words = [_grown(word, reach, reach) for word in words]
    marks = np.zeros_like(letters)
    if rng.chance(0.2):
        letters, marks, under, words = _beside(rng, letters, under, words)
    return TextBlock(letters, marks, under, tuple(words), em, decoration)


def _beside(
    rng: RandomStream, letters: np.ndarray, under: np.ndarray, words: list[WordBox]
) -> tuple[np.ndarray, np.ndarray, np.ndarray, list[WordBox]]:
    """Letters, marks, decoration and words with an emblem before or after the words."""
    h, w = letters.shape
    side = max(8, round(h * rng.uniform(0.35, 0.9)))
    room = round(side * rng.uniform(1.05, 1.3))
    first = rng.chance(0.7)
    marks = np.zeros((h, w + room), np.uint8)
    x, y = (room - side if first else w), (h - side) // 2
    marks[y : y + side, x : x + side] = emblem(rng, side)
    wider = ((0, 0), (room, 0) if first else (0, room))
    if first:
        words = [
            replace(word, box=(word.box[0] + room, word.box[1], word.box[2] + room, word.box[3])) for word in words
        ]
    return np.pad(letters, wider), marks, np.pad(under, wider), words


def lay_out_marks(rng: RandomStream, em: float) -> TextBlock:
    """Marks as large as text of `em` pixels that are no text: an emblem, a row or stack of them, a bar code."""
    side = max(8, round(em * rng.uniform(0.7, 3)))
    roll = rng.random()
    if roll < 0.4:
        marks = emblem(rng, side)
    elif roll < 0.8:
        marks = band(rng, max(8, round(em)))
    else:
        gap, heights = max(2, side // 6), rng.between(2, 4)
        bands = [band(rng, max(8, round(em * 0.6))) for _ in range(heights)]
        width = max(mask.shape[1] for mask in bands)
        marks = np.vstack([np.pad(mask, ((0, gap), (0, width - mask.shape[1]))) for mask in bands])
    marks = np.pad(marks, max(2, round(em * rng.pick((0.1, 0.2, 0.4)))))
    empty = np.zeros_like(marks)
    return TextBlock(empty, marks, empty, (), max(1, round(em)), "none")


def _grown(word: WordBox, before: int, after: int) -> WordBox:
    left, top, right, bottom = word.box
    return replace(word, box=(left - before, top - before, right + after, bottom + after))


def paint_text(rng: RandomStream, text: TextBlock, around: np.ndarray, busy: float, difficulty: float) -> np.ndarray:
    """Colours a text block; returns float32 [h, w, 4], RGB 0 .. 255 times alpha, and alpha 0 .. 1.

    Text is drawn on the scene itself, or on a signboard where the scene is too busy, and sometimes anyway.

    Args:
        around: mean RGB of the scene behind the text.
        busy: standard deviation of the luma there.
        difficulty: 0 .. 1; difficult text has less contrast.
    """
    h, w = text.letters.shape
    on_board = rng.chance(0.55) or busy > rng.uniform(18, 60)
    ground, ink = colours(rng, difficulty)
    if not on_board:
        ground = around
        ink = ink_for(rng, ground, rng.uniform(60 - 15 * difficulty, 130) + busy)
    image = np.zeros((h, w, 4), np.float32)
    if on_board:
        margin = min((min(*word.box[:2], w - word.box[2], h - word.box[3]) for word in text.words), default=h)
        image = _board(rng, h, w, ground, abs(float((ink - ground) @ LUMA)), difficulty, text.em, margin)
    if text.decoration != "none":
        under = under_colour(rng, ground, ink)
        opacity = rng.uniform(0.5, 1.0) if text.decoration in ("shadow", "glow") else 1.0
        _composite(image, under, text.under, opacity)
    inks = np.empty((h, 1, 3), np.float32)
    inks[:] = ink
    if on_board and rng.chance(0.3):  # another colour from the second line on
        lines = [word.box[1] for word in text.words if word.line == 1]
        if lines:
            inks[max(0, int(min(lines))) :] = ink_for(rng, ground, 70)
    mark_ink = inks if rng.chance(0.5) else ink_for(rng, ground, 50)
    _composite(image, mark_ink, text.marks)
    _composite(image, inks, text.letters)
    return image


def ink_for(rng: RandomStream, ground: np.ndarray, min_contrast: float) -> np.ndarray:
    """A random RGB colour whose luma differs from that of `ground` by at least `min_contrast`, else black or white."""
    for _ in range(6):
        ink = colour(rng)
        if abs(float((ink - ground) @ LUMA)) >= min_contrast:
            return ink
    return np.full(3, 0 if float(ground @ LUMA) > 127 else 255, np.float32)


def _composite(image: np.ndarray, paint: np.ndarray, layer: np.ndarray, opacity: float = 1.0) -> None:
    """Composites `paint`, RGB [3] or [h, 1, 3], onto a premultiplied `image` [h, w, 4] by the coverage `layer`."""
    x, y, w, h = cv2.boundingRect(layer)  # of the pixels above 0; most marks and decorations are small or empty
    if not w:
        return
    full = np.ones((*paint.shape[:-1], 4), np.float32)
    full[..., :3] = paint
    part = image[y : y + h, x : x + w]
    change = (full[y : y + h] if full.ndim == 3 else full) - part
    change *= layer[y : y + h, x : x + w, None] * np.float32(opacity / 255)
    part += change


def _board(
    rng: RandomStream, h: int, w: int, ground: np.ndarray, contrast: float, difficulty: float, em: float, margin: float
) -> np.ndarray:
    """An empty signboard as `paint_text` returns it: a plate, a plate with a frame, rounded or oval.

    margin: pixels at its sides that are free of letters.
    """
    image = np.empty((h, w, 4), np.float32)
    image[..., :3] = background(rng, h, w, ground, contrast, 0.8 * difficulty)
    thick = max(1, round(em * rng.uniform(0.03, 0.14)))
    roll = rng.random()
    if roll < 0.35:
        cv2.rectangle(image, (0, 0), (w - 1, h - 1), (*colour(rng).tolist(), 1.0), 2 * thick - 1)
    elif roll < 0.45 and min(h, w) > 6 * thick:
        inset = 2 * thick
        cv2.rectangle(
            image, (inset, inset), (w - 1 - inset, h - 1 - inset), (*ink_for(rng, ground, 60).tolist(), 1.0), thick
        )
    shape = np.zeros((h, w), np.uint8)
    # A corner of this radius just touches the corner of what is `margin` pixels inside.
    radius = int(min(min(h, w) * rng.pick((0.0, 0.0, 0.0, 0.15, 0.3, 0.5)), margin * (2 + math.sqrt(2))))
    if radius > 1:
        cv2.rectangle(shape, (radius, 0), (w - 1 - radius, h - 1), 255, -1)
        cv2.rectangle(shape, (0, radius), (w - 1, h - 1 - radius), 255, -1)
        for x in (radius, w - 1 - radius):
            for y in (radius, h - 1 - radius):
                cv2.circle(shape, (x, y), radius, 255, -1, cv2.LINE_AA)
    else:
        shape[:] = 255
    image[..., 3] = shape.astype(np.float32) * (rng.uniform(0.6, 1.0) / 255 if rng.chance(0.1) else 1 / 255)
    image[..., :3] *= image[..., 3:]
    return image


def letter_contrast(image: np.ndarray, coverage: np.ndarray, polygon: np.ndarray) -> float:
    """The contrast between the letters and the rest of a word's area, in grey levels; 0 outside the image.

    Args:
        image: the finished image, uint8 [h, w, 3].
        coverage: of the letters, uint8 [h, w].
        polygon: of the word, [n, 2], x and y in pixels.
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
