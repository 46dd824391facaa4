"""Test-time views of a crop: with a frame around it, or with its border cut off."""

from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np

from tcm_jax.images.decoding import resize

SINGLE_VIEW = (0.0,)  # a crop as it is


@dataclass(frozen=True)
class CropViews:
    """Makes the views of a crop that a recognizer reads.

    Args:
        size: (H, W) of the network's input.
        views: one margin for each view, a share of the crop's shorter side, see `with_margin`.
    """

    size: tuple[int, int]
    views: tuple[float, ...] = SINGLE_VIEW

    def __call__(self, crop: np.ndarray) -> np.ndarray:
        """uint8 RGB [h, w, 3] -> uint8 [v, H, W, 3]."""
        return np.stack([resize(with_margin(crop, margin), self.size) for margin in self.views])


def with_margin(crop: np.ndarray, margin: float) -> np.ndarray:
    """`crop`, uint8 RGB [h, w, 3], with a frame that repeats its border; a negative margin is cut off.

    Args:
        margin: width of the frame as a share of the shorter side, above -0.5.
    """
    width = round(margin * min(crop.shape[:2]))
    if width > 0:
        return cv2.copyMakeBorder(crop, width, width, width, width, cv2.BORDER_REPLICATE)
    height, length = (side + 2 * max(width, -((side - 1) // 2)) for side in crop.shape[:2])  # a pixel at least
    top, left = (crop.shape[0] - height) // 2, (crop.shape[1] - length) // 2
    return crop[top : top + height, left : left + length]


def check_views(views: Sequence[float]) -> None:
    """Raises ValueError unless these are margins of `CropViews`."""
    several = isinstance(views, list | tuple) and len(views) > 0
    if not several or not all(isinstance(margin, int | float) and -0.5 < margin <= 1 for margin in views):
        raise ValueError(f"views are {views!r}; expected margins above -0.5 and up to 1, such as [0, -0.08, 0.12]")
