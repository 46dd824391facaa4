"""Materials of walls, floors and objects of a scene: grey tiles that a palette colours."""

import functools

import cv2
import numpy as np

from tcm_jax.render.random_stream import RandomStream
from tcm_jax.render.scenery import TEXTURES, colour, fractal_noise, surface

TILE = 256  # rows and columns of a tile
_VARIANTS = 4


def tile(rng: RandomStream, kind: str = "") -> np.ndarray:
    """A grey tile of a kind of `KINDS` (any if `kind` is ""), uint8 [TILE, TILE]."""
    return _tile(kind or rng.pick(tuple(KINDS)), rng.below(_VARIANTS))


def muted_colour(rng: RandomStream) -> np.ndarray:
    """A random colour of walls, floors and objects, RGB float [3] in 0 .. 255: mostly near grey, sometimes of paint."""
    if rng.chance(0.25):
        return colour(rng) * rng.uniform(0.5, 1)
    value, warm, green = rng.uniform(12, 245), rng.uniform(-0.12, 0.22), rng.uniform(-0.06, 0.06)
    return np.array([value * (1 + warm), value * (1 + green), value * (1 - warm)])


def cover(rng: RandomStream, grey: np.ndarray, base: np.ndarray, contrast: float, colours: int = 2) -> np.ndarray:
    """Colours `grey`, uint8 [h, w], by a palette around `base` (RGB); returns uint8 [h, w, 3].

    Args:
        contrast: 0 .. 1, how far the palette's ends are from `base`.
        colours: of the palette: 2 for shades of `base`, more for patchwork.
    """
    if colours == 2:
        tint = np.array([rng.uniform(0.8, 1.2) for _ in range(3)], np.float32)
        ends = np.stack([base * (1 - contrast) * tint, base + (255 - base) * contrast * 0.6])
    else:
        ends = np.stack([base + (muted_colour(rng) - base) * contrast for _ in range(colours)])
    steps = np.linspace(0, 1, len(ends))
    ramp = np.stack([np.interp(np.arange(256) / 255, steps, ends[:, c]) for c in range(3)], 1)
    palette = np.clip(ramp, 0, 255).astype(np.uint8)[None]
    return cv2.LUT(cv2.merge((grey, grey, grey)), palette)


@functools.cache
def _tile(kind: str, variant: int) -> np.ndarray:
    rng = np.random.default_rng((15485863, sorted(KINDS).index(kind), variant))
    image = KINDS[kind](rng)
    low, high = float(image.min()), float(image.max())
    return ((image - low) * (255 / max(high - low, 1e-6))).astype(np.uint8)


def _blank(value: float) -> np.ndarray:
    return np.full((TILE, TILE), value, np.float32)


def _stain(rng: np.random.Generator, strength: float) -> np.ndarray:
    return (fractal_noise(rng, TILE, TILE) - 0.5) * np.float32(strength)


def _surface(rng: np.random.Generator) -> np.ndarray:
    sheet = surface(int(rng.integers(TEXTURES)))
    return sheet[:TILE, :TILE]


def _cells(
    rng: np.random.Generator, columns: tuple[int, int], rows: tuple[int, int], joint: int, shift: bool
) -> np.ndarray:
    """A grid of cells of random shades with dark joints, its rows shifted or not."""
    image = _blank(0.0)
    across, down = int(rng.integers(*columns)), int(rng.integers(*rows))
    width, height = TILE / across, TILE / down
    spread = rng.uniform(0.1, 1)
    for row in range(down):
        offset = (row % 2) * width / 2 if shift else 0.0
        for column in range(-1, across + 1):
            x, y = column * width + offset, row * height
            shade = 1 - spread * rng.random()
            corners = (round(x), round(y)), (round(x + width) - 1 - joint, round(y + height) - 1 - joint)
            cv2.rectangle(image, *corners, float(shade), -1)
    return image + _stain(rng, 0.3)


def _bricks(rng: np.random.Generator) -> np.ndarray:
    return _cells(rng, (5, 14), (12, 30), int(rng.integers(0, 3)), True)


def _tiles(rng: np.random.Generator) -> np.ndarray:
    side = int(rng.integers(3, 14))
    return _cells(rng, (side, side + 1), (side, side + 1), int(rng.integers(0, 3)), False)


def _windows(rng: np.random.Generator) -> np.ndarray:
    """A facade: panes in frames, some lit, with sills and bars."""
    image = _blank(rng.uniform(0.4, 0.8)) + _stain(rng, 0.1)
    across, down = int(rng.integers(3, 9)), int(rng.integers(3, 9))
    width, height = TILE / across, TILE / down
    mx, my = rng.uniform(0.05, 0.3) * width, rng.uniform(0.05, 0.3) * height
    bars = int(rng.integers(0, 3))
    for row in range(down):
        for column in range(across):
            x0, y0 = round(column * width + mx), round(row * height + my)
            x1, y1 = round((column + 1) * width - mx), round((row + 1) * height - my)
            pane = rng.uniform(0, 0.35) if rng.random() < 0.8 else rng.uniform(0.6, 1)
            cv2.rectangle(image, (x0, y0), (x1, y1), float(pane), -1)
            cv2.rectangle(image, (x0, y0), (x1, y1), 0.9, 1)
            for bar in range(1, bars + 1):
                x = x0 + (x1 - x0) * bar // (bars + 1)
                cv2.line(image, (x, y0), (x, y1), 0.8, 1)
            cv2.line(image, (x0 - 2, y1 + 2), (x1 + 2, y1 + 2), 1.0, 2)
    return image


