"""Random augmentation of an image and its text for the training of detectors: rotation, crop, zoom, colours."""

from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np

from tcm_jax.records import TextRegion

_MARGIN = 2  # pixels of the image around the crop, for the interpolation
_MAX_SIDE = 32766  # pixels, that every version of OpenCV accepts
_GREY = np.array([0.299, 0.587, 0.114])  # ITU-R 601-2, the lightness of RGB


@dataclass(frozen=True)
class DetectionAugment:
    """Augments an image: (image, regions, rng) -> a square view and the text in it.

    The image is flipped, rotated around its centre, cropped and resized with its aspect ratio kept. The crop is at the
    top left of the view, the rest is `fill`. Where both axes have gaps between the text that counts, the edges of the
    crop lie in them; ignored text may be cut. An image without text that counts is cropped anywhere. Only an edge of
    the image cuts text that the rotation moved over it.

    Coordinates are those of pixel edges: pixel i covers i .. i + 1, so that a flip maps x to width - x.

    Sources: ocrclip/configs/_base_/det_pipelines/dbnet_pipeline.py, mmocr/datasets/pipelines/dbnet_transforms.py.

    Attributes:
        crop: height and width of the view in pixels, a multiple of 32.
        flip: probability of a horizontal flip.
        rotation: maximum angle in degrees, either way.
        scale: minimum and maximum factor by which the image is resized before it is cropped. Since the crop is resized
            again to fill the view, the factor decides how much detail is left, not how large text is.
        brightness, contrast, saturation: maximum change of a factor around 1.
        min_side, max_side: minimum and maximum side of a crop, as a share of the image's.
        tries: number of random crops; if none is large enough and shows text, the whole image is used.
        widen: extend the crop along its shorter side as far as the view has room and no text is cut, so that less of
            the view is `fill`. The original does not.
        fill: RGB in 0..255, beyond the image and beside the crop; a detector's mean, so that it becomes zero.

    Raises:
        ValueError: a value is out of range.
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

    def __post_init__(self) -> None:
        if self.crop < 32 or self.crop % 32:
            raise ValueError(f"crop {self.crop}; expected a positive multiple of 32")
        if not 0 < self.scale[0] <= self.scale[1]:
            raise ValueError(f"scale {self.scale}; expected a minimum and a maximum factor above 0")
        for name in ("flip", "brightness", "contrast", "saturation", "min_side", "max_side"):
            if not 0 <= getattr(self, name) <= 1:
                raise ValueError(f"{name} {getattr(self, name)}; expected 0 .. 1")

    def __call__(
        self, image: np.ndarray, regions: Sequence[TextRegion], rng: np.random.Generator
    ) -> tuple[np.ndarray, list[np.ndarray], list[np.ndarray]]:
        """A random view of `image`, uint8 RGB [h, w, 3], which is not changed.

        Returns:
            The view, uint8 [crop, crop, 3]; the polygons, float32 [n, 2], of the visible regions, and those of visible
            ignored regions. They may leave the view.
        """
        ignored = np.array([region.ignore for region in regions], bool)
        starts = np.cumsum([0, *(len(region.polygon) for region in regions)])
        extent = np.array(image.shape[1::-1])  # width and height
        rotation = self._random_rotation(extent, rng)
        points = _transform(rotation, np.concatenate([np.empty((0, 2)), *(region.polygon for region in regions)]))
        # All comparisons with a polygon that is not finite are false: it does not affect the crop and is not visible.
        low, high = (extreme.reduceat(points, starts[:-1]) for extreme in (np.minimum, np.maximum))  # [n, 2]

        corner, size = self._random_crop(low[~ignored], high[~ignored], extent, rng)
        zoom = self.crop / size.max()
        placing = _affine(zoom * np.eye(2), -zoom * corner)
        detail = min(1.0, rng.uniform(*self.scale) / zoom)
        view = self._view(image, placing @ rotation, np.rint(size * zoom).clip(1).astype(int), detail, rng)

        polygons = np.split(_transform(placing, points).astype(np.float32), starts[1:-1])
        visible = ((high > corner) & (low < corner + size)).all(1)
        counted, others = ([polygons[i] for i in np.flatnonzero(visible & kind)] for kind in (~ignored, ignored))
        return view, counted, others

    def _random_rotation(self, extent: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        """Matrix [3, 3] of the flip and the rotation around the image's centre; `extent` is width and height."""
        mirror = -1 if rng.random() < self.flip else 1
        angle = np.radians(rng.uniform(-self.rotation, self.rotation))
        cos, sin = np.cos(angle), np.sin(angle)
        linear = np.array([[cos, -sin], [sin, cos]]) * (mirror, 1)
        return _affine(linear, extent / 2 - linear @ (extent / 2))

    def _random_crop(
        self, low: np.ndarray, high: np.ndarray, extent: np.ndarray, rng: np.random.Generator
    ) -> tuple[np.ndarray, np.ndarray]:
        """Corner and size, [2], of a random crop, given the boxes `low` .. `high`, [n, 2] each, around the text."""
        inside = ((high > 0) & (low < extent)).all(1)
        low, high = low[inside], high[inside]
        gaps = [_gaps(low[:, axis], high[:, axis], extent[axis]) for axis in (0, 1)]
        if min(map(len, gaps)) > 0:
            # Both ends of a crop are anywhere in any two gaps, and longer gaps are not more likely.
            ends = [gap[rng.integers(len(gap), size=(self.tries, 2))] for gap in gaps]  # [tries, 2, 2]
            crops = np.sort([rng.uniform(end[..., 0], end[..., 1]) for end in ends], axis=2)  # [axis, tries, 2]
            first, last = crops.transpose(2, 1, 0)  # [tries, axis]
            size = last - first
            good = ((size >= self.min_side * extent) & (size <= self.max_side * extent) & (size > 0)).all(1)
            if len(low):
                good &= ((high > first[:, None]) & (low < last[:, None])).all(2).any(1)
            if good.any():
                first, last = first[good.argmax()], last[good.argmax()]
                if self.widen:
                    _widen(first, last, gaps, rng)
                return first, last - first
        return np.zeros(2), extent

    def _view(
        self, image: np.ndarray, matrix: np.ndarray, size: np.ndarray, detail: float, rng: np.random.Generator
    ) -> np.ndarray:
        """`image` transformed by `matrix`, in the first `size` columns and rows of uint8 [crop, crop, 3]."""
        corners = np.array([[0, 0], [1, 0], [0, 1], [1, 1]]) * size
        needed = _transform(np.linalg.inv(matrix), corners)
        extent = np.array(image.shape[1::-1])
        left, top = first = np.clip(np.floor(needed.min(0)) - _MARGIN, 0, extent - 1).astype(int)
        right, bottom = last = np.clip(np.ceil(needed.max(0)) + _MARGIN, first + 1, extent).astype(int)
        step = 1 + max(last - first) // _MAX_SIDE
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
        columns, rows = size
        beside, below = self.crop - size
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


