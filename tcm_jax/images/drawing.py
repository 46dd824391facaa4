"""Pictures of photos with the outlines of their text."""

from collections.abc import Iterable, Sequence

import cv2
import numpy as np
from PIL import Image, ImageDraw, ImageFont

from tcm_jax.images.decoding import ImageError, decode
from tcm_jax.records import AnnotatedImage

Colour = tuple[int, int, int]  # RGB

_COUNTED, _IGNORED, _RIM = (40, 230, 90), (255, 110, 60), (20, 20, 20)
_CELL_WIDTH, _CELL_HEIGHT, _CAPTION, _GAP = 640, 640, 22, 6
_LARGEST = 2  # times a small photo grows
_LINE, _TAG_SIZE, _CAPTION_SIZE, _TAG_LENGTH = 1, 11, 14, 25
_FRACTION_BITS = 4  # of OpenCV's fixed-point coordinates
_FAR = 2**20  # pixels: what is beyond overflows them


def draw_polygons(
    photo: np.ndarray,
    polygons: Sequence[np.ndarray],
    colours: Sequence[Colour],
    tags: Sequence[str],
    line: int = 2,
    tag_size: int = 13,
) -> np.ndarray:
    """`photo`, uint8 RGB [h, w, 3], under the outlines of `polygons` and, above all of them, a tag for each.

    The polygons are [n, 2], x and y in pixels, and may leave the photo. An empty tag is not drawn. `line` and
    `tag_size` are in pixels.
    """
    drawn = photo.copy()
    near = [np.clip(polygon, -_FAR, _FAR) for polygon in polygons]
    outlines = [np.round(polygon * 2**_FRACTION_BITS).astype(np.int32) for polygon in near]
    for outline in outlines:  # a dark rim keeps the lines visible everywhere
        cv2.polylines(drawn, [outline], True, _RIM, line + 2, cv2.LINE_AA, _FRACTION_BITS)
    for outline, colour in zip(outlines, colours, strict=True):
        cv2.polylines(drawn, [outline], True, colour, line, cv2.LINE_AA, _FRACTION_BITS)
    picture = Image.fromarray(drawn)
    pen, font = ImageDraw.Draw(picture), ImageFont.load_default(tag_size)
    for polygon, colour, tag in zip(polygons, colours, tags, strict=True):
        if not tag:
            continue
        x, y = polygon[polygon.sum(1).argmin()]  # the upper left corner
        left, top, right, bottom = pen.textbbox((0, 0), tag, font)
        w, h = right - left + 4, bottom - top + 4
        x = min(max(0, x), picture.width - w)
        y = min(max(0, y - h - 1), picture.height - h)
        pen.rectangle((x, y, x + w, y + h), fill=_RIM)
        pen.text((x + 2 - left, y + 2 - top), tag, fill=colour, font=font)
    return np.array(picture)


def scene_sheet(scenes: Iterable[AnnotatedImage], columns: int = 3) -> Image.Image:
    """The photos, scaled to cells, with their texts: green outlines count, orange ones are ignored.

    A photo that can't be decoded is a red frame.
    """
    scenes = list(scenes)
    cells = [_cell(scene, f"{number}: {scene.name}") for number, scene in enumerate(scenes, start=1)]
    rows = [cells[start : start + columns] for start in range(0, len(cells), columns)]
    heights = [max(cell.height for cell in row) + _GAP for row in rows]
    width = min(columns, len(cells)) * (_CELL_WIDTH + _GAP)
    sheet = Image.new("RGB", (width, sum(heights)), "white")
    y = 0
    for row, height in zip(rows, heights, strict=True):
        for column, cell in enumerate(row):
            sheet.paste(cell, (column * (_CELL_WIDTH + _GAP), y))
        y += height
    return sheet


def _cell(scene: AnnotatedImage, title: str) -> Image.Image:
    try:
        photo = _scaled(scene)
    except ImageError:
        photo = np.full((_CELL_HEIGHT // 2, _CELL_WIDTH, 3), 255, np.uint8)
        cv2.rectangle(photo, (1, 1), (photo.shape[1] - 2, photo.shape[0] - 2), (255, 0, 0), 2)
    cell = Image.new("RGB", (_CELL_WIDTH, photo.shape[0] + _CAPTION), "white")
    cell.paste(Image.fromarray(photo), (0, 0))
    ignored = sum(region.ignore for region in scene.regions)
    counts = f"{len(scene.regions) - ignored} texts" + (f", {ignored} ignored" if ignored else "")
    pen, font = ImageDraw.Draw(cell), ImageFont.load_default(_CAPTION_SIZE)
    room = _CELL_WIDTH - font.getlength(counts) - 12
    while font.getlength(title) > room:  # the end of a path tells more than its start
        title = "..." + title[4:]
    pen.text((2, photo.shape[0] + 2), title, fill="black", font=font)
    pen.text((_CELL_WIDTH - font.getlength(counts) - 2, photo.shape[0] + 2), counts, fill="black", font=font)
    return cell


def _scaled(scene: AnnotatedImage) -> np.ndarray:
    """The photo of the size of a cell, or smaller, with its regions."""
    photo = decode(scene.image, scene.name)
    height, width = photo.shape[:2]
    factor = min(_CELL_WIDTH / width, _CELL_HEIGHT / height, _LARGEST)
    size = max(1, round(width * factor)), max(1, round(height * factor))
    photo = cv2.resize(photo, size, interpolation=cv2.INTER_AREA if factor < 1 else cv2.INTER_LINEAR)
    return draw_polygons(
        photo,
        [region.polygon * factor for region in scene.regions],
        [_IGNORED if region.ignore else _COUNTED for region in scene.regions],
        ["" if region.ignore else region.text[:_TAG_LENGTH] for region in scene.regions],
        _LINE,
        _TAG_SIZE,
    )
