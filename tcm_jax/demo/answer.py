"""The response to the page: the words of an image, the image that their polygons belong to, and the score map."""

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

_MAX_SIDE = 1600  # pixels of the image that is sent back
_ALPHA = (90, 210)  # of the score map's lowest and highest value


def answer(spotter: Spotter, file: bytes) -> dict[str, Any]:
    """Reads the text in an image, given as the bytes of a file.

    Returns:
        For JSON: "photo" as of `SpottedImage.to_dict`; "picture", a data URL of the decoded and upright image as JPEG,
        since browsers may decode the file differently; "score_map" or None; "seconds" of the computation.

    Raises:
        ImageError: it is not decodable.
    """
    start = time.perf_counter()
    pixels = decode(file, "image", upright=True)
    image = spotter(pixels)
    seconds = time.perf_counter() - start
    return {
        "photo": image.to_dict(),
        "picture": _data_url(_reduced(pixels), "JPEG", quality=88),
        "score_map": _score_map(image),
        "seconds": round(seconds, 3),
    }


def _reduced(pixels: np.ndarray) -> np.ndarray:
    factor = _MAX_SIDE / max(pixels.shape)
    if factor >= 1:
        return pixels
    height, width = (max(1, round(side * factor)) for side in pixels.shape[:2])
    return cv2.resize(pixels, (width, height), interpolation=cv2.INTER_AREA)


def _score_map(image: SpottedImage) -> dict[str, Any] | None:
    """A PNG to overlay on the image, with one pixel for each value, transparent where values are low.

    Its "width" and "height" are pixels of the image, which it exceeds by the padding of the network's input; "low" and
    "high" are the values of the first and the last colour.
    """
    if image.score_map is None or image.scale is None:
        return None
    values = np.nan_to_num(image.score_map.astype(np.float32))
    low, high = float(values.min()), float(values.max())
    level: np.ndarray = (values - low) / max(high - low, 1e-6)
    colours = cv2.applyColorMap(np.round(level * 255).astype(np.uint8), cv2.COLORMAP_INFERNO)
    alpha = np.interp(level, (0, 1), _ALPHA).astype(np.uint8)
    height, width = (round(n * STRIDE / float(s), 2) for n, s in zip(values.shape, image.scale[::-1], strict=True))
    url = _data_url(np.dstack([colours[..., ::-1], alpha]), "PNG")
    return {"picture": url, "width": width, "height": height, "low": round(low, 3), "high": round(high, 3)}


def _data_url(pixels: np.ndarray, kind: str, **options: Any) -> str:
    """The data URL of uint8 RGB [h, w, 3] or RGBA [h, w, 4]."""
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, kind, **options)
    return f"data:image/{kind.lower()};base64,{base64.b64encode(file.getvalue()).decode()}"
