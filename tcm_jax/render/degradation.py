"""What a camera and its file format do to a crop: light, blur, resolution, noise, compression."""

import functools

import cv2
import numpy as np

from tcm_jax.render.random_stream import RandomStream


def degrade(dice: RandomStream, image: np.ndarray, em: float, difficulty: float) -> np.ndarray:
    """`image` (float32 RGB [h, w, 3], 0 .. 255) as photographed, uint8 of the same shape.

    em: height of the text's em in pixels; blur and loss of resolution are relative to it.
    difficulty: 0 changes nothing but the rounding, 1 may be near the limit of the legible.
    """
    if dice.chance(0.5 * difficulty):
        image = _light(dice, image, difficulty)
    if dice.chance(0.5 * difficulty):
        image = _expose(dice, image, difficulty)
    if dice.chance(0.65 * difficulty):
        image = _blur(dice, image, em, difficulty)
    elif dice.chance(0.6 * difficulty):
        image = _coarsen(dice, image, em, difficulty)
    if dice.chance(0.1 * difficulty):
        image = image + dice.uniform(0.3, 1.2) * (image - cv2.GaussianBlur(image, (0, 0), 0.04 * em + 0.5))
    if dice.chance(0.4 * difficulty):
        image = image + _noise(dice, *image.shape[:2]) * (dice.uniform(1, 13) * difficulty)
    pixels = np.clip(image + 0.5, 0, 255).astype(np.uint8)
    if dice.chance(0.7 * difficulty):
        quality = round(dice.uniform(95 - 65 * difficulty, 95))
        # cv2 takes the channels for BGR; turned round, its colour transform is the one a camera applies.
        _, code = cv2.imencode(".jpg", pixels[..., ::-1], (cv2.IMWRITE_JPEG_QUALITY, quality))
        pixels = np.ascontiguousarray(np.asarray(cv2.imdecode(code, cv2.IMREAD_COLOR))[..., ::-1])
    return pixels


def _light(dice: RandomStream, image: np.ndarray, difficulty: float) -> np.ndarray:
    """Uneven light: darker and brighter parts, or a glare."""
    h, w = image.shape[:2]
    cells = np.array([dice.uniform(-1, 1) for _ in range(6)], np.float32).reshape(2, 3)
    field = cv2.resize(cells, (w, h), interpolation=cv2.INTER_CUBIC)[..., None]
    if dice.chance(0.75):
        return image * (1 + 0.4 * difficulty * field)
    return image + np.maximum(field, 0) * (110 * difficulty)


def _expose(dice: RandomStream, image: np.ndarray, difficulty: float) -> np.ndarray:
    """Gain, offset and colour cast."""
    gain = dice.uniform(1 - 0.5 * difficulty, 1 + 0.25 * difficulty)
    cast = np.array([dice.uniform(-0.12, 0.12) for _ in range(3)], np.float32) * difficulty
    return image * (gain + cast) + dice.uniform(-20, 90 * (1.1 - gain) + 20) * difficulty


def _blur(dice: RandomStream, image: np.ndarray, em: float, difficulty: float) -> np.ndarray:
    strength = em * dice.uniform(0.005, 0.065) * difficulty
    roll = dice.random()
    if roll < 0.55:
        return cv2.GaussianBlur(image, (0, 0), max(strength, 0.2))
    length = 2 * round(1.7 * strength) + 1
    if length < 3:
        return cv2.GaussianBlur(image, (0, 0), 0.5)
    if roll < 0.8:  # motion
        kernel = np.zeros((length, length), np.float32)
        dx, dy = dice.pick(((1.0, 0.0), (1.0, 0.3), (1.0, -0.3), (0.7, 0.7), (0.7, -0.7), (0.0, 1.0)))
        middle = length // 2
        start = (round(middle - dx * middle), round(middle - dy * middle))
        cv2.line(kernel, start, (length - 1 - start[0], length - 1 - start[1]), 1.0)
    else:  # a lens out of focus
        kernel = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (length, length)).astype(np.float32)
    return cv2.filter2D(image, -1, kernel / kernel.sum(), borderType=cv2.BORDER_REFLECT)


def _coarsen(dice: RandomStream, image: np.ndarray, em: float, difficulty: float) -> np.ndarray:
    """Fewer pixels and back, sometimes along one axis only; an em keeps 9 pixels, more if less difficult."""
    h, w = image.shape[:2]
    least = min(1.0, (9 + 8 * (1 - difficulty)) / em)
    along_x, along_y = dice.uniform(least, 1), dice.uniform(least, 1)
    if dice.chance(0.6):
        along_y = along_x
    small = (max(4, round(w * along_x)), max(4, round(h * along_y)))
    back = dice.pick((cv2.INTER_LINEAR, cv2.INTER_LINEAR, cv2.INTER_CUBIC, cv2.INTER_NEAREST))
    return cv2.resize(cv2.resize(image, small, interpolation=cv2.INTER_AREA), (w, h), interpolation=back)


def _noise(dice: RandomStream, h: int, w: int) -> np.ndarray:
    """A piece of a sheet of normal noise, float32 [h, w, 3] or [h, w, 1]."""
    sheet = _sheet(-(-max(h, w, 256) // 256) * 256)
    top, left = dice.below(sheet.shape[0] - h + 1), dice.below(sheet.shape[1] - w + 1)
    piece = sheet[top : top + h, left : left + w]
    return piece if dice.chance(0.6) else piece[..., :1]


@functools.cache
def _sheet(side: int) -> np.ndarray:
    return np.random.default_rng(104729).standard_normal((2 * side, 2 * side, 3), np.float32)
