"""Objects in a scene that are no text: poles, fences, wires, people, cars, bushes, lamps, awnings, shadows."""

import math

import cv2
import numpy as np
from numpy.typing import ArrayLike

from tcm_jax.render.materials import TILE, cover, muted_colour, tile
from tcm_jax.render.random_stream import RandomStream
from tcm_jax.render.scenery import colour


def clutter(rng: RandomStream, image: np.ndarray, count: int) -> None:
    """Draws `count` random objects onto `image`, uint8 RGB [h, w, 3], in place."""
    for _ in range(count):
        rng.pick(_OBJECTS)(rng, image)


def _points(points: ArrayLike) -> np.ndarray:
    return np.round(np.array(points)).astype(np.int32)


def _spot(rng: RandomStream, image: np.ndarray) -> tuple[float, float]:
    h, w = image.shape[:2]
    return rng.uniform(0, w), rng.uniform(0, h)


def _length(rng: RandomStream, image: np.ndarray, low: float, high: float) -> float:
    """A log-uniform length between `low` and `high` times the image's shorter side, in pixels."""
    return min(image.shape[:2]) * low * math.exp(rng.random() * math.log(high / low))


def _shaded(paint: np.ndarray, gain: float) -> list[float]:
    return np.clip(paint * gain, 0, 255).tolist()


def _pole(rng: RandomStream, image: np.ndarray) -> None:
    """A pole, pipe or pillar, rounded by its shading."""
    h, w = image.shape[:2]
    x, _ = _spot(rng, image)
    width, lean = _length(rng, image, 0.008, 0.12), rng.uniform(-0.06, 0.06) * h
    top = rng.uniform(-0.1, 0.5) * h if rng.chance(0.4) else -5.0
    bottom = rng.uniform(0.5, 1.1) * h if rng.chance(0.4) else h + 5.0
    ends = [(x, top), (x + lean, bottom)]
    if rng.chance(0.2):  # a horizontal beam, edge or pipe
        ends = [(-5.0, x * h / w), (w + 5.0, x * h / w + lean)]
    paint, stripes = muted_colour(rng), 6
    dx, dy = ends[1][0] - ends[0][0], ends[1][1] - ends[0][1]
    normal = np.array([-dy, dx]) / math.hypot(dx, dy) * width / stripes
    bright = rng.uniform(0, stripes)
    for k in range(stripes):
        corners = [
            np.array(end) + normal * (k + side)
            for end, side in zip((*ends, *ends[::-1]), (0, 0, 1.1, 1.1), strict=True)
        ]
        cv2.fillPoly(image, [_points(corners)], _shaded(paint, 1.25 - 0.16 * abs(k - bright)), cv2.LINE_AA)


def _fence(rng: RandomStream, image: np.ndarray) -> None:
    """Bars between two rails, in perspective."""
    x, y = _spot(rng, image)
    length, height = _length(rng, image, 0.2, 1.5), _length(rng, image, 0.04, 0.5)
    rise, shrink = rng.uniform(-0.3, 0.3) * length, rng.uniform(0.4, 1.4)
    count, paint = rng.between(4, 30), _shaded(muted_colour(rng), rng.uniform(0.3, 1.2))
    thick = max(1, round(height * rng.uniform(0.01, 0.06)))
    upper, lower = [], []
    for k in range(count + 1):
        along = k / count
        upper.append((x + along * length, y + along * rise))
        lower.append((x + along * length, y + along * rise + height * (1 + (shrink - 1) * along)))
    bars = [_points(pair) for pair in zip(upper, lower, strict=True)]
    cv2.polylines(image, bars, False, paint, thick, cv2.LINE_AA)
    cv2.polylines(image, [_points(upper), _points(lower)], False, paint, 2 * thick, cv2.LINE_AA)


