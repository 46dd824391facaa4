"""Warps a flat word to the crop that a detector would cut out: curve, slant, rotation, perspective, margins."""

import math

import cv2
import numpy as np

from tcm_jax.render.random_stream import RandomStream
from tcm_jax.render.typesetting import TypesetWord

_MAX_WIDTH = 400.0  # pixels; long words are drawn smaller


def warp_to_crop(rng: RandomStream, word: TypesetWord, em: float, difficulty: float) -> tuple[np.ndarray, float]:
    """Warps the layers of `word` to a crop; returns them, uint8 [h, w, 2], and the height of an em there in pixels.

    Everything is one warp, so that the letters are resampled once.

    Args:
        word: the flat word.
        em: height of an em in the crop, in pixels; long words are drawn smaller.
        difficulty: 0 (upright) to 1.
    """
    left, top, right, bottom = word.box
    stretch = math.exp(rng.uniform(-1, 1) * (0.12 + 0.28 * difficulty))
    scale_y = em / word.em
    scale_x = scale_y * stretch
    shrink = min(1.0, _MAX_WIDTH / ((right - left) * scale_x))
    scale_x, scale_y = scale_x * shrink, scale_y * max(shrink, 0.5)
    width, height = (right - left) * scale_x, (bottom - top) * scale_y
    flat = np.array(  # canvas pixels -> pixels around the centre of the word
        [[scale_x, 0, -scale_x * (left + right) / 2], [0, scale_y, -scale_y * (top + bottom) / 2], [0, 0, 1]]
    )
    tilt = random_tilt(rng, width, height, difficulty)
    bend = rng.sign() * rng.uniform(0.3, 1.4) * difficulty if rng.chance(0.2 * difficulty) else 0.0
    radius = width / bend if abs(bend) > 0.1 and width > 1.5 * height else 0.0

    along = np.linspace(-width / 2, width / 2, 9 if radius else 2)
    edges = np.stack([np.tile(along, 2), np.repeat((-height / 2, height / 2), len(along))])  # [2, points]
    if radius:
        edges = bent(edges, radius)
    x, y = project(tilt, edges)
    em = scale_y * word.em
    margins = _margins(rng, min(max(height, 0.4 * em), em), word.neighbours, difficulty)
    x0, y0 = x.min() - margins[0], y.min() - margins[1]
    size = (max(6, math.ceil(x.max() + margins[2] - x0)), max(6, math.ceil(y.max() + margins[3] - y0)))
    crop = np.array([[1, 0, -x0], [0, 1, -y0], [0, 0, 1]]) @ tilt
    if radius:
        layers = warp_bent(word.layers, flat, radius, crop, size)
    else:
        layers = cv2.warpPerspective(word.layers, crop @ flat, size, flags=cv2.INTER_LINEAR)
    return layers, em


def random_tilt(rng: RandomStream, width: float, height: float, difficulty: float) -> np.ndarray:
    """Slant, rotation and perspective around the centre, as a homography [3, 3]."""
    limit = 30 if rng.chance(0.15) else 10
    angle = math.radians(rng.uniform(-limit, limit) * difficulty)
    slant = rng.uniform(-0.35, 0.35) * difficulty if rng.chance(0.3) else 0.0
    cos, sin = math.cos(angle), math.sin(angle)
    rotation = np.array([[cos, -sin, 0], [sin, cos, 0], [0, 0, 1]])
    matrix = rotation @ np.array([[1, slant, 0], [0, 1, 0], [0, 0, 1]])
    if rng.chance(0.6):
        towards_x = rng.uniform(-0.5, 0.5) * difficulty / max(width, height)
        towards_y = rng.uniform(-0.25, 0.25) * difficulty / max(width, height)
        matrix = np.array([[1, 0, 0], [0, 1, 0], [towards_x, towards_y, 1]]) @ matrix
    return matrix


def _margins(rng: RandomStream, height: float, neighbours: bool, difficulty: float) -> list[float]:
    """Pixels from the word to the left, top, right and bottom of the crop; slightly negative if difficult."""
    tight = 0.02 - 0.08 * max(0.0, difficulty - 0.5)
    loose = rng.uniform(0.1, 0.15 + (0.25 if neighbours else 0.35) * difficulty)
    return [height * rng.uniform(tight, loose) + 1 for _ in range(4)]


def project(matrix: np.ndarray, points: np.ndarray) -> np.ndarray:
    """`points` [2, n] mapped by the homography `matrix` [3, 3]."""
    x, y, z = matrix @ np.vstack([points, np.ones(points.shape[1])])
    return np.stack([x / z, y / z])


def bent(points: np.ndarray, radius: float) -> np.ndarray:
    """Points [2, n] around the centre, with the line y = 0 bent to a circle whose centre is (0, radius)."""
    x, y = points
    return np.stack([(radius - y) * np.sin(x / radius), radius - (radius - y) * np.cos(x / radius)])


def warp_bent(
    layers: np.ndarray, flat: np.ndarray, radius: float, crop: np.ndarray, size: tuple[int, int]
) -> np.ndarray:
    """Warps layers by `bent`; each pixel of the crop is looked up by the inverse.

    Args:
        layers: uint8 [h, w, c].
        flat: maps pixels of `layers` to the plane that is bent, [3, 3].
        radius: of the bend, in that plane; its sign says which way.
        crop: maps the bent plane to pixels of the crop, [3, 3].
        size: width and height of the crop.

    Returns:
        uint8 [height, width, c].
    """
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
