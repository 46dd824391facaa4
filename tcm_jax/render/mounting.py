"""Flat pieces brought into a scene: where they go, in what perspective, and their outlines there."""

import math

import cv2
import numpy as np

from tcm_jax.render.random_stream import RandomStream
from tcm_jax.render.warping import bent, project, random_tilt, warp_bent

_FREE_STEP = 4  # pixels of the scene per cell of the map of what is taken
_CURVED = 0.22  # the share of curved pieces at the highest difficulty
_SAGITTA = 0.3  # pixels that a piece of a curved edge may be off


class Mount:
    """The way from a flat piece to the scene: a bend, then a homography.

    flat: flat pixels -> plane of the bend, centred, [3, 3]; radius: of the bend, 0 for none; plane: -> scene, [3, 3].
    """

    def __init__(self, size: tuple[int, int], scale: float, radius: float, plane: np.ndarray):
        w, h = size
        self.size, self.radius, self.plane = size, radius, plane
        self.flat = np.array([[scale, 0, -scale * (w - 1) / 2], [0, scale, -scale * (h - 1) / 2], [0, 0, 1]])

    def points(self, flat: np.ndarray) -> np.ndarray:
        """Flat pixels [n, 2] in the scene, float32 [n, 2]."""
        points = project(self.flat, flat.T)
        if self.radius:
            points = bent(points, self.radius)
        return project(self.plane, points).T.astype(np.float32)

    def outline(self, box: tuple[float, float, float, float]) -> np.ndarray:
        """The polygon of a flat box of whole pixels, clockwise from its top left: 4 points, 8 to 26 on a curve."""
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
        """`layers` [h, w, c] as seen in the scene's x0, y0, x1, y1."""
        x0, y0, x1, y1 = area
        crop = np.array([[1, 0, -x0], [0, 1, -y0], [0, 0, 1]]) @ self.plane
        if self.radius:
            return warp_bent(layers, self.flat, self.radius, crop, (x1 - x0, y1 - y0))
        return cv2.warpPerspective(layers, crop @ self.flat, (x1 - x0, y1 - y0), flags=cv2.INTER_LINEAR)


class Room:
    """Which parts of a scene of `size` (h, w) are taken, and the perspective of its main wall."""

    def __init__(self, dice: RandomStream, size: tuple[int, int], difficulty: float):
        self.size = h, w = size
        self._taken = np.zeros((-(-h // _FREE_STEP), -(-w // _FREE_STEP)), np.uint8)
        centre = np.array([[1, 0, w / 2], [0, 1, h / 2], [0, 0, 1]])
        self.view = centre @ random_tilt(dice, w, h, 0.7 * difficulty) @ np.linalg.inv(centre)

    def mount(self, dice: RandomStream, size: tuple[int, int], scale: float, difficulty: float) -> Mount | None:
        """A free place for a flat piece of `size` (w, h), drawn `scale` times as large or smaller; None if none."""
        h, w = self.size
        for attempt in range(10):
            scale *= 0.9 if attempt else 1.0
            width, height = size[0] * scale, size[1] * scale
            x, y = dice.uniform(0, w), dice.uniform(0, h)
            stretch = math.exp(dice.uniform(-1, 1) * (0.06 + 0.2 * difficulty))
            radius = 0.0
            if width > 1.5 * height and dice.chance(_CURVED * difficulty):
                # Not so narrow that the lines on its inner side have no room.
                radius = dice.sign() * max(width / dice.uniform(0.4, 1.8), 1.2 * height)
            plane = np.array([[1, 0, x], [0, 1, y], [0, 0, 1.0]])
            if dice.chance(0.5):
                plane = self.view @ plane
                plane = plane / plane[2, 2]
                if plane[2, 2] <= 0:
                    continue
            else:
                plane = plane @ random_tilt(dice, width, height, difficulty)
                if dice.chance(0.08 * difficulty):
                    plane = plane @ _turn(dice)
            mount = Mount(size, scale, radius, plane @ np.diag([stretch, 1, 1]))
            if self._take(mount.outline((0, 0, *size))):
                return mount
        return None

    def _take(self, outline: np.ndarray) -> bool:
        """Takes the area of `outline` if it is within the scene (but for a little) and free."""
        h, w = self.size
        slack = 0.02 * min(h, w)
        if not np.isfinite(outline).all() or (outline < -slack).any() or (outline > (w + slack, h + slack)).any():
            return False
        area = np.zeros_like(self._taken)
        cv2.fillPoly(area, [np.round(outline / _FREE_STEP).astype(np.int32)], 1)
        if (self._taken & area).any():
            return False
        self._taken |= area
        return True


def _turn(dice: RandomStream) -> np.ndarray:
    angle = dice.pick((-math.pi / 2, math.pi / 2, dice.uniform(-math.pi, math.pi)))
    cos, sin = math.cos(angle), math.sin(angle)
    return np.array([[cos, -sin, 0], [sin, cos, 0], [0, 0, 1]])


def area_of(outline: np.ndarray, size: tuple[int, int]) -> tuple[int, int, int, int] | None:
    """The pixels x0, y0, x1, y1 around an outline within a scene of `size` (h, w), None if there are none."""
    h, w = size
    x0, y0 = np.maximum(np.floor(outline.min(0)).astype(int) - 1, 0)
    x1, y1 = np.minimum(np.ceil(outline.max(0)).astype(int) + 2, (w, h))
    return (int(x0), int(y0), int(x1), int(y1)) if x1 > x0 and y1 > y0 else None