def _wires(rng: RandomStream, image: np.ndarray) -> None:
    h, w = image.shape[:2]
    x = np.linspace(0, w, 20)
    for _ in range(rng.between(1, 4)):
        sag = rng.uniform(0, 0.3) * h * 4 * (x / w) * (1 - x / w)
        y = rng.uniform(0, 1) * h + rng.uniform(-0.3, 0.3) * h * x / w + sag
        cv2.polylines(
            image,
            [_points(np.stack([x, y], 1))],
            False,
            _shaded(muted_colour(rng), 0.5),
            rng.between(1, 2),
            cv2.LINE_AA,
        )


def _person(rng: RandomStream, image: np.ndarray) -> None:
    x, y = _spot(rng, image)
    s = _length(rng, image, 0.12, 0.8)  # from head to foot
    skin = np.array([rng.uniform(90, 235), 0, 0])
    skin[1:] = skin[0] * rng.uniform(0.7, 0.85), skin[0] * rng.uniform(0.5, 0.75)
    coat, trousers, hair = colour(rng), muted_colour(rng), np.full(3, rng.uniform(10, 90))
    turn = rng.uniform(0.7, 1.1)

    def at(*points: tuple[float, float]) -> list[np.ndarray]:
        return [_points([(x + a * s * turn, y + b * s) for a, b in points])]

    for side in (-1, 1):
        foot = side * rng.uniform(0.02, 0.1)
        leg = at((0, 0.48), (side * 0.1, 0.48), (foot + side * 0.05, 1.0), (foot - side * 0.03, 1.0))
        cv2.fillPoly(image, leg, _shaded(trousers, 0.8), cv2.LINE_AA)
        elbow, hand = side * rng.uniform(0.1, 0.2), side * rng.uniform(0, 0.2)
        arm = at((side * 0.1, 0.19), (elbow, 0.34), (hand, 0.46))
        cv2.polylines(image, arm, False, _shaded(coat, 0.75), max(1, round(0.06 * s)), cv2.LINE_AA)
    trunk = at((-0.13, 0.17), (0.13, 0.17), (0.11, 0.52), (-0.11, 0.52))
    cv2.fillPoly(image, trunk, _shaded(coat, 0.9), cv2.LINE_AA)
    head = (round(x), round(y + 0.08 * s))
    cv2.ellipse(image, head, (round(0.055 * s), round(0.08 * s)), 0, 0, 360, skin.tolist(), -1, cv2.LINE_AA)
    cv2.ellipse(image, head, (round(0.06 * s), round(0.085 * s)), 0, 180, 360, hair.tolist(), -1, cv2.LINE_AA)


def _car(rng: RandomStream, image: np.ndarray) -> None:
    x, y = _spot(rng, image)
    s, way = _length(rng, image, 0.15, 1.0), rng.sign()
    paint = colour(rng)
    height = rng.uniform(0.28, 0.5)

    def at(points: list[tuple[float, float]]) -> np.ndarray:
        return _points([(x + way * a * s, y + b * s * height) for a, b in points])

    body = [(0, 0.55), (0.14, 0.45), (0.3, 0.08), (0.7, 0.05), (0.85, 0.42), (1, 0.5), (1, 0.85), (0, 0.85)]
    cv2.fillPoly(image, [at(body)], _shaded(paint, 0.9), cv2.LINE_AA)
    cv2.fillPoly(image, [at([(0, 0.66), (1, 0.62), (1, 0.85), (0, 0.85)])], _shaded(paint, 0.65), cv2.LINE_AA)
    glass = _shaded(np.array([90.0, 105, 120]), rng.uniform(0.3, 1.6))
    cv2.fillPoly(image, [at([(0.19, 0.44), (0.32, 0.14), (0.49, 0.12), (0.49, 0.44)])], glass, cv2.LINE_AA)
    cv2.fillPoly(image, [at([(0.52, 0.44), (0.52, 0.12), (0.68, 0.11), (0.8, 0.44)])], glass, cv2.LINE_AA)
    for a in (0.2, 0.8):
        centre = tuple(at([(a, 0.87)])[0].tolist())
        cv2.circle(image, centre, round(0.085 * s), (22, 22, 24), -1, cv2.LINE_AA)
        cv2.circle(image, centre, round(0.045 * s), (150, 150, 155), -1, cv2.LINE_AA)


