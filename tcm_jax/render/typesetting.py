"""Typesets a word as flat masks: its letters, their decoration and neighbouring words."""

from collections.abc import Callable
from dataclasses import dataclass

import cv2
import numpy as np
from PIL import Image, ImageDraw, ImageFont

from tcm_jax.images.fonts import Font
from tcm_jax.render.random_stream import RandomStream
from tcm_jax.render.scripts import has_marks

SIZES = (14, 18, 24, 32, 42, 56, 74)  # ems in pixels; a few sizes, so that opened fonts can be reused


@dataclass(frozen=True)
class TypesetWord:
    """A flat word.

    Attributes:
        layers: coverage, uint8 [h, w, 2]: the letters, and the decoration that lies under them.
        box: left, top, right, bottom of the word with its decoration, in pixels of `layers`.
        em: font size in pixels.
        decoration: "none", "outline", "shadow", "glow" or "solid" (extruded letters).
        neighbours: whether other words are around it.
    """

    layers: np.ndarray
    box: tuple[int, int, int, int]
    em: int
    decoration: str
    neighbours: bool


def typeset(
    rng: RandomStream, font: Font, text: str, em: float, difficulty: float, neighbour: Callable[[], str]
) -> TypesetWord:
    """Typesets `text` in the smallest of `SIZES` that is at least `em`; `neighbour` gives words to surround it."""
    size = next((s for s in SIZES if s >= em), SIZES[-1])
    face = font.at(size)
    spacing = round(size * _spacing(rng, difficulty)) if rng.chance(0.25) else 0
    jitter = size * 0.05 * difficulty if rng.chance(0.1 * difficulty) else 0.0
    left, top, right, bottom = map(round, face.getbbox(text, anchor="ls"))
    pad = size
    width = right - left + max(spacing, 0) * len(text) + 2 * pad
    canvas = Image.new("L", (width, bottom - top + 2 * pad))
    pen = ImageDraw.Draw(canvas)
    x, y = float(pad - left), float(pad - top)
    if (spacing or jitter) and not has_marks(text):
        for character in text:
            pen.text((x, y + rng.uniform(-jitter, jitter)), character, fill=255, font=face, anchor="ls")
            x += face.getlength(character) + spacing
    else:
        pen.text((x, y), text, fill=255, font=face, anchor="ls")
    box = canvas.getbbox() or (pad, pad, width - pad, pad + 1)
    neighbours = rng.chance(0.35 * difficulty)
    if neighbours:
        _surround(rng, pen, face, box, y, size, neighbour)
    if rng.chance(0.08 * difficulty):
        _rule(rng, pen, box, size)
    letters = np.asarray(canvas)
    if rng.chance(0.35):  # bolder: most faces at hand are lighter than what signs are set in
        letters = cv2.dilate(letters, np.ones((1, 2) if size < 24 else (2, 2) if size < 56 else (3, 3), np.uint8))
    decoration = "none"
    if rng.chance(0.5 * difficulty):
        decoration = rng.pick(("outline", "outline", "shadow", "shadow", "glow", "solid"))
    under, reach = decorate(rng, letters, size, decoration)
    box = (box[0] - reach, box[1] - reach, box[2] + reach, box[3] + reach)
    return TypesetWord(np.dstack((letters, under)), box, size, decoration, neighbours)


def _spacing(rng: RandomStream, difficulty: float) -> float:
    """Extra space between letters, in ems; signs may spread a word over a shop front."""
    limit = 1.0 if rng.chance(0.3 * difficulty) else 0.1 + 0.25 * difficulty
    return rng.uniform(-0.03, limit)


def _surround(
    rng: RandomStream,
    pen: ImageDraw.ImageDraw,
    face: ImageFont.FreeTypeFont,
    box: tuple[int, int, int, int],
    baseline: float,
    size: int,
    neighbour: Callable[[], str],
) -> None:
    """Draws words before, after, above and below, parts of which a crop with wide margins shows."""
    gap = size * rng.uniform(0.28, 0.5)
    if rng.chance(0.5):
        pen.text((box[0] - gap, baseline), neighbour(), fill=255, font=face, anchor="rs")
    if rng.chance(0.5):
        pen.text((box[2] + gap, baseline), neighbour(), fill=255, font=face, anchor="ls")
    middle, leading = (box[0] + box[2]) / 2, size * rng.uniform(0.12, 0.4)
    if rng.chance(0.6):
        pen.text((middle, box[1] - leading), neighbour() + " " + neighbour(), fill=255, font=face, anchor="mb")
    if rng.chance(0.6):
        pen.text((middle, box[3] + leading), neighbour() + " " + neighbour(), fill=255, font=face, anchor="mt")


def _rule(rng: RandomStream, pen: ImageDraw.ImageDraw, box: tuple[int, int, int, int], size: int) -> None:
    """Draws an underline or a frame."""
    thickness = max(1, round(size * rng.uniform(0.03, 0.08)))
    gap = size * rng.uniform(0.1, 0.25)
    left, top, right, bottom = box
    if rng.chance(0.6):
        overhang = size * rng.uniform(-0.05, 1.0)
        pen.line((left - overhang, bottom + gap, right + overhang, bottom + gap), fill=255, width=thickness)
    else:
        pen.rectangle((left - gap, top - gap, right + gap, bottom + gap), outline=255, width=thickness)


def decorate(rng: RandomStream, letters: np.ndarray, size: int, decoration: str) -> tuple[np.ndarray, int]:
    """The decoration under letters.

    Args:
        letters: coverage, uint8 [h, w].
        size: font size in pixels.
        decoration: see `TypesetWord`.

    Returns:
        Coverage of the decoration, uint8 [h, w], and by how many pixels it extends beyond the letters.
    """
    if decoration == "none":
        return np.zeros_like(letters), 0
    if decoration in ("outline", "glow"):
        reach = max(1, round(size * rng.uniform(0.03, 0.09)))
        disc = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (2 * reach + 1, 2 * reach + 1))
        under = cv2.dilate(letters, disc)
        return (cv2.GaussianBlur(under, (0, 0), 1.2 * reach) if decoration == "glow" else under), reach
    reach = max(1, round(size * rng.uniform(0.04, 0.12)))
    dx, dy = rng.pick(((1, 1), (1, 1), (-1, 1), (1, -1), (0, 1)))
    if decoration == "solid":
        under = letters
        for step in range(1, reach + 1):
            under = np.maximum(under, _shifted(letters, dx * step, dy * step))
        return under, reach
    under = _shifted(letters, dx * reach, dy * reach)
    return (cv2.GaussianBlur(under, (0, 0), 0.5 * reach) if rng.chance(0.6) else under), reach


def _shifted(mask: np.ndarray, dx: int, dy: int) -> np.ndarray:
    h, w = mask.shape
    moved = np.zeros_like(mask)
    moved[max(dy, 0) : h + min(dy, 0), max(dx, 0) : w + min(dx, 0)] = mask[
        max(-dy, 0) : h + min(-dy, 0), max(-dx, 0) : w + min(-dx, 0)
    ]
    return moved
