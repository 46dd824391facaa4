"""Visualizations of results: an image with polygons and scores and a score map, or with the words that were read."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from PIL import Image, ImageDraw, ImageFont

from tcm_jax.files import atomic_file
from tcm_jax.images.canvas import STRIDE
from tcm_jax.images.drawing import draw_polygons, resize_by, stack
from tcm_jax.images.lettering import Colour
from tcm_jax.records import TextRegion

_JPEG: tuple[str, dict[str, Any]] = ("JPEG", {"quality": 90, "subsampling": 0})
# Pillow's name of a file format and its options, by suffix.
IMAGE_FORMATS: dict[str, tuple[str, dict[str, Any]]] = {".jpg": _JPEG, ".jpeg": _JPEG, ".png": ("PNG", {})}

_CAPTION, _GAP, _BAR, _BACKGROUND = 26, 8, 160, 24  # pixels: height, gaps, width of the colour bar; grey level
_SCORES = (0.4, 0.7, 1.0)  # poor, fair and good; their colours
_SCORE_COLOURS = np.array([(255, 60, 40), (255, 200, 0), (40, 230, 90)])
_TRUTH, _IGNORED = (70, 150, 255), (190, 190, 190)


def draw_detections(
    image: np.ndarray,
    polygons: Sequence[np.ndarray],
    scores: Sequence[float],
    score_map: np.ndarray | None = None,
    scale: np.ndarray | Sequence[float] = (1.0, 1.0),
    regions: Sequence[TextRegion] = (),
) -> np.ndarray:
    """Draws the detections of one image; small images are enlarged and large ones reduced.

    The score map, if there is one, is a second panel, beside the image or below a wide one. Its colours span its
    values, which a colour bar shows.

    Args:
        image: uint8 RGB [h, w, 3].
        polygons: [n, 2] each, x and y in pixels; they may leave the image.
        scores: one for each, 0..1; written in per cent and coloured from red (poor) to green.
        score_map: [rows, columns], one value for 32 x 32 pixels of the network's input.
        scale: (x, y), pixels of the network's input for one pixel of the image.
        regions: the ground truth, blue below the polygons; grey where it is to be ignored.

    Returns:
        uint8 RGB [H, W, 3].
    """
    panel, factor = _panel(image)
    outlines = [*(region.polygon for region in regions), *map(np.asarray, polygons)]
    colours = [*(_IGNORED if region.ignore else _TRUTH for region in regions), *map(_score_colour, scores)]
    texts = [*("" for _ in regions), *(f"{100 * score:.0f}" for score in scores)]
    drawn = draw_polygons(panel, [points * factor for points in outlines], colours, texts)
    panels = [_captioned(drawn, f"{_summary(image, polygons, 'instance')}, score in %")]
    if score_map is not None:
        panels.append(_score_panel(panel, score_map, np.asarray(scale) / factor))
    is_wide = panel.shape[1] > 1.41 * panel.shape[0]
    return stack(panels, 0 if is_wide else 1, _GAP, _BACKGROUND)


def draw_words(
    image: np.ndarray, polygons: Sequence[np.ndarray], texts: Sequence[str], scores: Sequence[float]
) -> np.ndarray:
    """Draws the words of one image; small images are enlarged and large ones reduced.

    Args:
        image: uint8 RGB [h, w, 3].
        polygons: [n, 2] each, x and y in pixels; they may leave the image.
        texts: one for each; written beside it, where it hides the least of the others.
        scores: one for each, 0..1; the colours go from red (poor) to green.

    Returns:
        uint8 RGB [H, W, 3].
    """
    panel, factor = _panel(image)
    outlines = [np.asarray(polygon, np.float64) * factor for polygon in polygons]

    drawn = draw_polygons(panel, outlines, [*map(_score_colour, scores)], texts, sizes=(12, 28))
    return _captioned(drawn, _summary(image, texts, "word"))


def save(image: np.ndarray, path: Path) -> None:
    """Writes an image, uint8 RGB [h, w, 3], in the format that the suffix of `path` names (`IMAGE_FORMATS`)."""
    format, options = IMAGE_FORMATS[path.suffix.lower()]
    with atomic_file(path, "wb") as file:
        Image.fromarray(image).save(file, format, **options)


def _summary(image: np.ndarray, items: Sequence[Any], noun: str) -> str:
    return f"{image.shape[1]} x {image.shape[0]} pixels, {len(items):,} {noun}{'s' * (len(items) != 1)}"


def _panel(image: np.ndarray) -> tuple[np.ndarray, float]:
    """The image resized to a panel, and the factor: to a longer side of 640 to 1280 pixels.

    The shorter side of a reduced image keeps 240 pixels where the longer side stays below 4096.
    """
    long, short = max(image.shape[:2]), min(image.shape[:2])
    factor = max(1.0, 640 / long) if long <= 1280 else max(1280 / long, min(240 / short, 4096 / long))
    return resize_by(image, factor), factor


def _score_colour(score: float) -> Colour:
    red, green, blue = (int(np.interp(score, _SCORES, channel)) for channel in _SCORE_COLOURS.T)
    return red, green, blue


def _score_panel(panel: np.ndarray, score_map: np.ndarray, scale: np.ndarray) -> np.ndarray:
    """The score map in colours over the grey image. scale: (x, y), pixels of the network's input for one of `panel`."""
    values = np.nan_to_num(score_map.astype(np.float32))
    low, high = float(values.min()), float(values.max())
    level: np.ndarray = (values - low) / max(high - low, 1e-6)
    # Centre (x + 0.5) of a pixel lies at (x + 0.5) * scale / 32 - 0.5 among the centres of the map's cells.
    x, y = np.asarray(scale, np.float64) / STRIDE
    inverse = np.array([[x, 0, x / 2 - 0.5], [0, y, y / 2 - 0.5]])
    flags = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
    level = cv2.warpAffine(level, inverse, panel.shape[1::-1], flags=flags, borderMode=cv2.BORDER_REPLICATE)
    grey = cv2.cvtColor(panel, cv2.COLOR_RGB2GRAY)[:, :, None]
    weight = (0.3 + 0.5 * level)[:, :, None]  # the image shows through low values
    blended = weight * _heat(level) + 0.7 * (1 - weight) * grey
    return _captioned(blended.astype(np.uint8), "score map, similarity to the prompt", (low, high))


