"""The order in which the words of an image are read, and their lines.

Words become lines by links from each word to the next, lines become blocks by links to the line below, and blocks are
ordered by cutting the image at gaps, in rows and then in columns (the recursive X-Y cut of Nagy and Seth, 1984).
"""

import math
from collections.abc import Sequence

import numpy as np

from tcm_jax.spotting.outlines import sides

GAP = 1.5  # most space between words of a line, in heights
OVERLAP = 0.6  # most by which their boxes overlap
OFFSET = 0.45  # most distance of their middles across the line
TALLER = 2.0  # most ratio of their heights; of capitals to letters as low as "a" it is about 1.5
TILT = math.cos(math.radians(30))  # between their directions; neighbours on an arc differ
SHORT, SHORT_TILT = 1.5, math.cos(math.radians(45))  # the direction of words not longer than this is less certain
LEADING = 1.0  # most space between lines of a block, in heights of the smaller one
SHARED = 0.3  # least part of the narrower of two lines of a block that lies above or below the other
SHAVED = 0.15  # of a line's height, by which rows may overlap


def reading_order(polygons: Sequence[np.ndarray], turns: Sequence[int] | None = None) -> list[list[int]]:
    """The words of an image in lines, each a list of numbers of polygons; every number occurs once.

    A line runs in the direction of its words, left to right, and has words of similar height, one beside the other
    with less than `GAP` heights between them. Lines are ordered from top to bottom, in the direction that most of the
    text has; lines that stand one below the other stay together, so that columns are read one after the other.
    Polygons without an inside come last, each as a line.

    Args:
        polygons: of the words, [n, 2] each, x and y in pixels.
        turns: degrees, counter-clockwise, by which each word had to be turned to be read (`crops.Candidate`).
    """
    turns = [0] * len(polygons) if turns is None else turns
    found = [sides(polygon) for polygon in polygons]
    inside = [i for i, word in enumerate(found) if word is not None]
    last = [[i] for i, word in enumerate(found) if word is None]
    if not inside:
        return last
    corners = [
        np.roll(word.corners, -(turn // 90), 0) for word, turn in zip(found, turns, strict=True) if word is not None
    ]
    words = _Words(np.stack(corners))
    lines = _chains(len(inside), _next_words(words))
    boxes, heights = _line_boxes(words, lines)
    blocks = _chains(len(lines), _lines_below(boxes, heights))
    order = [line for block in _cut(boxes, heights, blocks) for line in blocks[block]]
    return [[inside[word] for word in lines[line]] for line in order] + last


class _Words:
    """What is known of n words with corners [n, 4, 2], clockwise from the top left."""

    def __init__(self, corners: np.ndarray):
        a, b, c, d = corners.transpose(1, 0, 2)
        self.corners = corners
        self.start, self.end = (a + d) / 2, (b + c) / 2  # the middles of the left and the right side, [n, 2]
        self.width = np.maximum(np.linalg.norm(self.end - self.start, axis=1), 1e-6)
        self.height = (np.linalg.norm(d - a, axis=1) + np.linalg.norm(c - b, axis=1)) / 2
        self.direction = (self.end - self.start) / self.width[:, None]


def _next_words(words: _Words) -> np.ndarray:
    """Pairs (word, word to its right in its line), int [m, 2], the most certain ones first."""
    longer = words.width[:, None] >= words.width
    direction = np.where(longer[..., None], words.direction[:, None], words.direction)  # of the pair, [n, n, 2]
    gap = words.start - words.end[:, None]
    along, across = (gap * direction).sum(-1), np.abs(_cross(direction, gap))
    middle = (words.start + words.end) / 2
    forward = ((middle - middle[:, None]) * direction).sum(-1)
    slender = np.minimum.outer(words.width / words.height, words.width / words.height)
    height = np.add.outer(words.height, words.height) / 2
    linked = (
        (forward > 0)
        & (along >= -OVERLAP * height)
        & (along <= GAP * height)
        & (across <= OFFSET * height)
        & (np.maximum.outer(words.height, words.height) <= TALLER * np.minimum.outer(words.height, words.height))
        & (words.direction @ words.direction.T >= np.where(slender < SHORT, SHORT_TILT, TILT))
    )
    pairs = np.argwhere(linked)
    cost = ((np.maximum(along, 0) + across) / height)[linked]
    return pairs[np.argsort(cost, kind="stable")]


def _line_boxes(words: _Words, lines: list[list[int]]) -> tuple[np.ndarray, np.ndarray]:
    """Boxes [m, 4] (left, top, right, bottom) around the lines, and the mean heights [m] of their words.

    Left is where most of the text begins: the image is turned by the median angle of the lines, weighted by length.
    """
    extents = np.array([words.end[line[-1]] - words.start[line[0]] for line in lines])
    angles, lengths = np.arctan2(extents[:, 1], extents[:, 0]), np.linalg.norm(extents, axis=1)
    order = np.argsort(angles, kind="stable")
    passed = np.cumsum(lengths[order])
    angle = angles[order[np.searchsorted(passed, passed[-1] / 2)]]
    cos, sin = math.cos(angle), math.sin(angle)
    corners = words.corners @ np.array([[cos, -sin], [sin, cos]])  # [n, 4, 2]
    points = [corners[line].reshape(-1, 2) for line in lines]
    boxes = np.array([[*p.min(0), *p.max(0)] for p in points])
    return boxes, np.array([words.height[line].mean() for line in lines])


def _lines_below(boxes: np.ndarray, heights: np.ndarray) -> np.ndarray:
    """Pairs (line, line below it in its block), int [m, 2].

    A line over two columns, or one below them, belongs to neither: both lines of a pair have only each other.
    """
    left, top, right, bottom = boxes.T
    height = np.minimum.outer(heights, heights)
    gap = top - bottom[:, None]
    shared = np.minimum.outer(right, right) - np.maximum.outer(left, left)
    below = (
        (gap <= LEADING * height)
        & (gap >= -height / 2)
        & np.less.outer(top + bottom, top + bottom)
        & (shared >= SHARED * np.minimum.outer(right - left, right - left))
    )
    alone = (below.sum(1, keepdims=True) == 1) & (below.sum(0) == 1)
    return np.argwhere(below & alone)


def _chains(count: int, pairs: np.ndarray) -> list[list[int]]:
    """The numbers 0..count-1 in chains of pairs (number, next number); a pair that no longer fits is left out."""
    after: dict[int, int] = {}
    head, taken = list(range(count)), set()
    tail = list(range(count))
    for one, other in pairs.tolist():
        if one in after or other in taken or head[one] == other:  # the last would close a ring
            continue
        after[one] = other
        taken.add(other)
        first, last = head[one], tail[other]
        head[last], tail[first] = first, last
    chains = []
    for first in range(count):
        if first not in taken:
            chains.append([first])
            while (following := after.get(chains[-1][-1])) is not None:
                chains[-1].append(following)
    return chains


def _cut(boxes: np.ndarray, heights: np.ndarray, blocks: list[list[int]]) -> list[int]:
    """The numbers of the blocks in reading order."""
    low = np.array([boxes[block, :2].min(0) for block in blocks])
    high = np.array([boxes[block, 2:].max(0) for block in blocks])
    shave = SHAVED * np.array([heights[block].mean() for block in blocks])
    low[:, 1] += shave
    high[:, 1] -= shave
    order: list[int] = []
    waiting = [np.arange(len(blocks))]
    while waiting:
        group = waiting.pop()
        parts = _split(group, low[:, 1], high[:, 1])
        if len(parts) == 1:
            parts = _split(group, low[:, 0], high[:, 0])
        if len(parts) == 1:
            order += group[np.lexsort((low[group, 0], low[group, 1]))].tolist()
        waiting += parts[::-1] if len(parts) > 1 else []
    return order


def _split(group: np.ndarray, low: np.ndarray, high: np.ndarray) -> list[np.ndarray]:
    """The group's parts between which no interval low..high reaches over."""
    group = group[np.argsort(low[group], kind="stable")]
    reach = np.maximum.accumulate(high[group])
    return np.split(group, np.flatnonzero(low[group][1:] >= reach[:-1]) + 1)


def _cross(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    return a[..., 0] * b[..., 1] - a[..., 1] * b[..., 0]
