"""Camera effects: light, exposure, blur, resolution, noise, JPEG compression."""

import functools

import cv2
import numpy as np

from tcm_jax.render.random_stream import RandomStream


def degrade(rng: RandomStream, image: np.ndarray, em: float, difficulty: float) -> np.ndarray:
    """Degrades `image`, float32 RGB [h, w, 3] in 0 .. 255, as a camera does; returns uint8 of the same shape.

    Args:
        em: font size of the text in pixels; blur and loss of resolution are relative to it.
        difficulty: 0 only rounds, 1 may be near the limit of legibility.
    """
    if rng.chance(0.5 * difficulty):
        image = _light(rng, image, difficulty)
    if rng.chance(0.5 * difficulty):
        image = _expose(rng, image, difficulty)
    if rng.chance(0.65 * difficulty):
        image = _blur(rng, image, em, difficulty)
    elif rng.chance(0.6 * difficulty):
        image = _coarsen(rng, image, em, difficulty)
    if rng.chance(0.1 * difficulty):
        image = image + rng.uniform(0.3, 1.2) * (image - cv2.GaussianBlur(image, (0, 0), 0.04 * em + 0.5))
    if rng.chance(0.4 * difficulty):
        image = image + _noise(rng, *image.shape[:2]) * (rng.uniform(1, 13) * difficulty)
    pixels = np.clip(image + 0.5, 0, 255).astype(np.uint8)
    if rng.chance(0.7 * difficulty):
        quality = round(rng.uniform(95 - 65 * difficulty, 95))
        # cv2 expects BGR; with the channels reversed, its colour transform is the one a camera applies.
        _, code = cv2.imencode(".jpg", pixels[..., ::-1], (cv2.IMWRITE_JPEG_QUALITY, quality))
        pixels = np.ascontiguousarray(np.asarray(cv2.imdecode(code, cv2.IMREAD_COLOR))[..., ::-1])
    return pixels


def _light(rng: RandomStream, image: np.ndarray, difficulty: float) -> np.ndarray:
    """Uneven light: darker and brighter parts, or a glare."""
    h, w = image.shape[:2]
    cells = np.array([rng.uniform(-1, 1) for _ in range(6)], np.float32).reshape(2, 3)
    field = cv2.resize(cells, (w, h), interpolation=cv2.INTER_CUBIC)[..., None]
    if rng.chance(0.75):
        return image * (1 + 0.4 * difficulty * field)
    return image + np.maximum(field, 0) * (110 * difficulty)


def _expose(rng: RandomStream, image: np.ndarray, difficulty: float) -> np.ndarray:
    """Gain, offset and colour cast."""
    gain = rng.uniform(1 - 0.5 * difficulty, 1 + 0.25 * difficulty)
    cast = np.array([rng.uniform(-0.12, 0.12) for _ in range(3)], np.float32) * difficulty
    return image * (gain + cast) + rng.uniform(-20, 90 * (1.1 - gain) + 20) * difficulty


def _blur(rng: RandomStream, image: np.ndarray, em: float, difficulty: float) -> np.ndarray:
    strength = em * rng.uniform(0.005, 0.065) * difficulty
    roll = rng.random()
    if roll < 0.55:
        return cv2.GaussianBlur(image, (0, 0), max(strength, 0.2))
    length = 2 * round(1.7 * strength) + 1
    if length < 3:
        return cv2.GaussianBlur(image, (0, 0), 0.5)
    if roll < 0.8:  # motion
        kernel = np.zeros((length, length), np.float32)
        dx, dy = rng.pick(((1.0, 0.0), (1.0, 0.3), (1.0, -0.3), (0.7, 0.7), (0.7, -0.7), (0.0, 1.0)))
        middle = length // 2
        start = (round(middle - dx * middle), round(middle - dy * middle))
        cv2.line(kernel, start, (length - 1 - start[0], length - 1 - start[1]), 1.0)
    else:  # a lens out of focus
        kernel = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (length, length)).astype(np.float32)
    return cv2.filter2D(image, -1, kernel / kernel.sum(), borderType=cv2.BORDER_REFLECT)


def _coarsen(rng: RandomStream, image: np.ndarray, em: float, difficulty: float) -> np.ndarray:
    """Downsamples and upsamples, sometimes along one axis only; an em keeps 9 pixels, more if less difficult."""
    h, w = image.shape[:2]
    min_scale = min(1.0, (9 + 8 * (1 - difficulty)) / em)
    along_x, along_y = rng.uniform(min_scale, 1), rng.uniform(min_scale, 1)
    if rng.chance(0.6):
        along_y = along_x
    small = (max(4, round(w * along_x)), max(4, round(h * along_y)))
    back = rng.pick((cv2.INTER_LINEAR, cv2.INTER_LINEAR, cv2.INTER_CUBIC, cv2.INTER_NEAREST))
    return cv2.resize(cv2.resize(image, small, interpolation=cv2.INTER_AREA), (w, h), interpolation=back)


def _noise(rng: RandomStream, h: int, w: int) -> np.ndarray:
    """A piece of a sheet of normal noise, float32 [h, w, 3] or [h, w, 1]."""
    sheet = _sheet(-(-max(h, w, 256) // 256) * 256)
    top, left = rng.below(sheet.shape[0] - h + 1), rng.below(sheet.shape[1] - w + 1)
    piece = sheet[top : top + h, left : left + w]
    return piece if rng.chance(0.6) else piece[..., :1]


@functools.cache
def _sheet(side: int) -> np.ndarray:
    return np.random.default_rng(104729).standard_normal((2 * side, 2 * side, 3), np.float32)
