"""What is in a set of annotated images, and what is wrong with it: a survey of images and polygons."""

import io
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

import cv2
import numpy as np
import shapely
from PIL import Image

from tcm_jax.data.check import Survey, distribution, most_common
from tcm_jax.records import AnnotatedImage, AnnotatedImageSource, TextRegion

_TINY = 8  # pixels of the shorter side, below which text is illegible
_ORIENTATION = 0x0112  # the EXIF tag


@dataclass
class AnnotationSurvey(Survey):
    """What the images of a source and their text instances are like; `usable` are images that can be decoded.

    Places are names of images or, for a text instance, "name #3", counted from 1.

    Attributes:
        counts: text instances of each image with readable annotations, and how many of them are ignored.
        texts: how often each text of an instance that counts occurs, "" where the set has none.
        corners: number of polygons by their number of points.
        heights: shorter sides, in pixels, of the rectangles around the polygons that count.
    """

    counts: list[tuple[int, int]] = field(default_factory=list)
    texts: Counter[str] = field(default_factory=Counter)
    corners: Counter[int] = field(default_factory=Counter)
    heights: list[float] = field(default_factory=list)

    def details(self) -> Iterator[str]:
        """The lines of the report on text instances."""
        if self.counts:
            found, ignored = np.array(self.counts).T
            yield f"texts:  {found.sum():,}, {ignored.sum():,} of them ignored; {distribution(found)} in an image"
            if bare := int((found == 0).sum()):
                yield f"        {bare:,} images without text"
            if blind := int(((found > 0) & (found == ignored)).sum()):
                yield f"        {blind:,} images with ignored text only"
        if self.corners:
            yield "        points: " + ", ".join(f"{points} in {n:,}" for points, n in sorted(self.corners.items()))
        if self.heights:
            yield f"        shorter side {distribution(self.heights)} pixels, of those that count"
        if self.texts:
            transcribed = Counter({text: n for text, n in self.texts.items() if text})
            listed = most_common(transcribed)
            yield f"        transcribed: {transcribed.total():,}" + (listed and f"; often {listed}")


def survey(source: AnnotatedImageSource, indices: Iterable[int]) -> AnnotationSurvey:
    """Reads and decodes the images `indices` of `source`; what is broken is noted and never raised."""
    result = AnnotationSurvey()
    for record, size in result.read(source, indices):
        result.usable += size is not None
        if isinstance(record.image, bytes) and size is not None and _is_rotated(record.image):
            result.note("image: with an EXIF orientation, which is ignored", record.name)
        _inspect_regions(result, record, size)
    return result


def _inspect_regions(result: AnnotationSurvey, record: AnnotatedImage, size: tuple[int, int] | None) -> None:
    result.counts.append((len(record.regions), sum(region.ignore for region in record.regions)))
    outlines: dict[bytes, str] = {}
    for number, region in enumerate(record.regions, start=1):
        where = f"{record.name} #{number}"
        result.corners[len(region.polygon)] += 1
        if not region.ignore:
            height = min(cv2.minAreaRect(region.polygon)[1])
            result.heights.append(height)
            result.texts[region.text] += 1
            if height < _TINY:
                result.note(f"text: tiny (under {_TINY} pixels), but not ignored", where)
        if not shapely.linearrings(region.polygon).is_simple:
            result.note("text: outline crosses or touches itself", where)
        if size is not None and (outside := _outside(region, size)):
            result.note(f"text: {outside} outside the image", where)
        if (first := outlines.setdefault(region.polygon.tobytes(), where)) != where:
            result.note("text: same outline as another", f"{where} = {first}")


def _is_rotated(image: bytes) -> bool:
    try:
        return Image.open(io.BytesIO(image)).getexif().get(_ORIENTATION, 1) != 1
    except Exception:  # the EXIF data may be damaged in any way; the image was decoded without them
        return False


def _outside(region: TextRegion, size: tuple[int, int]) -> str:
    """ "" for a polygon inside an image of this height and width, whose last pixel's far edge still is inside."""
    x, y = region.polygon.T
    height, width = size
    if x.max() <= 0 or y.max() <= 0 or x.min() >= width or y.min() >= height:
        return "wholly"
    return "partly" if x.min() < 0 or y.min() < 0 or x.max() > width or y.max() > height else ""
