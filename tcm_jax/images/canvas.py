"""Images for a detector at test time: the original's resize, and a small set of padded sizes, the canvases.

An accelerator compiles one program for each input shape. The original pads every image to multiples of 32, which
makes almost every image a shape of its own. Here images are padded further, to the nearest of a few dozen canvases.
"""

import functools
from typing import Literal, NamedTuple

import cv2
import numpy as np

STRIDE = 32  # of the coarsest feature map: sides of the network's input are multiples of it

# Longer side / shorter side of the canvases. Those of common cameras are met exactly, and steps between others are
# below 1.34; only panoramas, which are rare and have few pixels, have larger steps.
_RATIOS = (1, 5 / 4, 4 / 3, 3 / 2, 16 / 9, 2, 5 / 2, 3, 4, 6, 8, 12, 16, 24, 32, 48, 64, 96, 128)

Scale = tuple[int, int]  # maximum of the longer side and of the shorter side, in pixels, in any order
Canvases = Literal["few", "exact"]


class PaddedImage(NamedTuple):
    """An image, ready for the network.

    Attributes:
        canvas: uint8 [H, W, 3], the resized image in its upper left corner and zeros.
        size: height and width of the resized image.
        scale: resized width / width, resized height / height, float32 [2]; divides points (x, y).
    """

    canvas: np.ndarray
    size: tuple[int, int]
    scale: np.ndarray


def prepare(image: np.ndarray, scale: Scale, canvases: Canvases = "few") -> PaddedImage:
    """Resizes `image`, uint8 RGB [h, w, 3], to `scale` and pads it to a canvas, see `canvas_size`."""
    height, width = image.shape[:2]
    h, w = size = resized_size((height, width), scale)
    canvas = np.zeros((*canvas_size(size, scale, canvases), 3), np.uint8)
    canvas[:h, :w] = cv2.resize(image, (w, h), interpolation=cv2.INTER_LINEAR)
    return PaddedImage(canvas, size, np.array([w / width, h / height], np.float32))


def resized_size(size: tuple[int, int], scale: Scale) -> tuple[int, int]:
    """Height and width after the original's resize (mmcv.imrescale, mmdet's Resize with keep_ratio).

    The ratio of the sides is kept: the shorter side becomes that of `scale`, unless the longer one would then
    exceed that of `scale`. Small images are enlarged. A side of an extreme strip is at least one pixel; the original
    fails there.
    """
    factor = min(max(scale) / max(size), min(scale) / min(size))
    height, width = (max(1, int(side * factor + 0.5)) for side in size)
    return height, width


def canvas_size(size: tuple[int, int], scale: Scale, canvases: Canvases = "few") -> tuple[int, int]:
    """Height and width of the canvas for an image resized to `size` (height, width) by `scale`.

    Args:
        canvases: "few" for the smallest of `bucket_sizes(scale)` that holds the image, "exact" for the next multiples
            of 32, the original's padding.
    """
    if canvases == "exact":
        return padded(size[0]), padded(size[1])
    fitting = (canvas for canvas in bucket_sizes(scale) if canvas[0] >= size[0] and canvas[1] >= size[1])
    return min(fitting, key=lambda canvas: canvas[0] * canvas[1])


@functools.lru_cache
def bucket_sizes(scale: Scale) -> tuple[tuple[int, int], ...]:
    """Height and width of all canvases for images resized to `scale`, sorted; each is a program to compile.

    A resized image has the full shorter side or the full longer side of `scale`, so that images differ in the ratio
    of their sides only.
    """
    long, short = max(scale), min(scale)
    sides = {(short, long)}
    sides |= {(short, int(short * ratio + 0.5)) for ratio in _RATIOS if short * ratio <= long}
    sides |= {(max(1, int(long / ratio + 0.5)), long) for ratio in _RATIOS if long / ratio <= short}
    landscape = {(padded(low), padded(high)) for low, high in sides}
    return tuple(sorted(landscape | {(high, low) for low, high in landscape}))


def padded(side: int) -> int:
    """`side` rounded up to a multiple of 32, in pixels."""
    return -(-side // STRIDE) * STRIDE