def _slats(rng: np.random.Generator) -> np.ndarray:
    """Parallel bars: shutters, siding, railings, corrugated sheet."""
    image, x = _blank(0.1), 0.0
    regular, step = rng.random() < 0.7, rng.uniform(4, 26)
    gap = rng.uniform(0.1, 0.7)
    while x < TILE:
        width = step if regular else step * rng.uniform(0.3, 2)
        shade = 0.8 if regular else rng.uniform(0.3, 1)
        cv2.rectangle(image, (round(x), 0), (round(x + width * (1 - gap)), TILE), float(shade), -1)
        x += width
    if rng.random() < 0.5:
        image = cv2.GaussianBlur(image, (0, 0), rng.uniform(0.5, 2.5))
    image = image + _stain(rng, 0.25)
    return image if rng.random() < 0.5 else np.ascontiguousarray(image.T)


def _shelf(rng: np.random.Generator) -> np.ndarray:
    """Shelves of upright objects side by side: books, bottles, boxes, each with some bands and labels."""
    image, y = _blank(0.0), 0
    height = int(rng.integers(24, 90))
    while y < TILE:
        x = 0
        while x < TILE:
            width = int(rng.integers(4, 26))
            top = y + int(rng.integers(2, max(3, height // 3)))
            shade = float(rng.uniform(0.1, 1))
            cv2.rectangle(image, (x, top), (x + width - 2, y + height - 4), shade, -1)
            for _ in range(int(rng.integers(0, 4))):
                band = int(rng.integers(top, y + height - 3))
                cv2.rectangle(
                    image, (x + 1, band), (x + width - 3, band + int(rng.integers(1, 8))), float(rng.random()), -1
                )
            x += width
        cv2.rectangle(image, (0, y + height - 4), (TILE, y + height), float(rng.uniform(0.5, 1)), -1)
        y += height
    return image


def _leaves(rng: np.random.Generator) -> np.ndarray:
    """Foliage: many small leaves, darker behind, brighter in front."""
    image = _blank(0.05) + _stain(rng, 0.2)
    size = rng.uniform(3, 12)
    for depth in np.linspace(0.1, 1, 900):
        centre = rng.integers(0, TILE, 2).tolist()
        axes = (max(1, round(size * rng.uniform(0.6, 1.3))), max(1, round(size * rng.uniform(0.15, 0.5))))
        shade = float(depth * rng.uniform(0.5, 1))
        cv2.ellipse(image, centre, axes, float(rng.uniform(0, 180)), 0, 360, shade, -1)
    return image


def _mesh(rng: np.random.Generator) -> np.ndarray:
    """A lattice of wires or a sheet with holes."""
    image = _blank(0.0)
    step = int(rng.integers(6, 22))
    if rng.random() < 0.5:
        for k in range(-TILE, 2 * TILE, step):
            cv2.line(image, (k, 0), (k + TILE, TILE), 1.0, 1)
            cv2.line(image, (k, 0), (k - TILE, TILE), 1.0, 1)
    else:
        for y in range(0, TILE, step):
            for x in range((y // step % 2) * step // 2, TILE, step):
                cv2.circle(image, (x, y), max(1, step // 3), 1.0, -1)
    return image + _stain(rng, 0.3)


def _things(rng: np.random.Generator) -> np.ndarray:
    """Boxes, discs and bars in a heap."""
    image = _blank(0.3) + _stain(rng, 0.5)
    for _ in range(120):
        centre, size = rng.integers(0, TILE, 2).tolist(), rng.integers(4, 60, 2).tolist()
        shade, angle = float(rng.random()), float(rng.choice((0, 0, rng.uniform(0, 90))))
        if rng.random() < 0.3:
            cv2.ellipse(image, centre, [max(1, s // 3) for s in size], angle, 0, 360, shade, -1)
        else:
            corners = cv2.boxPoints((centre, size, angle)).astype(np.int32)
            cv2.fillPoly(image, [corners], shade)
            if rng.random() < 0.5:
                cv2.polylines(image, [corners], True, float(rng.random()), 1)
    return image


KINDS = {
    "surface": _surface,
    "bricks": _bricks,
    "tiles": _tiles,
    "windows": _windows,
    "slats": _slats,
    "shelf": _shelf,
    "leaves": _leaves,
    "mesh": _mesh,
    "things": _things,
}
