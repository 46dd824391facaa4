"""Marks that are no text: arrows, stars, pictograms, bar codes, scribbles, rows of dots, as coverage masks."""

import math
from collections.abc import Callable

import cv2
import numpy as np

from tcm_jax.render.random_stream import RandomStream

_FINE = 4  # bits of a subpixel in cv2's drawing


def emblem(rng: RandomStream, side: int) -> np.ndarray:
    """The coverage of a compact mark, uint8 [side, side]."""
    mask = np.zeros((side, side), np.uint8)
    rng.pick((_arrow, _star, _rings, _person, _blob, _grid, _strokes, _heart, _slices))(rng, mask)
    return mask


def band(rng: RandomStream, height: int) -> np.ndarray:
    """The coverage of a long mark about as large as a word, uint8 [height, w]."""
    mask = np.zeros((height, round(height * rng.uniform(1.5, 7))), np.uint8)
    rng.pick((_bars, _row, _row, _wave, _dashes))(rng, mask)
    return mask


def _polygon(mask: np.ndarray, points: list[tuple[float, float]], shade: int = 255) -> None:
    """Fills a polygon given in units of the mask's side."""
    corners = np.round(np.array(points) * (len(mask) - 1) * (1 << _FINE)).astype(np.int32)
    cv2.fillPoly(mask, [corners], shade, cv2.LINE_AA, _FINE)


def _around(rng: RandomStream, count: int, radius: Callable[[int], float], start: float) -> list[tuple[float, float]]:
    """`count` points around the middle; radius(k) is that of point k."""
    angles = [start + 2 * math.pi * k / count for k in range(count)]
    return [(0.5 + radius(k) * math.cos(a), 0.5 + radius(k) * math.sin(a)) for k, a in enumerate(angles)]


def _arrow(rng: RandomStream, mask: np.ndarray) -> None:
    neck, shaft = rng.uniform(0.35, 0.65), rng.uniform(0.08, 0.2)
    points = [(0.03, 0.5 - shaft), (neck, 0.5 - shaft), (neck, 0.1), (0.97, 0.5)]
    points += [(x, 1 - y) for x, y in reversed(points[:3])]
    for _ in range(rng.below(4)):
        points = [(1 - y, x) for x, y in points]
    _polygon(mask, points)


def _star(rng: RandomStream, mask: np.ndarray) -> None:
    tips, inner = rng.between(3, 12), rng.uniform(0.15, 0.4)
    _polygon(mask, _around(rng, 2 * tips, lambda k: inner if k % 2 else 0.49, rng.uniform(0, 6)))