def _bush(rng: RandomStream, image: np.ndarray) -> None:
    """A ragged piece of some material: a bush, a crown, a heap, a stain, a cloud."""
    h, w = image.shape[:2]
    x, y = _spot(rng, image)
    s = round(_length(rng, image, 0.08, 0.6))
    angles = np.linspace(0, 2 * math.pi, 48, endpoint=False)
    radius = np.full(len(angles), 0.36)
    for n in (1, 2, 3, 5, 9, 14):
        radius += rng.uniform(0, 0.16 / n**0.7) * np.sin(n * angles + rng.uniform(0, 6.3))
    outline = np.stack([np.cos(angles), np.sin(angles)], 1) * radius[:, None] * (s, s * rng.uniform(0.5, 1.2)) + (x, y)
    x0, y0 = np.clip(np.floor(outline.min(0)).astype(int), 0, (w - 1, h - 1))
    x1, y1 = np.clip(np.ceil(outline.max(0)).astype(int) + 1, (x0 + 1, y0 + 1), (w, h))
    leafy = rng.chance(0.7)
    base = np.array([rng.uniform(40, 110), rng.uniform(80, 160), rng.uniform(20, 70)]) if leafy else muted_colour(rng)
    grey = tile(rng, "leaves" if leafy else "surface")
    rows, columns = min(TILE, int(y1 - y0)), min(TILE, int(x1 - x0))
    sheet = cover(rng, grey[:rows, :columns], base, rng.uniform(0.5, 0.95))
    sheet = cv2.resize(sheet, (int(x1 - x0), int(y1 - y0)), interpolation=cv2.INTER_LINEAR)
    mask = np.zeros(sheet.shape[:2], np.uint8)
    cv2.fillPoly(mask, [_points(outline - (x0, y0))], 255)
    if leafy:  # frayed: only where the leaves are bright, near the edge
        inner = cv2.erode(mask, np.ones((3, 3), np.uint8), iterations=max(1, s // 16))
        bright = cv2.resize(grey[:rows, :columns], mask.shape[::-1], interpolation=cv2.INTER_LINEAR) > 110
        mask &= np.where(bright, 255, inner).astype(np.uint8)
    cv2.copyTo(sheet, mask, image[y0:y1, x0:x1])


def _lamps(rng: RandomStream, image: np.ndarray) -> None:
    """Lamps and reflections that glow, alone or in a row."""
    h, w = image.shape[:2]
    x, y = _spot(rng, image)
    radius, count = _length(rng, image, 0.004, 0.05), rng.pick((1, 1, 2, 4, 7))
    dx, dy = rng.uniform(-0.15, 0.15) * w, rng.uniform(-0.1, 0.1) * h
    tint = np.array([255, rng.uniform(215, 255), rng.uniform(150, 255)])
    long = rng.pick((1.0, 1.0, 2.5, 5.0))
    for k in range(count):
        reach = round(radius * 5 * long) + 2
        cx, cy = round(x + k * dx), round(y + k * dy)
        x0, y0, x1, y1 = max(cx - reach, 0), max(cy - reach, 0), min(cx + reach, w), min(cy + reach, h)
        if x1 <= x0 or y1 <= y0:
            continue
        u = ((np.arange(x0, x1, dtype=np.float32) - cx) / (radius * long)) ** 2
        v = ((np.arange(y0, y1, dtype=np.float32) - cy) / radius) ** 2
        glow = np.minimum(1.4 / (1 + (u + v[:, None]) ** 1.5), 1)[..., None]
        piece = image[y0:y1, x0:x1]
        piece[:] = piece + ((tint - piece) * glow).astype(np.int16)


def _awning(rng: RandomStream, image: np.ndarray) -> None:
    """Stripes that fall towards the viewer, with a scalloped or straight hem."""
    x, y = _spot(rng, image)
    width, height = _length(rng, image, 0.2, 0.9), _length(rng, image, 0.05, 0.2)
    spread, count = rng.uniform(0, 0.2) * width, rng.between(4, 18)
    paints = (_shaded(colour(rng), 0.9), _shaded(np.full(3, rng.uniform(120, 240)), 1))
    for k in range(count):
        a, b = k / count, (k + 1) / count
        low = [x - spread + t * (width + 2 * spread) for t in (a, b)]
        corners = [(x + a * width, y), (x + b * width, y), (low[1], y + height), (low[0], y + height)]
        cv2.fillPoly(image, [_points(corners)], paints[k % 2], cv2.LINE_AA)
        middle, reach = (round((low[0] + low[1]) / 2), round(y + height)), max(1, round((low[1] - low[0]) / 2))
        cv2.ellipse(image, middle, (reach, max(1, round(0.2 * height))), 0, 0, 180, paints[k % 2], -1, cv2.LINE_AA)


def _box(rng: RandomStream, image: np.ndarray) -> None:
    """A box, kiosk or machine: three faces, two of them seen from the side."""
    x, y = _spot(rng, image)
    width, height = _length(rng, image, 0.05, 0.5), _length(rng, image, 0.05, 0.5)
    dx, dy = rng.uniform(-0.5, 0.5) * width, -rng.uniform(0, 0.3) * height
    body = muted_colour(rng)
    front = [(x, y), (x + width, y), (x + width, y + height), (x, y + height)]
    edge = x + width if dx > 0 else x
    side = [(edge, y), (edge + dx, y + dy), (edge + dx, y + dy + height), (edge, y + height)]
    top = [(x, y), (x + width, y), (x + width + dx, y + dy), (x + dx, y + dy)]
    for face, gain in ((front, 0.9), (side, 0.6), (top, 1.15)):
        cv2.fillPoly(image, [_points(face)], _shaded(body, gain), cv2.LINE_AA)
    for _ in range(rng.below(4)):  # doors, slots, knobs
        a, b = rng.uniform(0.05, 0.7), rng.uniform(0.05, 0.8)
        corner = (round(x + width * a), round(y + height * b))
        far = (round(x + width * rng.uniform(a, 0.95)), round(y + height * rng.uniform(b, 0.95)))
        paint = _shaded(muted_colour(rng), rng.uniform(0.3, 1.2))
        cv2.rectangle(image, corner, far, paint, rng.pick((-1, 1, 2)), cv2.LINE_AA)


_OBJECTS = (_pole, _pole, _fence, _wires, _person, _person, _car, _bush, _bush, _lamps, _lamps, _awning, _box, _box)


def shade(rng: RandomStream, image: np.ndarray, strength: float) -> None:
    """Casts shadows and darkens the corners of `image`, float32 [h, w, 3], in place; `strength` is in 0 .. 1."""
    h, w = image.shape[:2]
    rows, columns = h // 4, w // 4
    light = np.ones((rows, columns), np.float32)
    for _ in range(rng.between(0, 3)):
        if rng.chance(0.5):  # straight: of a roof, a wall, a pole
            (x, y), angle = (rng.uniform(0, columns), rng.uniform(0, rows)), rng.uniform(0, 180)
            size = (rng.uniform(0.05, 0.8) * columns, 3.0 * rows)
            corners = cv2.boxPoints(((x, y), size, angle))
        else:
            corners = np.array([[rng.uniform(-0.3, 1.3) * columns, rng.uniform(-0.3, 1.3) * rows] for _ in range(5)])
        cv2.fillPoly(light, [_points(corners)], 1 - strength * rng.uniform(0.1, 0.6))
    light = cv2.GaussianBlur(light, (0, 0), 0.3 + rng.random() ** 2 * 6)
    if rng.chance(0.5):
        u = np.linspace(-1, 1, columns, dtype=np.float32) - rng.uniform(-0.4, 0.4)
        v = np.linspace(-1, 1, rows, dtype=np.float32) - rng.uniform(-0.4, 0.4)
        light = light * (1 - np.float32(strength * rng.uniform(0, 0.35)) * (u**2 + v[:, None] ** 2))
    image *= cv2.resize(light, (w, h), interpolation=cv2.INTER_LINEAR)[..., None]
