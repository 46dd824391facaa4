"""What the page gets for a photo: the words, the picture that their polygons belong to, and the score map."""

import base64
import io
import time
from typing import Any

import cv2
import numpy as np
from PIL import Image

from tcm_jax.images.canvas import STRIDE
from tcm_jax.images.decoding import decode
from tcm_jax.spotting.results import SpottedImage
from tcm_jax.spotting.spotter import Spotter

_LONGEST = 1600  # pixels of a side of the picture
_ALPHA = (90, 210)  # of the score map's lowest and highest value


def answer(spotter: Spotter, file: bytes) -> dict[str, Any]:
    """Reads the text in the photo that the bytes of an image file hold.

    Returns:
        For JSON: `photo` as `SpottedImage.to_dict` gives it; `picture`, a JPEG of the decoded and upright photo, which
        not every browser would decode as Pillow does; `score_map` or None; `seconds` that it took.

    Raises:
        ImageError: it can't be decoded.
    """
    start = time.perf_counter()
    pixels = decode(file, "photo", upright=True)
    photo = spotter(pixels)
    seconds = time.perf_counter() - start
    return {
        "photo": photo.to_dict(),
        "picture": _data_url(_reduced(pixels), "JPEG", quality=88),
        "score_map": _score_map(photo),
        "seconds": round(seconds, 3),
    }


def _reduced(pixels: np.ndarray) -> np.ndarray:
    height, width = pixels.shape[:2]
    factor = _LONGEST / max(height, width)
    if factor >= 1:
        return pixels
    size = max(1, round(width * factor)), max(1, round(height * factor))
    return cv2.resize(pixels, size, interpolation=cv2.INTER_AREA)


def _score_map(photo: SpottedImage) -> dict[str, Any] | None:
    """A PNG to lay over the photo, one pixel for each value, transparent where they are low.

    Its `width` and `height` are pixels of the photo, which it exceeds by the padding of the network's input;
    `low` and `high` are the values of the first and the last colour.
    """
    if photo.score_map is None or photo.scale is None:
        return None
    values = np.nan_to_num(photo.score_map.astype(np.float32))
    low, high = float(values.min()), float(values.max())
    level: np.ndarray = (values - low) / max(high - low, 1e-6)
    colours = cv2.applyColorMap(np.round(level * 255).astype(np.uint8), cv2.COLORMAP_INFERNO)
    alpha = np.interp(level, (0, 1), _ALPHA).astype(np.uint8)
    rows, columns = values.shape
    return {
        "picture": _data_url(np.dstack([colours[..., ::-1], alpha]), "PNG"),
        "width": round(columns * STRIDE / float(photo.scale[0]), 2),
        "height": round(rows * STRIDE / float(photo.scale[1]), 2),
        "low": round(low, 3),
        "high": round(high, 3),
    }


def _data_url(pixels: np.ndarray, kind: str, **options: Any) -> str:
    """Of a picture, uint8 RGB [h, w, 3] or RGBA [h, w, 4]."""
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, kind, **options)
    return f"data:image/{kind.lower()};base64,{base64.b64encode(file.getvalue()).decode()}"
