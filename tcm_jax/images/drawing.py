"""Drawing on images: outlines and labels of text, and sheets of annotated images."""

from collections.abc import Sequence

import cv2
import numpy as np
from PIL import Image, ImageDraw, ImageFont

from tcm_jax.images.decoding import ImageError, decode
from tcm_jax.images.lettering import DARK, Colour, draw_labels
from tcm_jax.records import AnnotatedImage

_COUNTED, _IGNORED = (40, 230, 90), (255, 110, 60)
_CELL, _CAPTION, _GAP = 640, 22, 6  # pixels of a sheet: maximum side of an image, height of its caption, between cells
_MAX_SCALE = 2  # of small images on a sheet
_FRACTION_BITS = 4  # of OpenCV's fixed-point coordinates
_MAX_COORDINATE = 2**20  # pixels; larger ones overflow them


def draw_polygons(
    image: np.ndarray,
    polygons: Sequence[np.ndarray],
    colours: Sequence[Colour],
    texts: Sequence[str],
    line: int = 2,
    sizes: tuple[int, int] = (13, 13),
) -> np.ndarray:
    """Draws the outlines of polygons and a text beside each, see `draw_labels`.

    Args:
        image: uint8 RGB [h, w, 3], which is not changed.
        polygons: [n, 2] each, x and y in pixels; they may leave the image.
        colours, texts: one for each polygon.
        line: width of the outlines in pixels.
        sizes: minimum and maximum font size in pixels.

    Returns:
        uint8 RGB [h, w, 3].
    """
    drawn = image.copy()
    clipped = [np.clip(polygon, -_MAX_COORDINATE, _MAX_COORDINATE) for polygon in polygons]
    outlines = [np.round(polygon * 2**_FRACTION_BITS).astype(np.int32) for polygon in clipped]
    rims = [(outline, DARK, line + 2) for outline in outlines]  # they keep the lines visible on any image
    lines = [(outline, colour, line) for outline, colour in zip(outlines, colours, strict=True)]
    for outline, colour, width in (*rims, *lines):
        cv2.polylines(drawn, [outline], True, colour, width, cv2.LINE_AA, _FRACTION_BITS)
    return draw_labels(drawn, polygons, texts, colours, sizes)


def resize_by(image: np.ndarray, factor: float) -> np.ndarray:
    """Resizes `image`, uint8 RGB [h, w, 3], by a factor; a side keeps at least one pixel."""
    width, height = (max(1, round(side * factor)) for side in image.shape[1::-1])
    return cv2.resize(image, (width, height), interpolation=cv2.INTER_AREA if factor < 1 else cv2.INTER_LINEAR)


def stack(images: Sequence[np.ndarray], axis: int, gap: int = 0, fill: int = 255) -> np.ndarray:
    """Joins images, uint8 RGB [h, w, 3], with `gap` pixels between; smaller ones are padded at the right and below.

    Args:
        axis: 0 for one below the other, 1 for side by side.
        fill: grey level of padding and gaps.
    """
    size = np.max([image.shape for image in images], axis=0)
    padded = []
    for i, image in enumerate(images):
        missing = size - image.shape
        missing[axis] = gap if i < len(images) - 1 else 0
        padded.append(np.pad(image, [(0, pixels) for pixels in missing], constant_values=fill))
    return np.concatenate(padded, axis)


def annotation_sheet(images: Sequence[AnnotatedImage], columns: int = 3) -> Image.Image:
    """A grid of annotated images with captions and texts: green outlines count, orange ones are ignored.

    An image that can't be decoded is a red frame.
    """
    cells = [_cell(image, f"{number}: {image.name}") for number, image in enumerate(images, start=1)]
    rows = [stack(cells[start : start + columns], 1) for start in range(0, len(cells), columns)]
    return Image.fromarray(stack(rows, 0))


def _cell(image: AnnotatedImage, title: str) -> np.ndarray:
    """An image and its caption, uint8 RGB [h, _CELL + _GAP, 3]."""
    try:
        drawn = _annotated(image)
    except ImageError:
        drawn = np.full((_CELL // 2, _CELL, 3), 255, np.uint8)
        cv2.rectangle(drawn, (1, 1), (_CELL - 2, _CELL // 2 - 2), (255, 0, 0), 2)
    ignored = sum(region.ignore for region in image.regions)
    counts = f"{len(image.regions) - ignored} texts" + (f", {ignored} ignored" if ignored else "")
    caption = Image.new("RGB", (_CELL + _GAP, _CAPTION + _GAP), "white")
    pen, font = ImageDraw.Draw(caption), ImageFont.load_default(14)
    room = _CELL - font.getlength(counts) - 12
    while font.getlength(title) > room:  # the end of a path says more than its start
        title = "..." + title[4:]
    pen.text((2, 2), title, fill="black", font=font)
    pen.text((_CELL - font.getlength(counts) - 2, 2), counts, fill="black", font=font)
    return stack([drawn, np.array(caption)], 0)


def _annotated(image: AnnotatedImage) -> np.ndarray:
    """The image and its regions, resized to fit a cell."""
    pixels = decode(image.image, image.name)
    factor = min(_CELL / max(pixels.shape[:2]), _MAX_SCALE)
    polygons = [region.polygon * factor for region in image.regions]
    colours = [_IGNORED if region.ignore else _COUNTED for region in image.regions]
    texts = ["" if region.ignore else region.text[:25] for region in image.regions]
    return draw_polygons(resize_by(pixels, factor), polygons, colours, texts, line=1, sizes=(11, 11))