def _heat(values: np.ndarray) -> np.ndarray:
    """Colours, uint8 RGB [h, w, 3], of values [h, w] in 0..1."""
    levels = np.clip(np.round(values * 255), 0, 255).astype(np.uint8)
    return cv2.cvtColor(cv2.applyColorMap(levels, cv2.COLORMAP_INFERNO), cv2.COLOR_BGR2RGB)


def _captioned(panel: np.ndarray, text: str, limits: tuple[float, float] | None = None) -> np.ndarray:
    """`panel` above a line of text and, if its values have `limits`, a colour bar."""
    pieces = [_caption(text)]
    if limits is not None:
        low, high = (_caption(f"{limit:.2f}") for limit in limits)
        bar = _heat(np.tile(np.linspace(0, 1, _BAR), (_CAPTION - 12, 1)))
        pieces += [low, np.pad(bar, ((6, 6), (0, 0), (0, 0)), constant_values=_BACKGROUND), high]
    return stack([panel, stack(pieces, 1)], 0, fill=_BACKGROUND)


def _caption(text: str) -> np.ndarray:
    font = ImageFont.load_default(14)
    caption = Image.new("RGB", (int(font.getlength(text)) + 2 * _GAP, _CAPTION), (_BACKGROUND,) * 3)
    ImageDraw.Draw(caption).text((_GAP, 4), text, fill="white", font=font)
    return np.array(caption)
