"""Places flat text blocks in a scene: where, in what perspective, and their outlines there."""

import math

import cv2
import numpy as np

from tcm_jax.render.random_stream import RandomStream
from tcm_jax.render.warping import bent, project, random_tilt, warp_bent

_CELL = 4  # pixels of the scene per cell of the occupancy map
_CURVED = 0.22  # share of curved blocks at difficulty 1
_SAGITTA = 0.3  # pixels by which a straight segment of an outline may miss the curve


class Projection:
    """The mapping from a flat block to the scene: a bend, then a homography.

    Args:
        size: width and height of the block in pixels.
        scale: of the block before it is bent.
        radius: of the bend in pixels, 0 for none; its sign says which way.
        plane: homography from the centred, bent block to the scene, [3, 3].
    """

    def __init__(self, size: tuple[int, int], scale: float, radius: float, plane: np.ndarray):
        w, h = size
        self.size, self.radius, self.plane = size, radius, plane
        self.flat = np.array([[scale, 0, -scale * (w - 1) / 2], [0, scale, -scale * (h - 1) / 2], [0, 0, 1]])

    def points(self, flat: np.ndarray) -> np.ndarray:
        """Maps points of the block [n, 2] to the scene, float32 [n, 2]; x and y in pixels."""
        points = project(self.flat, flat.T)
        if self.radius:
            points = bent(points, self.radius)
        return project(self.plane, points).T.astype(np.float32)

    def outline(self, box: tuple[float, float, float, float]) -> np.ndarray:
        """The polygon in the scene, float32 [n, 2], of a box of whole pixels of the block.

        It starts at the top left and runs clockwise, with 4 points, or 8 to 26 if the block is curved.
        """
        left, top, right, bottom = box
        steps = 2
        if self.radius:
            length = (right - left) * self.flat[0, 0]
            steps = 1 + min(max(math.ceil(length / math.sqrt(8 * _SAGITTA * abs(self.radius))), 3), 12)
        along = np.linspace(left - 0.5, right - 0.5, steps)  # pixel i reaches from i - 0.5 to i + 0.5
        upper = np.stack([along, np.full(steps, top - 0.5)], 1)
        lower = np.stack([along[::-1], np.full(steps, bottom - 0.5)], 1)
        return self.points(np.concatenate([upper, lower]))

    def warp(self, layers: np.ndarray, area: tuple[int, int, int, int]) -> np.ndarray:
        """Warps `layers` [h, w, c] of the block to the scene's `area` x0, y0, x1, y1: [y1 - y0, x1 - x0, c]."""
        x0, y0, x1, y1 = area
        crop = np.array([[1, 0, -x0], [0, 1, -y0], [0, 0, 1]]) @ self.plane
        if self.radius:
            return warp_bent(layers, self.flat, self.radius, crop, (x1 - x0, y1 - y0))
        return cv2.warpPerspective(layers, crop @ self.flat, (x1 - x0, y1 - y0), flags=cv2.INTER_LINEAR)


class SceneLayout:
    """Which parts of a scene are occupied, and the perspective of its main wall.

    Args:
        size: height and width of the scene in pixels.
        difficulty: 0 (frontal wall) to 1.

    Attributes:
        view: homography of the main wall, scene pixels -> scene pixels, [3, 3].
    """

    def __init__(self, rng: RandomStream, size: tuple[int, int], difficulty: float):
        self.size = h, w = size
        self._occupied = np.zeros((-(-h // _CELL), -(-w // _CELL)), np.uint8)
        centre = np.array([[1, 0, w / 2], [0, 1, h / 2], [0, 0, 1]])
        self.view = centre @ random_tilt(rng, w, h, 0.7 * difficulty) @ np.linalg.inv(centre)

    def place(self, rng: RandomStream, size: tuple[int, int], scale: float, difficulty: float) -> Projection | None:
        """Finds a free place for a block of `size` (w, h), scaled by `scale` or less, and occupies it; None if full."""
        h, w = self.size
        for attempt in range(10):
            scale *= 0.9 if attempt else 1.0
            width, height = size[0] * scale, size[1] * scale
            x, y = rng.uniform(0, w), rng.uniform(0, h)
            stretch = math.exp(rng.uniform(-1, 1) * (0.06 + 0.2 * difficulty))
            radius = 0.0
            if width > 1.5 * height and rng.chance(_CURVED * difficulty):
                # Not so narrow that the lines on its inner side have no room.
                radius = rng.sign() * max(width / rng.uniform(0.4, 1.8), 1.2 * height)
            plane = np.array([[1, 0, x], [0, 1, y], [0, 0, 1.0]])
            if rng.chance(0.5):
                plane = self.view @ plane
                plane = plane / plane[2, 2]
                if plane[2, 2] <= 0:
                    continue
            else:
                plane = plane @ random_tilt(rng, width, height, difficulty)
                if rng.chance(0.08 * difficulty):
                    plane = plane @ _rotation(rng)
            projection = Projection(size, scale, radius, plane @ np.diag([stretch, 1, 1]))
            if self._occupy(projection.outline((0, 0, *size))):
                return projection
        return None

    def _occupy(self, outline: np.ndarray) -> bool:
        """Occupies the area of `outline` if it is free and leaves the scene by 2 % of a side at most."""
        h, w = self.size
        slack = 0.02 * min(h, w)
        if not np.isfinite(outline).all() or (outline < -slack).any() or (outline > (w + slack, h + slack)).any():
            return False
        area = np.zeros_like(self._occupied)
        cv2.fillPoly(area, [np.round(outline / _CELL).astype(np.int32)], 1)
        if (self._occupied & area).any():
            return False
        self._occupied |= area
        return True


def _rotation(rng: RandomStream) -> np.ndarray:
    """A rotation by 90 degrees or any other angle, [3, 3]."""
    angle = rng.pick((-math.pi / 2, math.pi / 2, rng.uniform(-math.pi, math.pi)))
    cos, sin = math.cos(angle), math.sin(angle)
    return np.array([[cos, -sin, 0], [sin, cos, 0], [0, 0, 1]])


def area_of(outline: np.ndarray, size: tuple[int, int]) -> tuple[int, int, int, int] | None:
    """The box x0, y0, x1, y1 around an outline, clipped to a scene of `size` (h, w); None if it is empty."""
    h, w = size
    x0, y0 = np.maximum(np.floor(outline.min(0)).astype(int) - 1, 0)
    x1, y1 = np.minimum(np.ceil(outline.max(0)).astype(int) + 2, (w, h))
    return (int(x0), int(y0), int(x1), int(y1)) if x1 > x0 and y1 > y0 else None
