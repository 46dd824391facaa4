"""Backgrounds of synthetic scenes, without text: walls, streets, rooms and heaps of objects."""

import cv2
import numpy as np

from tcm_jax.render.materials import TILE, cover, muted_colour, tile
from tcm_jax.render.random_stream import RandomStream
from tcm_jax.render.scenery import colour

_KINDS = ("surface",) * 3 + ("bricks", "tiles", "windows", "slats", "shelf", "things", "mesh", "leaves")
_MANY_COLOURS = {"shelf", "things", "windows", "tiles"}


def backdrop(rng: RandomStream, size: tuple[int, int], view: np.ndarray) -> np.ndarray:
    """A random background, uint8 RGB [h, w, 3].

    Args:
        size: height and width in pixels.
        view: homography of its main wall, pixels -> pixels, [3, 3].
    """
    roll = rng.random()
    image = np.empty((*size, 3), np.uint8)
    image[:] = np.clip(muted_colour(rng), 0, 255).astype(np.uint8)
    if roll < 0.35:
        _wall(rng, image, view)
    elif roll < 0.6:
        _room(rng, image)
    elif roll < 0.85:
        _street(rng, image, view)
    else:
        _heap(rng, image)
    return image


def _fill(
    rng: RandomStream, image: np.ndarray, corners: np.ndarray, repeats: tuple[float, float], kind: str = ""
) -> None:
    """Covers the quadrilateral `corners` [4, 2] (clockwise from top left) with a material, repeated (across, down)."""
    kind = kind or rng.pick(_KINDS)
    base = muted_colour(rng)
    if kind == "leaves":
        base = np.array([rng.uniform(40, 110), rng.uniform(80, 160), rng.uniform(20, 70)])
    many = rng.between(3, 8) if kind in _MANY_COLOURS and rng.chance(0.7) else 2
    contrast = (
        rng.uniform(0.3, 0.95) if many > 2 else rng.uniform(0.03, 0.15) if rng.chance(0.4) else rng.uniform(0.1, 0.6)
    )
    sheet = cover(rng, tile(rng, kind), base, contrast, many)
    across, down = (max(1, round(TILE * r)) for r in repeats)
    flat = np.array([[0, 0], [across, 0], [across, down], [0, down]], np.float32)
    matrix = cv2.getPerspectiveTransform(flat, corners.astype(np.float32))
    h, w = image.shape[:2]
    sheet, matrix = _coarser(sheet, matrix, np.clip(corners, 0, (w, h)).mean(0))
    x0, y0 = np.clip(np.floor(corners.min(0)).astype(int), 0, (w, h))
    x1, y1 = np.clip(np.ceil(corners.max(0)).astype(int) + 1, 0, (w, h))
    if x1 <= x0 or y1 <= y0:
        return
    border = cv2.BORDER_REFLECT if kind in ("surface", "leaves", "things") else cv2.BORDER_WRAP  # without seams
    shift = np.array([[1, 0, -x0], [0, 1, -y0], [0, 0, 1.0]])
    patch = cv2.warpPerspective(
        sheet, shift @ matrix, (int(x1 - x0), int(y1 - y0)), flags=cv2.INTER_LINEAR, borderMode=border
    )
    if rng.chance(0.6):  # light falls unevenly
        ends = np.array([[rng.uniform(0.4, 1.3), rng.uniform(0.4, 1.3)] for _ in range(2)], np.float32)
        light = cv2.resize(ends, patch.shape[1::-1], interpolation=cv2.INTER_LINEAR)
        patch = cv2.multiply(patch, cv2.merge((light, light, light)), dtype=cv2.CV_8U)
    mask = np.zeros(patch.shape[:2], np.uint8)
    cv2.fillPoly(mask, [np.round(corners - (x0, y0)).astype(np.int32)], 255)
    cv2.copyTo(patch, mask, image[y0:y1, x0:x1])


