"""What is in a set of photos with text, and what is wrong with it: a survey of photos and polygons."""

import io
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

import cv2
import numpy as np
import shapely
from PIL import Image

from tcm_jax.data.words.check import some
from tcm_jax.images.decoding import ImageError, decode
from tcm_jax.records import AnnotatedImage, AnnotatedImageSource, SourceError, TextRegion

_TINY = 8  # pixels of the shorter side: nothing is left to read
_SHOWN = 10  # unreadable photos in the survey
_FREQUENT = 5  # texts in the survey
_ORIENTATION = 0x0112  # the EXIF tag


@dataclass
class AnnotationSurvey:
    """What the photos of a source and their text instances are like; `str()` tells a user.

    Places are names of photos or, for a text instance, "name #3", counted from 1.

    Attributes:
        looked_at: number of photos; usable: of these, those that can be decoded.
        broken: messages about photos or annotations that can't be read.
        sizes: (height, width) of the photos that can be decoded.
        counts: text instances of each photo with readable annotations, and how many of them are ignored.
        texts: how often each text of an instance that counts occurs, "" where the set has none.
        corners: how many polygons have this many points.
        heights: shorter sides, in pixels, of the rectangles around the polygons that count.
        places: where something is odd, by what it is.
    """

    looked_at: int = 0
    usable: int = 0
    broken: list[str] = field(default_factory=list)
    sizes: list[tuple[int, int]] = field(default_factory=list)
    counts: list[tuple[int, int]] = field(default_factory=list)
    texts: Counter[str] = field(default_factory=Counter)
    corners: Counter[int] = field(default_factory=Counter)
    heights: list[float] = field(default_factory=list)
    places: dict[str, list[str]] = field(default_factory=dict)

    def __str__(self) -> str:
        return "\n".join(self._lines())

    def note(self, what: str, where: str) -> None:
        self.places.setdefault(what, []).append(where)

    def _lines(self) -> Iterator[str]:
        if self.sizes:
            heights, widths = np.array(self.sizes).T
            yield f"photos: height {_spread(heights)}"
            yield f"        width {_spread(widths)}"
        if self.counts:
            found, ignored = np.array(self.counts).T
            yield f"texts:  {found.sum():,}, {ignored.sum():,} of them ignored; {_spread(found)} in a photo"
            if bare := int((found == 0).sum()):
                yield f"        {bare:,} photos without text"
            if blind := int(((found > 0) & (found == ignored)).sum()):
                yield f"        {blind:,} photos with ignored text only"
        if self.corners:
            yield "        points: " + ", ".join(f"{points} in {n:,}" for points, n in sorted(self.corners.items()))
        if self.heights:
            yield f"        shorter side {_spread(np.array(self.heights))} pixels, of those that count"
        if self.texts:
            frequent = [(text, n) for text, n in self.texts.most_common(_FREQUENT + 1) if text][:_FREQUENT]
            listed = ", ".join(f"{text!r} {n:,}" for text, n in frequent)
            yield f"        transcribed: {self.texts.total() - self.texts['']:,}" + (listed and f"; often {listed}")
        for what in sorted(self.places):
            yield f"{what}: {len(self.places[what]):,}: {some(self.places[what])}"
        if self.broken:
            yield f"unreadable: {len(self.broken):,} of {self.looked_at:,}"
            yield from (f"  {message}" for message in self.broken[:_SHOWN])
            if len(self.broken) > _SHOWN:
                yield f"  and {len(self.broken) - _SHOWN:,} more"
        yield f"usable: {self.usable:,} of {self.looked_at:,} photos"


def survey(source: AnnotatedImageSource, indices: Iterable[int]) -> AnnotationSurvey:
    """Reads and decodes the photos `indices` of `source`; what is broken is noted and never raised."""
    result = AnnotationSurvey()
    seen: dict[int, str] = {}
    for index in indices:
        result.looked_at += 1
        try:
            scene = source[index]
        except (ImageError, SourceError) as error:
            result.broken.append(str(error))
            continue
        size = _look_at_photo(result, scene, seen)
        _look_at_regions(result, scene, size)
    return result


def _look_at_photo(result: AnnotationSurvey, scene: AnnotatedImage, seen: dict[int, str]) -> tuple[int, int] | None:
    """Notes what the photo is like; its height and width if it can be decoded."""
    try:
        size = decode(scene.image, scene.name).shape[:2]
    except ImageError as error:
        result.broken.append(str(error))
        return None
    result.usable += 1
    result.sizes.append(size)
    content = hash(scene.image) if isinstance(scene.image, bytes) else hash(scene.image.tobytes())
    if seen.setdefault(content, scene.name) != scene.name:
        result.note("photo: same as another", f"{scene.name} = {seen[content]}")
    if isinstance(scene.image, bytes) and _turned(scene.image):
        result.note("photo: with an EXIF orientation, which is ignored", scene.name)
    return size


def _look_at_regions(result: AnnotationSurvey, scene: AnnotatedImage, size: tuple[int, int] | None) -> None:
    result.counts.append((len(scene.regions), sum(region.ignore for region in scene.regions)))
    outlines: dict[bytes, str] = {}
    for number, region in enumerate(scene.regions, start=1):
        where = f"{scene.name} #{number}"
        result.corners[len(region.polygon)] += 1
        if not region.ignore:
            height = _shorter_side(region)
            result.heights.append(height)
            result.texts[region.text] += 1
            if height < _TINY:
                result.note(f"text: tiny (under {_TINY} pixels), but not ignored", where)
        if not shapely.linearrings(region.polygon).is_simple:
            result.note("text: outline crosses or touches itself", where)
        if size is not None and (outside := _outside(region, size)):
            result.note(f"text: {outside} outside the photo", where)
        if (first := outlines.setdefault(region.polygon.tobytes(), where)) != where:
            result.note("text: same outline as another", f"{where} = {first}")


def _turned(image: bytes) -> bool:
    try:
        return Image.open(io.BytesIO(image)).getexif().get(_ORIENTATION, 1) != 1
    except Exception:  # the EXIF data may be damaged in any way; the photo was decoded without them
        return False


def _shorter_side(region: TextRegion) -> float:
    return min(cv2.minAreaRect(region.polygon)[1])


def _outside(region: TextRegion, size: tuple[int, int]) -> str:
    """ "" for a polygon inside a photo of this height and width, whose last pixel's far edge still is inside."""
    x, y = region.polygon.T
    height, width = size
    if x.max() <= 0 or y.max() <= 0 or x.min() >= width or y.min() >= height:
        return "wholly"
    return "partly" if x.min() < 0 or y.min() < 0 or x.max() > width or y.max() > height else ""


def _spread(values: np.ndarray) -> str:
    low, median, high = np.percentile(values, (5, 50, 95))
    return f"{values.min():.0f} .. {values.max():.0f}, median {median:.0f}, 90 % within {low:.0f} .. {high:.0f}"
