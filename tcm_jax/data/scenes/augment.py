"""Random views of a photo and its text for the training of detectors: turn, crop, zoom, colours."""

from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np

from tcm_jax.records import TextRegion

_MARGIN = 2  # pixels of the photo around what is shown, for the interpolation
_LONGEST = 32766  # pixels of a side that every OpenCV takes
_GREY = np.array([0.299, 0.587, 0.114])  # ITU-R 601-2, the lightness of RGB


@dataclass(frozen=True)
class DetectionAugment:
    """(photo, regions, rng) -> a square view and the text in it.

    The photo is flipped, turned around its centre, cut and resized with its ratio kept; the cut lies at the top left
    of the view, the rest is `fill`. Where both axes have gaps between the text that counts, the cut's edges lie in
    them; ignored text may be cut. A photo without text that counts is cut anywhere. Only an edge of the photo cuts
    text: that which the turn moved over it.

    A polygon's coordinates are those of edges: pixel i covers i .. i + 1, so that a flip takes x to width - x.

    Sources: ocrclip/configs/_base_/det_pipelines/dbnet_pipeline.py, mmocr/datasets/pipelines/dbnet_transforms.py.

    Attributes:
        crop: height and width of the view in pixels, a multiple of 32.
        flip: probability of a horizontal flip.
        rotation: largest angle, degrees, either way.
        scale: lowest and highest factor by which the photo is resized before it is cut. Since the cut is resized
            again to fill the view, the factor decides how much detail is left, not how large text is.
        brightness, contrast, saturation: the largest change of a factor around 1.
        min_side, max_side: shortest and longest side of a cut, as a share of the photo's.
        tries: cuts drawn; if none is large enough and shows text, the whole photo is shown.
        widen: stretch the cut along its shorter side as far as the view has room and no text is cut, so that less of
            the view is `fill`. The original does not.
        fill: RGB in 0..255, beyond the photo and beside the cut; a detector's mean, so that it becomes zero.
    """

    crop: int = 640
    flip: float = 0.5
    rotation: float = 10.0
    scale: tuple[float, float] = (0.5, 3.0)
    brightness: float = 32 / 255
    contrast: float = 0.0
    saturation: float = 0.5
    min_side: float = 0.1
    max_side: float = 1.0
    tries: int = 10
    widen: bool = False
    fill: tuple[float, float, float] = (123.0, 117.0, 104.0)

    def __post_init__(self):
        if self.crop < 32 or self.crop % 32:
            raise ValueError(f"crop {self.crop}; expected a positive multiple of 32")
        if not 0 < self.scale[0] <= self.scale[1]:
            raise ValueError(f"scale {self.scale}; expected a lowest and a highest factor above 0")
        for name in ("flip", "brightness", "contrast", "saturation", "min_side", "max_side"):
            if not 0 <= getattr(self, name) <= 1:
                raise ValueError(f"{name} {getattr(self, name)}; expected 0 .. 1")

    def __call__(
        self, image: np.ndarray, regions: Sequence[TextRegion], rng: np.random.Generator
    ) -> tuple[np.ndarray, list[np.ndarray], list[np.ndarray]]:
        """One view of `image`, uint8 RGB [h, w, 3], which is not changed.

        Returns:
            The view, uint8 [crop, crop, 3]; the polygons, float32 [n, 2], of the regions that show in it, then those
            of ignored regions. They may leave the view.
        """
        ignored = np.array([region.ignore for region in regions], bool)
        starts = np.cumsum([0, *(len(region.polygon) for region in regions)])
        photo = np.array(image.shape[1::-1])  # width and height
        turn = self._turn(photo, rng)
        points = _moved(turn, np.concatenate([np.empty((0, 2)), *(region.polygon for region in regions)]))
        # Of a polygon that is not finite all comparisons are false: it neither guides the cut nor shows.
        low, high = (extreme.reduceat(points, starts[:-1]) for extreme in (np.minimum, np.maximum))  # [n, 2]

        corner, size = self._cut(low[~ignored], high[~ignored], photo, rng)
        zoom = self.crop / size.max()
        place = _affine(zoom * np.eye(2), -zoom * corner)
        detail = min(1.0, rng.uniform(*self.scale) / zoom)
        view = self._view(image, place @ turn, np.rint(size * zoom).clip(1).astype(int), detail, rng)

        polygons = np.split(_moved(place, points).astype(np.float32), starts[1:-1])
        shown = ((high > corner) & (low < corner + size)).all(1)
        return (
            view,
            [polygons[i] for i in np.flatnonzero(shown & ~ignored)],
            [polygons[i] for i in np.flatnonzero(shown & ignored)],
        )

    def _turn(self, photo: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        """Matrix of the flip and the rotation around the photo's centre, [3, 3]."""
        mirror = -1 if rng.random() < self.flip else 1
        angle = np.radians(rng.uniform(-self.rotation, self.rotation))
        cos, sin = np.cos(angle), np.sin(angle)
        linear = np.array([[cos, -sin], [sin, cos]]) * (mirror, 1)
        return _affine(linear, photo / 2 - linear @ (photo / 2))

    def _cut(
        self, low: np.ndarray, high: np.ndarray, photo: np.ndarray, rng: np.random.Generator
    ) -> tuple[np.ndarray, np.ndarray]:
        """Corner and size, [2], of the part to show, given the boxes [n, 2] around the text."""
        seen = ((high > 0) & (low < photo)).all(1)
        low, high = low[seen], high[seen]
        gaps = [_gaps(low[:, axis], high[:, axis], photo[axis]) for axis in (0, 1)]
        if min(map(len, gaps)) > 0:
            # Both ends of a cut are anywhere in any two gaps, and longer gaps are not more likely.
            ends = [gap[rng.integers(len(gap), size=(self.tries, 2))] for gap in gaps]  # [tries, 2, 2]
            cuts = np.sort([rng.uniform(end[..., 0], end[..., 1]) for end in ends], axis=2)  # [axis, tries, 2]
            first, last = cuts.transpose(2, 1, 0)  # [tries, axis]
            size = last - first
            good = ((size >= self.min_side * photo) & (size <= self.max_side * photo) & (size > 0)).all(1)
            if len(low):
                good &= ((high > first[:, None]) & (low < last[:, None])).all(2).any(1)
            if good.any():
                first, last = first[good.argmax()], last[good.argmax()]
                if self.widen:
                    _widen(first, last, gaps, rng)
                return first, last - first
        return np.zeros(2), photo

    def _view(
        self, image: np.ndarray, matrix: np.ndarray, shown: np.ndarray, detail: float, rng: np.random.Generator
    ) -> np.ndarray:
        """What `matrix` shows of `image`, in the first `shown` columns and rows of [crop, crop, 3]."""
        corners = np.array([[0, 0], [1, 0], [0, 1], [1, 1]]) * shown
        needed = _moved(np.linalg.inv(matrix), corners)
        photo = np.array(image.shape[1::-1])
        left, top = first = np.clip(np.floor(needed.min(0)) - _MARGIN, 0, photo - 1).astype(int)
        right, bottom = last = np.clip(np.ceil(needed.max(0)) + _MARGIN, first + 1, photo).astype(int)
        step = 1 + max(last - first) // _LONGEST
        part = image[top:bottom:step, left:right:step]
        part = cv2.transform(part, self._colours(part, rng))

        # OpenCV's coordinates are those of the centres of pixels.
        side = max(1, round(self.crop * detail))
        matrix = _affine(side / self.crop * np.eye(2), np.full(2, -0.5)) @ matrix
        matrix = matrix @ _affine(step * np.eye(2), first + 0.5)
        fill = np.rint(self.fill).tolist()
        view = cv2.warpAffine(part, matrix[:2], (side, side), borderMode=cv2.BORDER_CONSTANT, borderValue=fill)
        if side < self.crop:
            view = cv2.resize(view, (self.crop, self.crop))
        columns, rows = shown
        beside, below = self.crop - shown
        border = cv2.BORDER_CONSTANT
        return cv2.copyMakeBorder(view[:rows, :columns], 0, below, 0, beside, border, value=fill)

    def _colours(self, image: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        """Matrix [3, 4] of a change of brightness, then contrast around the mean lightness, then saturation."""
        strength = np.array([self.brightness, self.contrast, self.saturation])
        brightness, contrast, saturation = rng.uniform(1 - strength, 1 + strength)
        middle = 0.0 if contrast == 1 else _GREY @ cv2.mean(image)[:3] * brightness
        matrix = saturation * np.eye(3) + (1 - saturation) * _GREY
        return np.column_stack([matrix * contrast * brightness, np.full(3, (1 - contrast) * middle)])


def _affine(linear: np.ndarray, shift: np.ndarray) -> np.ndarray:
    """Matrix [3, 3] of x -> linear x + shift."""
    return np.vstack([np.column_stack([linear, shift]), [0, 0, 1]])


def _moved(matrix: np.ndarray, points: np.ndarray) -> np.ndarray:
    """Points [n, 2] under an affine map [3, 3]."""
    return points @ matrix[:2, :2].T + matrix[:2, 2]


def _gaps(low: np.ndarray, high: np.ndarray, length: float) -> np.ndarray:
    """The parts of 0 .. length that none of the intervals low .. high covers, [m, 2]."""
    order = np.argsort(low)
    starts = np.concatenate([[0.0], np.maximum.accumulate(high[order])])
    ends = np.concatenate([low[order], [length]])
    gaps = np.clip(np.column_stack([starts, ends]), 0, length)
    return gaps[gaps[:, 1] > gaps[:, 0]]


def _widen(first: np.ndarray, last: np.ndarray, gaps: list[np.ndarray], rng: np.random.Generator) -> None:
    """Moves the ends of a cut, [2] each, apart along its shorter axis: to a square, or to a place in a gap near it."""
    size = last - first
    axis, longer = int(size.argmin()), size.max()
    places = gaps[axis]
    limit = last[axis] + rng.random() * (longer - size[axis])
    last[axis] = min(limit, places[places[:, 0] <= limit][-1, 1])
    limit = last[axis] - longer
    first[axis] = max(limit, places[places[:, 1] >= limit][0, 0])
