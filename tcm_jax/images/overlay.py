"""Pictures of what was found in a photo: polygons with scores and the score map, or with the words that were read."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from PIL import Image, ImageDraw, ImageFont

from tcm_jax.files import atomic_file
from tcm_jax.images.canvas import STRIDE
from tcm_jax.images.drawing import draw_polygons
from tcm_jax.images.lettering import write_labels
from tcm_jax.records import TextRegion

_JPEG: tuple[str, dict[str, Any]] = ("JPEG", {"quality": 90, "subsampling": 0})
PICTURES: dict[str, tuple[str, dict[str, Any]]] = {".jpg": _JPEG, ".jpeg": _JPEG, ".png": ("PNG", {})}

_LONGEST, _SHORTEST, _LIMIT = (640, 1280), 240, 4096  # pixels of a panel's sides
_BAR, _CAPTION, _GAP = 160, 26, 8
_CAPTION_SIZE = 14
_POOR, _FAIR, _GOOD = (255, 60, 40), (255, 200, 0), (40, 230, 90)  # RGB of scores 0.4, 0.7 and 1
_TRUTH, _IGNORED = (70, 150, 255), (190, 190, 190)


def draw(
    image: np.ndarray,
    polygons: Sequence[np.ndarray],
    scores: Sequence[float],
    score_map: np.ndarray | None = None,
    scale: np.ndarray | Sequence[float] = (1.0, 1.0),
    regions: Sequence[TextRegion] = (),
) -> np.ndarray:
    """The picture of one photo, uint8 RGB.

    Small photos are enlarged and large ones reduced. The score map, if there is one, is a second panel, beside
    the photo or below a wide one; its colours span the values that it has, which the bar names.

    Args:
        image: uint8 RGB [h, w, 3].
        polygons: [n, 2] each, x and y in pixels; they may leave the image.
        scores: one for each, 0..1; written in per cent, from red (poor) to green.
        score_map: [rows, columns], one value for 32 x 32 pixels of the network's input.
        scale: (x, y), pixels of the network's input for one pixel of the photo.
        regions: what should have been found, blue under the polygons; gray if it is to be ignored.
    """
    height, width = image.shape[:2]
    photo, factor = _scaled(image)
    drawn = draw_polygons(
        photo,
        [points * factor for points in (*(region.polygon for region in regions), *map(np.asarray, polygons))],
        [*(_IGNORED if region.ignore else _TRUTH for region in regions), *map(_colour, scores)],
        [*("" for _ in regions), *(f"{100 * score:.0f}" for score in scores)],
    )
    found = f"{len(polygons):,} instance{'s' * (len(polygons) != 1)}, score in %"
    panels = [_captioned(drawn, f"{width} x {height} pixels, {found}")]
    if score_map is not None:
        panels.append(_score_panel(photo, score_map, np.asarray(scale) / factor))
    wide = photo.shape[1] > 1.41 * photo.shape[0]
    return _joined(panels, 0 if wide else 1)


def draw_words(
    image: np.ndarray, polygons: Sequence[np.ndarray], texts: Sequence[str], scores: Sequence[float]
) -> np.ndarray:
    """The picture of one photo with its words, uint8 RGB; small photos are enlarged and large ones reduced.

    Args:
        image: uint8 RGB [h, w, 3].
        polygons: [n, 2] each, x and y in pixels; they may leave the image.
        texts: what each says; written beside it, where it hides the least of the others.
        scores: one for each, 0..1; the colours go from red (poor) to green.
    """
    height, width = image.shape[:2]
    photo, factor = _scaled(image)
    scaled = [np.asarray(polygon, np.float64) * factor for polygon in polygons]
    colours = [*map(_colour, scores)]
    drawn = draw_polygons(photo, scaled, colours, [""] * len(scaled))
    drawn = write_labels(drawn, scaled, texts, colours)
    return _captioned(drawn, f"{width} x {height} pixels, {len(texts):,} word{'s' * (len(texts) != 1)}")


def save(picture: np.ndarray, path: Path) -> None:
    """Writes a picture, uint8 RGB [h, w, 3], as a file of the format that its name ends in (`PICTURES`)."""
    kind, options = PICTURES[path.suffix.lower()]
    with atomic_file(path, "wb") as file:
        Image.fromarray(picture).save(file, kind, **options)


def _scaled(image: np.ndarray) -> tuple[np.ndarray, float]:
    """The photo in the size of its panel, and pixels of the panel for one of the photo."""
    height, width = image.shape[:2]
    factor = _factor(height, width)
    size = max(1, round(width * factor)), max(1, round(height * factor))
    return cv2.resize(image, size, interpolation=cv2.INTER_AREA if factor < 1 else cv2.INTER_LINEAR), factor


def _factor(height: int, width: int) -> float:
    """Pixels of the panel for one of the photo."""
    long, short = max(height, width), min(height, width)
    factor = np.clip(1, _LONGEST[0] / long, _LONGEST[1] / long)
    return float(max(factor, min(_SHORTEST / short, _LIMIT / long))) if factor < 1 else float(factor)


def _colour(score: float) -> tuple[int, int, int]:
    """From red at 0.4 through yellow to green at 1."""
    at = (0.4, 0.7, 1.0)
    red, green, blue = (int(np.interp(score, at, values)) for values in zip(_POOR, _FAIR, _GOOD, strict=True))
    return red, green, blue


def _score_panel(photo: np.ndarray, score_map: np.ndarray, scale: np.ndarray) -> np.ndarray:
    """The score map in colours over the grey photo. scale: pixels of the network's input for one of `photo`."""
    height, width = photo.shape[:2]
    values = np.nan_to_num(score_map.astype(np.float32))
    low, high = float(values.min()), float(values.max())
    level: np.ndarray = (values - low) / max(high - low, 1e-6)
    # Centre (x + 0.5) of a pixel lies at (x + 0.5) * scale / 32 - 0.5 among the centres of the map's cells.
    step = np.asarray(scale, np.float64) / STRIDE
    inverse = np.array([[step[0], 0, step[0] / 2 - 0.5], [0, step[1], step[1] / 2 - 0.5]])
    flags = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
    level = cv2.warpAffine(level, inverse, (width, height), flags=flags, borderMode=cv2.BORDER_REPLICATE)
    grey = cv2.cvtColor(photo, cv2.COLOR_RGB2GRAY)[:, :, None]
    weight = (0.3 + 0.5 * level)[:, :, None]  # low values leave the photo to be seen
    blended = weight * _heat(level) + 0.7 * (1 - weight) * grey
    return _captioned(blended.astype(np.uint8), "score map, similarity to the prompt", (low, high))


