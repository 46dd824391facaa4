"""A word as flat masks: its letters, their decoration and what stands around it."""

from collections.abc import Callable
from dataclasses import dataclass

import cv2
import numpy as np
from PIL import Image, ImageDraw

from tcm_jax.images.fonts import Font
from tcm_jax.render.random_stream import RandomStream
from tcm_jax.render.scripts import has_marks

SIZES = (14, 18, 24, 32, 42, 56, 74)  # ems in pixels; a few sizes, so that opened fonts can be reused


@dataclass(frozen=True)
class Typeset:
    """A flat word.

    layers: coverage, uint8 [h, w, 2]: the letters, and the decoration that lies under them.
    box: left, top, right, bottom of the word with its decoration, in pixels of `layers`.
    em: font size in pixels.
    decoration: "none", "outline", "shadow", "glow" or "solid" (the sides of letters that stand out).
    neighbours: whether other words are around it.
    """

    layers: np.ndarray
    box: tuple[int, int, int, int]
    em: int
    decoration: str
    neighbours: bool


def typeset(
    dice: RandomStream, font: Font, text: str, em: float, difficulty: float, another: Callable[[], str]
) -> Typeset:
    """Draws `text` with the next larger of `SIZES`; `another` gives words for the surroundings."""
    size = next((s for s in SIZES if s >= em), SIZES[-1])
    face = font.at(size)
    spacing = round(size * _spacing(dice, difficulty)) if dice.chance(0.25) else 0
    jitter = size * 0.05 * difficulty if dice.chance(0.1 * difficulty) else 0.0
    left, top, right, bottom = map(round, face.getbbox(text, anchor="ls"))
    pad = size
    width = right - left + max(spacing, 0) * len(text) + 2 * pad
    canvas = Image.new("L", (width, bottom - top + 2 * pad))
    pen = ImageDraw.Draw(canvas)
    x, y = float(pad - left), float(pad - top)
    if (spacing or jitter) and not has_marks(text):
        for character in text:
            pen.text((x, y + dice.uniform(-jitter, jitter)), character, fill=255, font=face, anchor="ls")
            x += face.getlength(character) + spacing
    else:
        pen.text((x, y), text, fill=255, font=face, anchor="ls")
    box = canvas.getbbox() or (pad, pad, width - pad, pad + 1)
    neighbours = dice.chance(0.35 * difficulty)
    if neighbours:
        _surround(dice, pen, face, box, y, size, another)
    if dice.chance(0.08 * difficulty):
        _rule(dice, pen, box, size)
    letters = np.asarray(canvas)
    if dice.chance(0.35):  # bolder: most faces at hand are lighter than what signs are set in
        letters = cv2.dilate(letters, np.ones((1, 2) if size < 24 else (2, 2) if size < 56 else (3, 3), np.uint8))
    decoration = "none"
    if dice.chance(0.5 * difficulty):
        decoration = dice.pick(("outline", "outline", "shadow", "shadow", "glow", "solid"))
    under, reach = decorate(dice, letters, size, decoration)
    box = (box[0] - reach, box[1] - reach, box[2] + reach, box[3] + reach)
    return Typeset(np.dstack((letters, under)), box, size, decoration, neighbours)


def _spacing(dice: RandomStream, difficulty: float) -> float:
    """Between letters, in ems; signs may spread a word over a whole front."""
    most = 1.0 if dice.chance(0.3 * difficulty) else 0.1 + 0.25 * difficulty
    return dice.uniform(-0.03, most)


def _surround(dice, pen, face, box, baseline, size, another) -> None:
    """Words before, after, above and below, which a crop with wide margins shows pieces of."""
    gap = size * dice.uniform(0.28, 0.5)
    if dice.chance(0.5):
        pen.text((box[0] - gap, baseline), another(), fill=255, font=face, anchor="rs")
    if dice.chance(0.5):
        pen.text((box[2] + gap, baseline), another(), fill=255, font=face, anchor="ls")
    middle, leading = (box[0] + box[2]) / 2, size * dice.uniform(0.12, 0.4)
    if dice.chance(0.6):
        pen.text((middle, box[1] - leading), another() + " " + another(), fill=255, font=face, anchor="mb")
    if dice.chance(0.6):
        pen.text((middle, box[3] + leading), another() + " " + another(), fill=255, font=face, anchor="mt")


def _rule(dice, pen, box, size) -> None:
    """An underline, or a frame."""
    thickness = max(1, round(size * dice.uniform(0.03, 0.08)))
    gap = size * dice.uniform(0.1, 0.25)
    left, top, right, bottom = box
    if dice.chance(0.6):
        overhang = size * dice.uniform(-0.05, 1.0)
        pen.line((left - overhang, bottom + gap, right + overhang, bottom + gap), fill=255, width=thickness)
    else:
        pen.rectangle((left - gap, top - gap, right + gap, bottom + gap), outline=255, width=thickness)


def decorate(dice: RandomStream, letters: np.ndarray, size: int, decoration: str) -> tuple[np.ndarray, int]:
    """The mask under the letters and how far it reaches beyond them, in pixels."""
    if decoration == "none":
        return np.zeros_like(letters), 0
    if decoration in ("outline", "glow"):
        reach = max(1, round(size * dice.uniform(0.03, 0.09)))
        disc = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (2 * reach + 1, 2 * reach + 1))
        under = cv2.dilate(letters, disc)
        return (cv2.GaussianBlur(under, (0, 0), 1.2 * reach) if decoration == "glow" else under), reach
    reach = max(1, round(size * dice.uniform(0.04, 0.12)))
    dx, dy = dice.pick(((1, 1), (1, 1), (-1, 1), (1, -1), (0, 1)))
    if decoration == "solid":
        under = letters
        for step in range(1, reach + 1):
            under = np.maximum(under, _shifted(letters, dx * step, dy * step))
        return under, reach
    under = _shifted(letters, dx * reach, dy * reach)
    return (cv2.GaussianBlur(under, (0, 0), 0.5 * reach) if dice.chance(0.6) else under), reach


def _shifted(mask: np.ndarray, dx: int, dy: int) -> np.ndarray:
    h, w = mask.shape
    moved = np.zeros_like(mask)
    moved[max(dy, 0) : h + min(dy, 0), max(dx, 0) : w + min(dx, 0)] = mask[
        max(-dy, 0) : h + min(-dy, 0), max(-dx, 0) : w + min(-dx, 0)
    ]
    return moved