def _rings(rng: RandomStream, mask: np.ndarray) -> None:
    """A disc, rings, or a circle with a bar, as on traffic signs."""
    side = len(mask)
    centre, width = (side // 2, side // 2), max(1, round(side * rng.uniform(0.04, 0.14)))
    radius = side // 2 - width
    cv2.circle(mask, centre, max(1, radius), 255, width, cv2.LINE_AA)
    for _ in range(rng.below(3)):
        radius = int(radius * rng.uniform(0.4, 0.9))
        cv2.circle(mask, centre, max(1, radius), 255, rng.pick((width, -1)), cv2.LINE_AA)
    if rng.chance(0.4):
        angle, reach = rng.uniform(0, math.pi), side / 2 - width
        dx, dy = round(reach * math.cos(angle)), round(reach * math.sin(angle))
        cv2.line(mask, (centre[0] - dx, centre[1] - dy), (centre[0] + dx, centre[1] + dy), 255, width, cv2.LINE_AA)


def _person(rng: RandomStream, mask: np.ndarray) -> None:
    side = len(mask)
    cv2.circle(mask, (side // 2, round(0.14 * side)), max(1, round(0.11 * side)), 255, -1, cv2.LINE_AA)
    hip, foot = rng.uniform(0.1, 0.18), rng.uniform(0.08, 0.24)
    _polygon(mask, [(0.3, 0.28), (0.7, 0.28), (0.5 + hip, 0.62), (0.5 - hip, 0.62)])
    for way in (-1, 1):
        _polygon(mask, [(0.5, 0.6), (0.5 + way * hip, 0.6), (0.5 + way * foot, 0.98), (0.5 + way * foot * 0.4, 0.98)])
        hand = rng.uniform(0.15, 0.6)
        _polygon(mask, [(0.5 + way * 0.2, 0.28), (0.5 + way * 0.12, 0.36), (0.5 + way * 0.36, hand)])


def _blob(rng: RandomStream, mask: np.ndarray) -> None:
    """A leaf, splash or rock: a smooth random outline."""
    waves = [(rng.between(2, 6), rng.uniform(0, 6.3), rng.uniform(0, 0.12)) for _ in range(3)]
    points = _around(
        rng, 40, lambda k: 0.33 + sum(s * math.sin(n * k * 2 * math.pi / 40 + p) for n, p, s in waves), 0.0
    )
    _polygon(mask, points)


def _grid(rng: RandomStream, mask: np.ndarray) -> None:
    """Random squares, as of a QR code, or a regular lattice."""
    side, cells = len(mask), rng.between(3, 14)
    fill = rng.pick((0.5, 0.5, 1.0))
    step = side / cells
    for row in range(cells):
        for column in range(cells):
            if rng.chance(fill):
                corner = (round(column * step), round(row * step))
                end = (round((column + 1) * step) - 1 - (fill == 1.0), round((row + 1) * step) - 1 - (fill == 1.0))
                cv2.rectangle(mask, corner, end, 255, -1)


def _strokes(rng: RandomStream, mask: np.ndarray) -> None:
    """A few curved brush strokes."""
    side, t = len(mask), np.linspace(0, 1, 14)[:, None]
    for _ in range(rng.between(1, 4)):
        p = np.array([[rng.random(), rng.random()] for _ in range(4)]) * side
        curve = (1 - t) ** 3 * p[0] + 3 * (1 - t) ** 2 * t * p[1] + 3 * (1 - t) * t**2 * p[2] + t**3 * p[3]
        width = max(1, round(side * rng.uniform(0.03, 0.15)))
        cv2.polylines(mask, [np.round(curve).astype(np.int32)], False, 255, width, cv2.LINE_AA)


def _heart(rng: RandomStream, mask: np.ndarray) -> None:
    t = np.linspace(0, 2 * math.pi, 40)
    x = 0.5 + 0.46 * np.sin(t) ** 3
    y = 0.45 - (0.38 * np.cos(t) - 0.15 * np.cos(2 * t) - 0.06 * np.cos(3 * t) - 0.03 * np.cos(4 * t))
    _polygon(mask, list(zip(x.tolist(), y.tolist(), strict=True)))


def _slices(rng: RandomStream, mask: np.ndarray) -> None:
    """A figure cut into parts, as in many company logos."""
    inner = rng.uniform(0.2, 0.45)
    _polygon(mask, _around(rng, rng.between(3, 30), lambda k: 0.49, rng.uniform(0, 6)))
    for _ in range(rng.between(1, 4)):
        angle, offset = rng.uniform(0, math.pi), rng.uniform(-inner, inner)
        nx, ny = math.cos(angle), math.sin(angle)
        cx, cy = 0.5 + offset * nx, 0.5 + offset * ny
        ends = [tuple(round(v * len(mask)) for v in (cx - s * ny, cy + s * nx)) for s in (-1, 1)]
        cv2.line(mask, ends[0], ends[1], 0, max(1, round(len(mask) * rng.uniform(0.03, 0.1))), cv2.LINE_AA)


def _bars(rng: RandomStream, mask: np.ndarray) -> None:
    """A bar code."""
    h, w = mask.shape
    x = 0
    while x < w:
        width = rng.between(1, max(2, h // 10))
        mask[:, x : x + width] = 255
        x += width + rng.between(1, max(2, h // 8))


def _row(rng: RandomStream, mask: np.ndarray) -> None:
    """The same mark over and over."""
    h, w = mask.shape
    side = max(4, round(h * rng.uniform(0.5, 1)))
    mark, step = emblem(rng, side), round(side * rng.uniform(0.8, 1.8))
    if rng.chance(0.5):  # narrower, as letters are
        mark = np.ascontiguousarray(mark[:, : max(2, side // 2)])
    top = (h - side) // 2
    for x in range(0, w - mark.shape[1], step):
        mask[top : top + side, x : x + mark.shape[1]] = mark


def _wave(rng: RandomStream, mask: np.ndarray) -> None:
    """A swash or a zigzag."""
    h, w = mask.shape
    width = max(1, round(h * rng.uniform(0.05, 0.25)))
    x = np.arange(0, w, max(2, h // 12))
    phase = x / h * rng.uniform(1, 9) + rng.uniform(0, 6)
    rise = np.sin(phase) if rng.chance(0.7) else 2 / math.pi * np.arcsin(np.sin(phase))
    y = h / 2 + (h / 2 - width) * rise * np.linspace(rng.random(), 1, len(x))
    cv2.polylines(mask, [np.round(np.stack([x, y], 1)).astype(np.int32)], False, 255, width, cv2.LINE_AA)


def _dashes(rng: RandomStream, mask: np.ndarray) -> None:
    """Rectangles of the same height: windows, keys, vents, road marks."""
    h, w = mask.shape
    slant, width = round(rng.uniform(-0.4, 0.4) * h), max(2, round(h * rng.uniform(0.1, 0.9)))
    step = width + max(1, round(h * rng.uniform(0.1, 0.6)))
    for x in range(abs(slant), w - width - abs(slant), step):
        corners = np.array([[x + slant, 0], [x + slant + width, 0], [x + width, h - 1], [x, h - 1]], np.int32)
        cv2.fillPoly(mask, [corners], 255, cv2.LINE_AA)