def _heat(values: np.ndarray) -> np.ndarray:
    """Colours, uint8 RGB [h, w, 3], of values [h, w] in 0..1."""
    levels = np.clip(np.round(values * 255), 0, 255).astype(np.uint8)
    return cv2.cvtColor(cv2.applyColorMap(levels, cv2.COLORMAP_INFERNO), cv2.COLOR_BGR2RGB)


def _captioned(panel: np.ndarray, text: str, span: tuple[float, float] | None = None) -> np.ndarray:
    """`panel` above a line of text and, for a `span` of values, the bar of its colours."""
    font = ImageFont.load_default(_CAPTION_SIZE)
    parts = [text] if span is None else [text, f"{span[0]:.2f}", f"{span[1]:.2f}"]
    lengths = [int(font.getlength(part)) for part in parts]
    needed = sum(lengths) + (3 + len(parts)) * _GAP + (0 if span is None else _BAR)
    picture = Image.new("RGB", (max(panel.shape[1], needed), panel.shape[0] + _CAPTION), (24, 24, 24))
    picture.paste(Image.fromarray(panel), (0, 0))
    pen, x = ImageDraw.Draw(picture), _GAP
    top = panel.shape[0] + 4
    for i, (part, length) in enumerate(zip(parts, lengths, strict=True)):
        pen.text((x, top), part, fill="white", font=font)
        x += length + (2 if i == 0 else 1) * _GAP
        if i == 1:
            bar = _heat(np.broadcast_to(np.linspace(0, 1, _BAR), (_CAPTION - 12, _BAR)))
            picture.paste(Image.fromarray(bar), (x, top + 2))
            x += _BAR + _GAP
    return np.array(picture)


def _joined(panels: Sequence[np.ndarray], axis: int) -> np.ndarray:
    """The panels one below the other (axis 0) or side by side (axis 1), on a dark ground."""
    height, width = np.max([panel.shape[:2] for panel in panels], axis=0)
    padded = []
    for i, panel in enumerate(panels):
        below, right = (0, width - panel.shape[1]) if axis == 0 else (height - panel.shape[0], 0)
        gap = [(0, below), (0, right), (0, 0)]
        if i < len(panels) - 1:
            gap[axis] = (0, gap[axis][1] + _GAP)
        padded.append(np.pad(panel, gap, constant_values=24))
    return np.concatenate(padded, axis=axis)