def _coarser(sheet: np.ndarray, matrix: np.ndarray, point: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """`sheet` downsampled to its resolution in the scene at `point`, so that a warp skips no pixels; its matrix."""
    inverse = np.linalg.inv(matrix)
    near = _warp(inverse, point + np.array([[0, 0], [1, 0], [0, 1]]))
    step = float(np.sqrt(abs(np.linalg.det(near[1:] - near[0]))))  # tile pixels for a pixel of the scene
    side = int(np.clip(TILE / max(step, 1e-3), 2, TILE))
    if side > 0.8 * TILE:
        return sheet, matrix
    zoom = np.diag([TILE / side, TILE / side, 1.0])
    return cv2.resize(sheet, (side, side), interpolation=cv2.INTER_AREA), matrix @ zoom


def _box(x0: float, y0: float, x1: float, y1: float) -> np.ndarray:
    return np.array([[x0, y0], [x1, y0], [x1, y1], [x0, y1]], np.float64)


def _warp(view: np.ndarray, corners: np.ndarray) -> np.ndarray:
    x, y, z = view @ np.vstack([corners.T, np.ones(len(corners))])
    return np.stack([x / z, y / z], 1)


def _repeats(rng: RandomStream, width: float, height: float) -> tuple[float, float]:
    zoom = rng.uniform(0.7, 2.0)
    return width / TILE * zoom, height / TILE * zoom


def _wall(rng: RandomStream, image: np.ndarray, view: np.ndarray) -> None:
    """A wall that fills the image, with doors, windows and parts of other materials."""
    h, w = image.shape[:2]
    _fill(rng, image, _warp(view, _box(-w, -h, 2 * w, 2 * h)), _repeats(rng, 3 * w, 3 * h))
    for _ in range(rng.between(0, 5)):
        x, y = rng.uniform(-0.2, 1) * w, rng.uniform(-0.2, 1) * h
        width, height = rng.uniform(0.1, 0.6) * w, rng.uniform(0.1, 0.6) * h
        _fill(rng, image, _warp(view, _box(x, y, x + width, y + height)), _repeats(rng, width, height))


def _room(rng: RandomStream, image: np.ndarray) -> None:
    """Floor, ceiling and side walls around a back wall."""
    h, w = image.shape[:2]
    x0, x1 = rng.uniform(-0.3, 0.45) * w, rng.uniform(0.55, 1.3) * w
    y0, y1 = rng.uniform(-0.2, 0.4) * h, rng.uniform(0.55, 1.1) * h
    cx, cy = (x0 + x1) / 2, (y0 + y1) / 2
    far = max(cx / (cx - x0), (w - cx) / (x1 - cx), cy / (cy - y0), (h - cy) / (y1 - cy)) * rng.uniform(1.05, 2)
    inner = _box(x0, y0, x1, y1)
    outer = (inner - (cx, cy)) * far + (cx, cy)
    _fill(rng, image, inner, _repeats(rng, x1 - x0, y1 - y0))
    for first, second in ((0, 1), (1, 2), (2, 3), (3, 0)):
        corners = np.array([outer[first], outer[second], inner[second], inner[first]])
        _fill(rng, image, corners, (rng.uniform(1, 5), rng.uniform(1, 4)))


def _street(rng: RandomStream, image: np.ndarray, view: np.ndarray) -> None:
    """Sky, houses and trees, ground."""
    h, w = image.shape[:2]
    top, bottom = colour(rng), colour(rng)
    if rng.chance(0.7):
        top, bottom = np.array([120, 160, 220.0]), np.array([215, 225, 235.0])
        dim = rng.uniform(0.2, 1.1)
        top, bottom = np.clip(top * dim, 0, 255), np.clip(bottom * dim, 0, 255)
    ramp = np.linspace(0, 1, h)[:, None, None]
    image[:] = (top + (bottom - top) * ramp).astype(np.uint8)
    x = -0.1 * w
    horizon = rng.uniform(0.5, 1.0) * h
    while x < w:
        width = rng.uniform(0.15, 0.6) * w
        y = rng.uniform(-0.3, 0.6) * h
        kind = rng.pick(("windows", "windows", "bricks", "surface", "slats", "tiles", "leaves"))
        corners = _warp(view, _box(x, y, x + width, horizon))
        _fill(rng, image, corners, _repeats(rng, width, horizon - y), kind)
        x += width * rng.uniform(0.8, 1.1)
    if horizon < h:
        corners = np.array([[0, horizon], [w, horizon], [2 * w, 1.2 * h], [-w, 1.2 * h]])
        _fill(rng, image, corners, (rng.uniform(2, 6), rng.uniform(1, 3)), rng.pick(("surface", "tiles", "bricks")))


def _heap(rng: RandomStream, image: np.ndarray) -> None:
    """Large overlapping quadrilaterals of all materials."""
    h, w = image.shape[:2]
    _fill(rng, image, _box(0, 0, w, h), _repeats(rng, w, h))
    for _ in range(rng.between(2, 10)):
        centre = np.array([rng.uniform(0, w), rng.uniform(0, h)])
        width, height = rng.uniform(0.1, 0.7) * w, rng.uniform(0.1, 0.7) * h
        corners = _box(-width / 2, -height / 2, width / 2, height / 2)
        corners += np.array([[rng.uniform(-0.15, 0.15) * width, rng.uniform(-0.15, 0.15) * height] for _ in range(4)])
        _fill(rng, image, corners + centre, _repeats(rng, width, height))