def _transform(matrix: np.ndarray, points: np.ndarray) -> np.ndarray:
    """Points [n, 2] transformed by an affine matrix [3, 3]."""
    return points @ matrix[:2, :2].T + matrix[:2, 2]


def _gaps(low: np.ndarray, high: np.ndarray, length: float) -> np.ndarray:
    """The parts [m, 2] of 0 .. length that none of the intervals low .. high, [n] each, covers."""
    order = np.argsort(low)
    starts = np.concatenate([[0.0], np.maximum.accumulate(high[order])])
    ends = np.concatenate([low[order], [length]])
    gaps = np.clip(np.column_stack([starts, ends]), 0, length)
    return gaps[gaps[:, 1] > gaps[:, 0]]


def _widen(first: np.ndarray, last: np.ndarray, gaps: list[np.ndarray], rng: np.random.Generator) -> None:
    """Moves the ends of a crop, [2] each, apart along its shorter axis: to a square, or to a gap near that."""
    size = last - first
    axis, longer = int(size.argmin()), size.max()
    starts, ends = gaps[axis].T
    limit = last[axis] + rng.random() * (longer - size[axis])
    last[axis] = min(limit, ends[starts <= limit][-1])
    limit = last[axis] - longer
    first[axis] = max(limit, starts[ends >= limit][0])
