"""FCENet's training targets, on the host.

Sources: mmocr 0.4 datasets/pipelines/textdet_targets/{fcenet,textsnake}_targets.py and TCM's
ocrclip/datasets/textdet_targets.py, which adds the maps at stride 32 for the score map.
"""

import math
from collections.abc import Sequence

import cv2
import numpy as np

from tcm_jax.detection.polygons import COORDINATE_LIMIT, fill, to_pixels

RESAMPLED_POINTS = 400  # of a contour, before its Fourier transform
START_CANDIDATES = 8  # points nearest to the vertical through the center, of which the highest is the first
MIN_EXTENT = 1e-3  # pixels
ORIENTATION_RATIO = 2.0  # a quadrilateral's vertical sides are its text lines if they are this many times longer


def fce_targets(
    polygons: Sequence[np.ndarray],
    ignored: Sequence[np.ndarray],
    size: tuple[int, int],
    *,
    strides: Sequence[int],
    ranges: Sequence[tuple[float, float]],
    degree: int,
    resample_step: float,
    center_ratio: float,
) -> list[np.ndarray]:
    """Maps of every level, float32 [h / stride, w / stride, 3 + 2 (2 k + 1)].

    Channels: text region, center region, 1 where the level is trained (0 in ignored regions), and the real and then
    imaginary parts of the Fourier coefficients -k..k of the text's outline in pixels of the level, the 0th relative
    to the pixel. Later texts cover earlier ones.

    Args:
        polygons, ignored, size: see `TextDetector.targets`. Texts that have no sides to follow are ignored: with
            fewer than four corners, without extent, or with coordinates that are not finite or absurdly large.
        strides, ranges: of every level; it holds the texts and ignored regions whose longer side in units of the
            image's height lies within, limits excluded.
        degree: k.
        resample_step: length of the pieces that a center region is drawn of, in pixels of the level.
        center_ratio: height of the center region in units of the text's.
    """
    usable = [_is_usable(p) for p in polygons]
    texts = [_Text(p, degree) for p, ok in zip(polygons, usable, strict=True) if ok]
    others = [np.asarray(p, np.float32) for p in ignored]
    others += [np.asarray(p, np.float32) for p, ok in zip(polygons, usable, strict=True) if not ok]
    text_sizes = [_longer_side(t.polygon) / (size[0] + 1e-8) for t in texts]
    other_sizes = [_longer_side(p) / (size[0] + 1e-8) for p in others]
    levels = []
    for stride, (low, high) in zip(strides, ranges, strict=True):
        shape = (size[0] // stride, size[1] // stride)
        present = [t for t, s in zip(texts, text_sizes, strict=True) if low < s < high]
        absent = [p for p, s in zip(others, other_sizes, strict=True) if low < s < high]
        levels.append(_level_maps(present, absent, shape, stride, degree, resample_step, center_ratio))
    return levels


class _Text:
    """What all levels share of a text: outline, its two long sides and its Fourier coefficients."""

    def __init__(self, polygon: np.ndarray, degree: int):
        self.polygon = np.asarray(polygon, np.float32)
        self.top, self.bottom = sidelines(self.polygon)
        self.signature = fourier_signature(self.polygon, degree)


def _is_usable(polygon: np.ndarray) -> bool:
    within = np.abs(polygon) < COORDINATE_LIMIT  # False for NaN
    return len(polygon) >= 4 and bool(within.all() and np.ptp(polygon, axis=0).max() > MIN_EXTENT)


def _longer_side(polygon: np.ndarray) -> int:
    """Of the upright box around the truncated corners, counted in pixels."""
    points = to_pixels(polygon)
    return int(np.ptp(points, axis=0).max()) + 1 if len(points) else 0


def _level_maps(
    texts: list[_Text],
    ignored: list[np.ndarray],
    shape: tuple[int, int],
    stride: int,
    degree: int,
    resample_step: float,
    center_ratio: float,
) -> np.ndarray:
    owner = np.zeros(shape, np.int32)  # 1-based number of the text that a pixel belongs to
    center = np.zeros(shape, np.uint8)
    trained = np.ones(shape, np.uint8)
    pieces = []
    for i, text in enumerate(texts):
        fill(owner, text.polygon / stride, i + 1)
        pieces.append(center_pieces(text.top / stride, text.bottom / stride, resample_step, center_ratio))
    if pieces:
        # One call for all: where pieces overlap, they cancel. So were the released models trained.
        cv2.fillPoly(center, list(np.concatenate(pieces)), 1)
    for polygon in ignored:
        fill(trained, polygon / stride, 0)

    table = np.zeros((len(texts) + 1, 2 * (2 * degree + 1)), np.float32)
    for i, text in enumerate(texts):
        table[i + 1] = np.concatenate([text.signature.real, text.signature.imag]) / stride
    maps = np.empty((*shape, 3 + table.shape[1]), np.float32)
    maps[..., 0] = owner > 0
    maps[..., 1] = center
    maps[..., 2] = trained
    maps[..., 3:] = table[owner]
    rows, columns = np.nonzero(owner)
    maps[rows, columns, 3 + degree] -= columns
    maps[rows, columns, 3 + 3 * degree + 1] -= rows
    return maps


def fourier_signature(polygon: np.ndarray, degree: int) -> np.ndarray:
    """Coefficients -degree..degree, complex [2 degree + 1], of an outline that is followed clockwise at even speed
    from its highest point near the vertical through its center.

    Of a symmetric outline several points are equally near but for rounding. Single precision and the order of the
    operations are the original's, so that mostly the same points are chosen.
    """
    corners = np.asarray(polygon, np.float32)
    edges = np.roll(corners, -1, axis=0) - corners
    lengths = np.sqrt(np.square(edges).sum(1), dtype=np.float64)
    counts = (lengths / (lengths.sum() + 1e-8) * RESAMPLED_POINTS).astype(np.int64)
    if counts.sum() <= 2 * degree:  # every edge lost its fraction of a point: the corners are points enough
        counts[:] = 1
    steps = edges / np.maximum(counts, 1)[:, None].astype(np.float32)
    place = np.arange(counts.sum()) - np.repeat(np.cumsum(counts) - counts, counts)  # on its edge
    points = np.repeat(corners, counts, axis=0) + np.repeat(steps, counts, axis=0) * place[:, None].astype(np.float32)

    distance = np.abs(points[:, 0] - points.mean(0)[0])
    near = np.argsort(distance, kind="stable")[:START_CANDIDATES]
    points = np.roll(points @ (1, 1j), -near[np.argmin(points[near, 1])])  # complex [p]

    spectrum = np.fft.fft(points) / len(points)
    c = np.concatenate([spectrum[len(points) - degree :], spectrum[: degree + 1]])
    # Clockwise the first coefficient is larger than the -1st, or, if they are equal, the second than the -2nd.
    forward, backward = np.abs(c)[degree + 1 : degree + 3], np.abs(c[::-1])[degree + 1 : degree + 3]
    clockwise = forward[0] > backward[0] or (forward[0] == backward[0] and forward[1] > backward[1])
    return c if clockwise else c[::-1]


def sidelines(polygon: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The upper and the lower long side of a text, [n, 2] each, in the order of the outline.

    Both ends are cut off: of more than four corners the two edges that turn most sharply, lie far out and opposite.
    """
    n = len(polygon)
    head, tail = _quad_ends(polygon) if n == 4 else _curve_ends(polygon)
    double = np.concatenate([polygon, polygon])
    one, other = double[head:tail], double[tail : head + n]
    return (other, one) if one[:, 1].mean() > other[:, 1].mean() else (one, other)


def _quad_ends(quad: np.ndarray) -> tuple[int, int]:
    """The corners behind the two end edges."""
    (ax, ay), (bx, by), (cx, cy), (dx, dy) = quad.tolist()
    edges = [(bx - ax, by - ay), (cx - bx, cy - by), (dx - cx, dy - cy), (ax - dx, ay - dy)]
    slopes = [abs(y / (x + 1e-8)) for x, y in edges]
    lengths = [math.hypot(x, y) for x, y in edges]
    flat = 0 if slopes[0] + slopes[2] < slopes[1] + slopes[3] else 1  # first of the two rather horizontal edges
    steep_length, flat_length = lengths[1 - flat] + lengths[3 - flat], lengths[flat] + lengths[flat + 2]
    vertical_text = steep_length > flat_length * ORIENTATION_RATIO
    end = flat if vertical_text else 1 - flat
    return (1, 3) if end == 0 else (0, 2)


def _curve_ends(polygon: np.ndarray) -> tuple[int, int]:
    """The corners behind the two end edges."""
    n = len(polygon)
    points = polygon.astype(np.float64)
    following = np.roll(points, -1, axis=0)
    edges = following - points
    units = edges / (np.linalg.norm(edges, axis=1, keepdims=True) + 1e-8)
    before = np.roll(units, 1, axis=0)
    turns = _angles(before, units)
    opposite = _angles(before, np.roll(units, -1, axis=0))
    radii = np.linalg.norm(points - points.mean(0), axis=1)
    reach = np.maximum(radii, np.roll(radii, -1))
    score = (0.5 * (turns + np.roll(turns, -1)) + 0.15 * opposite) / np.pi + 0.35 * reach / (reach.max() + 1e-8)
    if n % 2 == 0:  # where annotators put the ends
        score[[n // 2 - 1, n - 1]] += 0.1
    places = np.linspace(-1, 1, n - 3)
    weights = np.exp(-places * places / 2)
    weights /= weights.max()
    start = np.arange(n)
    partner = (start[:, None] + np.arange(2, n - 1)) % n  # [n, n - 3], edges that are no neighbors
    pair = score[:, None] + 0.3 * weights * score[partner]
    i, j = np.unravel_index(pair.argmax(), pair.shape)
    ends = sorted([(int(i) + 1) % n, (int(partner[i, j]) + 1) % n])
    return ends[0], ends[1]


def _angles(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    return np.arccos(np.clip((a * b).sum(1), -1, 1))


def center_pieces(top: np.ndarray, bottom: np.ndarray, step: float, ratio: float) -> np.ndarray:
    """Quadrilaterals, int32 [m, 4, 2], that tile the center region between two sides of opposite directions.

    A quarter of the height is left out at each end if enough remains.
    """
    lengths = [np.concatenate([[0], np.cumsum(np.linalg.norm(np.diff(s, axis=0), axis=1))]) for s in (top, bottom)]
    n = max(int((lengths[0][-1] + lengths[1][-1]) / 2 / step) + 1, 3)
    upper, lower = _resample(top, lengths[0], n), _resample(bottom, lengths[1], n)[::-1]
    halves = (upper - lower) / 2
    head, tail = (int(2 * math.hypot(*halves[i]) / 4 // step) for i in (0, -1))
    kept = slice(head, n - tail) if n > head + tail + 2 else slice(None)
    center, reach = (upper - halves)[kept], halves[kept] * ratio
    above, below = center + reach, center - reach
    return np.stack([above[:-1], above[1:], below[1:], below[:-1]], axis=1).astype(np.int32)  # [m, 4, 2]


def _resample(line: np.ndarray, lengths: np.ndarray, n: int) -> np.ndarray:
    """n points at even distances along a line, [n, 2]. `lengths`: from its start to each of its points."""
    places = np.linspace(0, lengths[-1], n)
    return np.stack([np.interp(places, lengths, line[:, 0]), np.interp(places, lengths, line[:, 1])], axis=1)
