"""From a flat word to the crop that a detector would cut: curve, slant, rotation, perspective, margins."""

import math

import cv2
import numpy as np

from tcm_jax.render.random_stream import RandomStream
from tcm_jax.render.typesetting import Typeset

_LONGEST = 400.0  # pixels; long words are drawn smaller


def place(dice: RandomStream, word: Typeset, em: float, difficulty: float) -> tuple[np.ndarray, float]:
    """The layers of `word` as the crop shows them, uint8 [h, w, 2], and the height of an em there, in pixels.

    All is one warp, so that the letters are resampled once.
    """
    left, top, right, bottom = word.box
    stretch = math.exp(dice.uniform(-1, 1) * (0.12 + 0.28 * difficulty))
    scale_y = em / word.em
    scale_x = scale_y * stretch
    shrink = min(1.0, _LONGEST / ((right - left) * scale_x))
    scale_x, scale_y = scale_x * shrink, scale_y * max(shrink, 0.5)
    width, height = (right - left) * scale_x, (bottom - top) * scale_y
    flat = np.array(  # canvas pixels -> pixels around the centre of the word
        [[scale_x, 0, -scale_x * (left + right) / 2], [0, scale_y, -scale_y * (top + bottom) / 2], [0, 0, 1]]
    )
    tilt = random_tilt(dice, width, height, difficulty)
    bend = dice.sign() * dice.uniform(0.3, 1.4) * difficulty if dice.chance(0.2 * difficulty) else 0.0
    radius = width / bend if abs(bend) > 0.1 and width > 1.5 * height else 0.0

    along = np.linspace(-width / 2, width / 2, 9 if radius else 2)
    edges = np.stack([np.tile(along, 2), np.repeat((-height / 2, height / 2), len(along))])  # [2, points]
    if radius:
        edges = bent(edges, radius)
    x, y = project(tilt, edges)
    em = scale_y * word.em
    margins = _margins(dice, min(max(height, 0.4 * em), em), word.neighbours, difficulty)
    x0, y0 = x.min() - margins[0], y.min() - margins[1]
    size = (max(6, math.ceil(x.max() + margins[2] - x0)), max(6, math.ceil(y.max() + margins[3] - y0)))
    crop = np.array([[1, 0, -x0], [0, 1, -y0], [0, 0, 1]]) @ tilt
    if radius:
        layers = warp_bent(word.layers, flat, radius, crop, size)
    else:
        layers = cv2.warpPerspective(word.layers, crop @ flat, size, flags=cv2.INTER_LINEAR)
    return layers, em


def random_tilt(dice: RandomStream, width: float, height: float, difficulty: float) -> np.ndarray:
    """Slant, rotation and perspective around the centre, as a homography [3, 3]."""
    limit = 30 if dice.chance(0.15) else 10
    angle = math.radians(dice.uniform(-limit, limit) * difficulty)
    slant = dice.uniform(-0.35, 0.35) * difficulty if dice.chance(0.3) else 0.0
    cos, sin = math.cos(angle), math.sin(angle)
    rotation = np.array([[cos, -sin, 0], [sin, cos, 0], [0, 0, 1]])
    matrix = rotation @ np.array([[1, slant, 0], [0, 1, 0], [0, 0, 1]])
    if dice.chance(0.6):
        towards_x = dice.uniform(-0.5, 0.5) * difficulty / max(width, height)
        towards_y = dice.uniform(-0.25, 0.25) * difficulty / max(width, height)
        matrix = np.array([[1, 0, 0], [0, 1, 0], [towards_x, towards_y, 1]]) @ matrix
    return matrix


def _margins(dice: RandomStream, height: float, neighbours: bool, difficulty: float) -> list[float]:
    """Pixels from the word to the left, top, right and bottom of the crop; slightly negative if difficult."""
    tight = 0.02 - 0.08 * max(0.0, difficulty - 0.5)
    loose = dice.uniform(0.1, 0.15 + (0.25 if neighbours else 0.35) * difficulty)
    return [height * dice.uniform(tight, loose) + 1 for _ in range(4)]


def project(matrix: np.ndarray, points: np.ndarray) -> np.ndarray:
    """`points` [2, n] through a homography."""
    x, y, z = matrix @ np.vstack([points, np.ones(points.shape[1])])
    return np.stack([x / z, y / z])


def bent(points: np.ndarray, radius: float) -> np.ndarray:
    """Points around the centre, with the line y = 0 laid on a circle whose centre is (0, radius)."""
    x, y = points
    return np.stack([(radius - y) * np.sin(x / radius), radius - (radius - y) * np.cos(x / radius)])


def warp_bent(
    layers: np.ndarray, flat: np.ndarray, radius: float, crop: np.ndarray, size: tuple[int, int]
) -> np.ndarray:
    """The inverse of `bent` at every pixel of the crop."""
    w, h = size
    (a, b, c), (d, e, f), (g, k, m) = np.linalg.inv(crop).astype(np.float32)
    x, y = np.arange(w, dtype=np.float32), np.arange(h, dtype=np.float32)[:, None]
    z = 1 / (g * x + k * y + m)
    x, y = (a * x + b * y + c) * z, (d * x + e * y + f) * z  # [h, w]
    sign = math.copysign(1, radius)
    distance, angle = cv2.cartToPolar(sign * (radius - y), sign * x)
    angle[angle > math.pi] -= 2 * math.pi
    u, v = angle * radius, radius - sign * distance
    map_x = (u - flat[0, 2]) / flat[0, 0]
    map_y = (v - flat[1, 2]) / flat[1, 1]
    return cv2.remap(layers, map_x.astype(np.float32), map_y.astype(np.float32), cv2.INTER_LINEAR)
