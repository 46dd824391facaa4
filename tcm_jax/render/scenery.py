"""Colours and backgrounds of synthetic words, and their composition with the masks of a word."""

import colorsys
import functools

import cv2
import numpy as np

from tcm_jax.render.random_stream import RandomStream

LUMA = np.array([0.299, 0.587, 0.114], np.float32)
# Of paint: red, wood, yellow, green, blue.
_HUES = (0.0, 0.0, 0.05, 0.09, 0.13, 0.16, 0.35, 0.42, 0.55, 0.6, 0.63)
TEXTURES = 48
_TEXTURE_SIZE = (256, 512)


def paint(rng: RandomStream, layers: np.ndarray, decoration: str, difficulty: float) -> np.ndarray:
    """Paints a word on a background; returns RGB float32 [h, w, 3], about 0 .. 255.

    Args:
        layers: coverage, uint8 [h, w, 2]: the letters, and the decoration that lies under them.
        decoration: see `TypesetWord`.
        difficulty: 0 .. 1.
    """
    h, w = layers.shape[:2]
    ground, ink = colours(rng, difficulty)
    contrast = abs(float((ink - ground) @ LUMA))
    under = under_colour(rng, ground, ink)
    if decoration == "outline" and rng.chance(0.3):  # hollow letters: the outline is what is seen
        ink, under = ground + (under - ground) * 0.1, ink
    image = background(rng, h, w, ground, contrast, difficulty)
    coverage = layers.astype(np.float32) * (1 / 255)
    if decoration != "none":
        opacity = rng.uniform(0.5, 1.0) if decoration in ("shadow", "glow") else 1.0
        image += (under - image) * (coverage[..., 1:] * opacity)
    if rng.chance(0.35 * difficulty):
        ink = ink + (_texture(rng, h, w)[..., None] - 0.5) * (0.5 * contrast)
    opacity = rng.uniform(0.7, 1.0) if rng.chance(0.2 * difficulty) else 1.0
    image += (ink - image) * (coverage[..., :1] * opacity)
    return image


def colour(rng: RandomStream) -> np.ndarray:
    """A random colour, RGB float32 [3] in 0 .. 255: grey, bright or pale."""
    roll = rng.random()
    if roll < 0.35:
        return np.full(3, rng.uniform(0, 255), np.float32)
    low, high = (0.4, 1.0) if roll < 0.75 else (0.05, 0.4)
    hue = rng.random() if rng.chance(0.2) else rng.pick(_HUES) + rng.uniform(-0.03, 0.03)
    hsv = (hue % 1, rng.uniform(low, high), rng.uniform(0.2, 1.0))
    return np.array(colorsys.hsv_to_rgb(*hsv), np.float32) * 255


def colours(rng: RandomStream, difficulty: float) -> tuple[np.ndarray, np.ndarray]:
    """A background and a text colour, RGB float32 [3] in 0 .. 255, whose luma differs enough for legible text."""
    min_contrast = rng.uniform(110 - 70 * difficulty, 130)
    ground = colour(rng)
    for _ in range(6):
        ink = colour(rng)
        if abs(float((ink - ground) @ LUMA)) >= min_contrast:
            return ground, ink
    return ground, np.full(3, 0 if float(ground @ LUMA) > 127 else 255, np.float32)


def under_colour(rng: RandomStream, ground: np.ndarray, ink: np.ndarray) -> np.ndarray:
    """The colour of an outline or a shadow, RGB [3] in 0 .. 255: far from the ink."""
    if rng.chance(0.6):
        return np.full(3, 20 if float(ink @ LUMA) > 110 else 235, np.float32)
    other = colour(rng)
    return other if abs(float((other - ink) @ LUMA)) > 60 else ground * 0.4


def background(rng: RandomStream, h: int, w: int, ground: np.ndarray, contrast: float, difficulty: float) -> np.ndarray:
    """A background: a plain colour, a gradient or a textured surface.

    Args:
        h, w: height and width in pixels.
        ground: its mean colour, RGB [3] in 0 .. 255.
        contrast: difference of luma between text and `ground`, which limits the texture's strength.
        difficulty: 0 (plain) .. 1.

    Returns:
        float32 RGB [h, w, 3], about 0 .. 255.
    """
    image = np.empty((h, w, 3), np.float32)
    image[:] = ground
    roll = rng.random() / max(difficulty, 1e-6)
    strength = contrast * rng.uniform(0.1, 0.25 + 0.35 * difficulty)
    if roll < 0.25:  # a gradient
        ends = np.array([[[-1], [rng.uniform(-1, 1)]], [[rng.uniform(-1, 1)], [1]]], np.float32)
        slope = cv2.resize(ends, (w, h), interpolation=cv2.INTER_LINEAR)
        image += slope[..., None] * (_tint(rng) * 0.5 * strength)
    elif roll < 0.75:  # a surface
        image += (_texture(rng, h, w)[..., None] - 0.5) * (_tint(rng) * strength)
    elif roll < 0.9:  # two surfaces of different colour
        mask = cv2.GaussianBlur(_texture(rng, h, w), (0, 0), 1.5)[..., None]
        image += mask * (_tint(rng) * strength * rng.sign())
    if rng.chance(0.2 * difficulty):
        _edge(rng, image)
    return image


