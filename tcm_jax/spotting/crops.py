"""Upright crops of words, cut out of an image by their polygons."""

from collections.abc import Sequence
from typing import NamedTuple

import cv2
import numpy as np

from tcm_jax.spotting.outlines import Sides, sides

MARGINS = (0.1, 0.3)  # around a word, in its heights: outlines may be too narrow as well as too wide
HEIGHT, LENGTH = 96, 1024  # pixels of the shorter and the longer side of a crop, at most
TALL = 1.5  # words this many times taller than wide may run up or down; in images of streets most of them do


class Candidate(NamedTuple):
    """A word as it may have to be read.

    Args:
        image: uint8 RGB [h, w, 3].
        turn: degrees, counter-clockwise, by which the upright crop was turned: 0, 90, 180 or 270.
    """

    image: np.ndarray
    turn: int


def candidates(
    image: np.ndarray, polygon: np.ndarray, margins: Sequence[float] = MARGINS, upside_down: bool = False
) -> list[Candidate]:
    """The crops of a word of which the one that is read best is right; none where `rectify` gives none.

    With each margin, that is the upright one; for a tall one, which may be turned text as well as letters one below the
    other, also the two that are turned by 90 degrees; and with `upside_down` the one that stands on its head.
    """
    found = sides(polygon)
    if found is None:
        return []
    crops = [crop for margin in margins if (crop := _crop(image, found, margin)) is not None]
    turns = [0, *([90, 270] if is_tall(found) else []), *([180] if upside_down else [])]
    return [Candidate(np.ascontiguousarray(np.rot90(crop, turn // 90)), turn) for crop in crops for turn in turns]


def is_tall(found: Sides) -> bool:
    """Whether the text of a word may run up or down."""
    width, height = extent(found)
    return found.vertical or height > TALL * width


def rectify(image: np.ndarray, polygon: np.ndarray, margin: float) -> np.ndarray | None:
    """The upright crop of one word, uint8 RGB [h, w, 3], or None where there is none.

    Quadrilaterals are seen from the front (a perspective warp), bent strips are straightened, as `outlines.sides`
    finds them. The crop has the word's own aspect; it is never enlarged, and reduced to fit `HEIGHT` and `LENGTH`.
    Pixels outside the image repeat its border.

    Args:
        image: uint8 RGB [h, w, 3] of any size.
        polygon: [n, 2], x and y in pixels, the left upper corner of the image being (0, 0).
        margin: around the word, in its heights (of a tall word widths).

    Returns:
        None for a polygon without an inside, or outside the image.
    """
    found = sides(polygon)
    return None if found is None else _crop(image, found, margin)


def _crop(image: np.ndarray, found: Sides, margin: float) -> np.ndarray | None:
    """The crop of the word with these sides, None for one outside the image."""
    low, high = found.corners.min(0), found.corners.max(0)
    if (high <= 0).any() or (low >= image.shape[1::-1]).any():
        return None
    width, height = extent(found)
    scale = min(1.0, HEIGHT / min(width, height), LENGTH / max(width, height))
    border = margin * min(width, height)
    part, found = _reduced(image, found, scale, border)
    size = np.maximum(np.rint([width * scale, height * scale]), 1)
    crop = (_front if len(found.top) == 2 else _straightened)(part, found, size, round(border * scale))
    return np.rot90(crop, -1) if found.vertical else crop


def extent(found: Sides) -> tuple[float, float]:
    """Width and height in pixels of the image."""
    along = [np.linalg.norm(np.diff(side, axis=0), axis=1).sum() for side in (found.top, found.bottom)]
    return float(np.mean(along)), float(np.linalg.norm(found.top - found.bottom, axis=1).mean())


def _reduced(image: np.ndarray, found: Sides, scale: float, border: float) -> tuple[np.ndarray, Sides]:
    """The part of the image around the word, reduced by area averaging, and the sides in its pixels.

    Warps take their pixels from where a point falls, so that a large word would be riddled with holes.
    """
    points = np.concatenate([found.top, found.bottom])
    around = border + 2 / scale  # what the interpolation reads
    limit = np.array(image.shape[1::-1])
    low = np.clip(np.floor(points.min(0) - around), 0, limit - 1).astype(int)
    high = np.clip(np.ceil(points.max(0) + around), low + 1, limit).astype(int)
    part = image[low[1] : high[1], low[0] : high[0]]
    factor = np.ones(2)
    if scale < 1:
        size = np.maximum(np.rint((high - low) * scale), 1).astype(int)
        part = cv2.resize(part, (int(size[0]), int(size[1])), interpolation=cv2.INTER_AREA)
        factor = size / (high - low)
    return part, Sides((found.top - low) * factor, (found.bottom - low) * factor, found.vertical)


def _front(part: np.ndarray, found: Sides, size: np.ndarray, border: int) -> np.ndarray:
    """A quadrilateral as a rectangle."""
    width, height = size
    flat = np.array([[0, 0], [width, 0], [0, height], [width, height]]) + border
    corners = np.concatenate([found.top, found.bottom])
    matrix = cv2.getPerspectiveTransform(flat.astype(np.float32), corners.astype(np.float32))
    # Points count from the corners of pixels, OpenCV counts from their centers.
    matrix = _shift(-0.5) @ matrix @ _shift(0.5)
    whole = int(width) + 2 * border, int(height) + 2 * border
    flags = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
    return cv2.warpPerspective(part, matrix, whole, flags=flags, borderMode=cv2.BORDER_REPLICATE)


def _straightened(part: np.ndarray, found: Sides, size: np.ndarray, border: int) -> np.ndarray:
    """A bent strip as a rectangle: straight lines between opposite points of its sides become its columns."""
    width, height = size
    columns = np.arange(-border, width + border) + 0.5
    rows = (np.arange(-border, height + border) + 0.5) / height  # 0 on the upper side, 1 on the lower
    knots = np.linspace(0, width, len(found.top))
    top, bottom = (_line(columns, knots, side, border) for side in (found.top, found.bottom))  # [w, 2]
    x, y = (
        (top[:, i] + (bottom - top)[:, i] * rows[:, None] - 0.5).astype(np.float32)  # [h, w]
        for i in (0, 1)
    )
    return cv2.remap(part, x, y, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)


def _line(places: np.ndarray, knots: np.ndarray, points: np.ndarray, beyond: float) -> np.ndarray:
    """Points [m, 2] at `places` [m] on the line through `points` at `knots`, continued straight at both ends."""
    share = beyond / (knots[1] - knots[0])
    head, tail = points[0] - share * (points[1] - points[0]), points[-1] + share * (points[-1] - points[-2])
    knots = np.array([knots[0] - beyond, *knots, knots[-1] + beyond])
    points = np.array([head, *points, tail])
    return np.stack([np.interp(places, knots, points[:, i]) for i in (0, 1)], axis=1)


def _shift(by: float) -> np.ndarray:
    return np.array([[1, 0, by], [0, 1, by], [0, 0, 1]])
