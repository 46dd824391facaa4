"""Photos for a detector at test time: the original's resize, and canvases of few sizes.

An accelerator compiles one program for each shape. The original pads every photo to multiples of 32, which
makes almost every photo a shape of its own; here it is padded further, to the nearest of a few dozen canvases.
"""

import functools
from typing import Literal, NamedTuple

import cv2
import numpy as np

STRIDE = 32  # of the coarsest feature map: sides of the network's input are multiples of it

# Longer side / shorter side of the canvases. Those of common cameras are met exactly, steps between others
# stay under 1.34; only panoramas, which are rare and have few pixels, step further.
_RATIOS = (1, 5 / 4, 4 / 3, 3 / 2, 16 / 9, 2, 5 / 2, 3, 4, 6, 8, 12, 16, 24, 32, 48, 64, 96, 128)

Scale = tuple[int, int]
Buckets = Literal["few", "exact"]
BUCKETS = ("few", "exact")


class PaddedImage(NamedTuple):
    """A photo, ready for the network.

    Args:
        canvas: uint8 [H, W, 3], the resized photo in its upper left corner and zeros.
        size: height and width of the resized photo.
        scale: resized width / width, resized height / height, float32 [2]; divides points (x, y).
    """

    canvas: np.ndarray
    size: tuple[int, int]
    scale: np.ndarray


def prepare(image: np.ndarray, scale: Scale, buckets: Buckets = "few") -> PaddedImage:
    """Resizes `image`, uint8 RGB [h, w, 3], and puts it on its canvas."""
    height, width = image.shape[:2]
    h, w = size = resized_size((height, width), scale)
    canvas_height, canvas_width = canvas_size(size, scale, buckets)
    canvas = np.zeros((canvas_height, canvas_width, 3), np.uint8)
    canvas[:h, :w] = cv2.resize(image, (w, h), interpolation=cv2.INTER_LINEAR)
    return PaddedImage(canvas, size, np.array([w / width, h / height], np.float32))


def resized_size(size: tuple[int, int], scale: Scale) -> tuple[int, int]:
    """Height and width after the original's resize (mmcv.imrescale, mmdet's Resize with keep_ratio).

    The ratio of the sides is kept: the shorter side becomes that of `scale`, unless the longer one would then
    exceed that of `scale`. Small images grow. A side of an extreme strip is at least one pixel; the original
    fails there.
    """
    factor = min(max(scale) / max(size), min(scale) / min(size))
    height, width = (max(1, int(side * factor + 0.5)) for side in size)
    return height, width


def canvas_size(size: tuple[int, int], scale: Scale, buckets: Buckets = "few") -> tuple[int, int]:
    """Height and width of the canvas for a photo resized to `size` by `scale`.

    Args:
        buckets: "few" for the smallest of `bucket_sizes(scale)` that holds it, "exact" for the next multiples
            of 32, the original's padding.
    """
    if buckets == "exact":
        return padded(size[0]), padded(size[1])
    fitting = (canvas for canvas in bucket_sizes(scale) if canvas[0] >= size[0] and canvas[1] >= size[1])
    return min(fitting, key=lambda canvas: canvas[0] * canvas[1])


@functools.lru_cache
def bucket_sizes(scale: Scale) -> tuple[tuple[int, int], ...]:
    """Height and width of all canvases that photos can get with `scale`, and so of all programs compiled.

    A resized photo has the full shorter side or the full longer side of `scale`, so that the ratio of its
    sides is all that differs.
    """
    long, short = max(scale), min(scale)
    sides = {(short, long)}
    for ratio in _RATIOS:
        if short * ratio <= long:
            sides.add((short, int(short * ratio + 0.5)))
        if long / ratio <= short:
            sides.add((max(1, int(long / ratio + 0.5)), long))
    landscape = {(padded(low), padded(high)) for low, high in sides}
    return tuple(sorted(landscape | {(high, low) for low, high in landscape}))


def padded(side: int) -> int:
    return -(-side // STRIDE) * STRIDE