def _tint(rng: RandomStream) -> np.ndarray:
    """A colour direction of about unit length, mostly grey."""
    return np.array([rng.uniform(0.5, 1.3), rng.uniform(0.5, 1.3), rng.uniform(0.5, 1.3)], np.float32)


def _edge(rng: RandomStream, image: np.ndarray) -> None:
    """The border of the board that the word is on, near one side of the crop."""
    h, w = image.shape[:2]
    depth, slope = h * rng.uniform(0.02, 0.14), h * rng.uniform(-0.08, 0.08)
    side = rng.below(4)
    if side < 2:  # top, bottom
        corners = [(0, depth + slope), (w, depth - slope), (w, -1), (0, -1)]
        corners = corners if side else [(x, h - y) for x, y in corners]
    else:
        corners = [(depth + slope, 0), (depth - slope, h), (-1, h), (-1, 0)]
        corners = corners if side == 2 else [(w - x, y) for x, y in corners]
    cv2.fillPoly(image, [np.array(corners).round().astype(np.int32)], colour(rng).tolist(), cv2.LINE_AA)


def _texture(rng: RandomStream, h: int, w: int) -> np.ndarray:
    """A piece of one of the textures at some zoom, float32 [h, w] in 0 .. 1."""
    tile = surface(rng.below(TEXTURES))
    zoom = rng.uniform(0.4, 1.6)
    rows, columns = min(tile.shape[0], max(2, int(h * zoom))), min(tile.shape[1], max(2, int(w * zoom)))
    top, left = rng.below(tile.shape[0] - rows + 1), rng.below(tile.shape[1] - columns + 1)
    piece = tile[top : top + rows, left : left + columns]
    piece = piece[:: rng.sign(), :: rng.sign()]
    return cv2.resize(piece, (w, h), interpolation=cv2.INTER_LINEAR)


@functools.cache
def surface(index: int) -> np.ndarray:
    """Texture number `index`, always the same, float32 `_TEXTURE_SIZE` in 0 .. 1."""
    rng = np.random.default_rng((7919, index))
    h, w = _TEXTURE_SIZE
    clouds = fractal_noise(rng, h, w)
    match index % 6:
        case 0:
            image = clouds
        case 1:  # rough plaster, asphalt
            image = 0.4 * clouds + cv2.GaussianBlur(rng.random((h, w), np.float32), (0, 0), rng.uniform(0.6, 1.5))
        case 2:  # grain of wood, brushed metal
            y, x = np.mgrid[0:h, 0:w].astype(np.float32)
            period, angle = rng.uniform(5, 25), rng.uniform(0, np.pi)
            image = np.sin((x * np.cos(angle) + y * np.sin(angle)) * 2 * np.pi / period + rng.uniform(0, 12) * clouds)
        case 3:  # bricks, tiles
            image = 0.5 * clouds + rng.uniform(0.3, 0.6)
            rows, columns = int(rng.integers(14, 50)), int(rng.integers(25, 100))
            for row, y in enumerate(range(0, h, rows)):
                cv2.line(image, (0, y), (w, y), 0.0, int(rng.integers(1, 4)))
                for x in range(row % 2 * columns // 2, w, columns):
                    cv2.line(image, (x, y), (x, y + rows), 0.0, int(rng.integers(1, 3)))
        case 4:  # objects, out of focus
            image = 0.3 * clouds
            for _ in range(40):
                centre, size = rng.integers(0, (w, h)), rng.integers(5, 70, 2)
                corners = cv2.boxPoints((centre.tolist(), size.tolist(), rng.uniform(0, 90))).astype(np.int32)
                cv2.fillPoly(image, [corners], float(rng.random()))
            image = cv2.GaussianBlur(image, (0, 0), rng.uniform(0.7, 4))
        case _:  # leaves, pebbles
            image = 0.3 * clouds
            for _ in range(600):
                centre, size = rng.integers(0, (w, h)).tolist(), rng.integers(2, 12, 2).tolist()
                cv2.ellipse(image, centre, size, rng.uniform(0, 180), 0, 360, float(rng.random()), -1, cv2.LINE_AA)
    return _unit(image)


def _unit(image: np.ndarray) -> np.ndarray:
    """`image` stretched to 0 .. 1, float32."""
    return ((image - image.min()) / np.ptp(image)).astype(np.float32)


def fractal_noise(rng: np.random.Generator, h: int, w: int) -> np.ndarray:
    """Noise at several scales, float32 [h, w] in 0 .. 1."""
    image: np.ndarray = np.zeros((h, w), np.float32)
    for cells in (2, 4, 8, 16, 32, 64):
        noise = rng.random((cells, 2 * cells), np.float32)
        layer: np.ndarray = cv2.resize(noise, (w, h), interpolation=cv2.INTER_CUBIC)
        image = image + layer / np.float32(cells ** rng.uniform(0.5, 1.0))
    return _unit(image)
