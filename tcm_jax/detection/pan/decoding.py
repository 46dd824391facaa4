"""Instances from PAN's maps by pixel aggregation, on the host.

Sources: mmocr 0.4 models/textdet/postprocess/pan_postprocessor.py; mmcv's pixel_group; section 3.4 of the paper.
"""

from dataclasses import dataclass

import cv2
import numpy as np

from tcm_jax.detection.interface import Decoding, Instance
from tcm_jax.detection.polygons import min_area_rect

STRIDE = 4  # of the maps
MIN_POINTS = 4  # of a polygon


@dataclass(frozen=True)
class PANDecoding(Decoding):
    """Instances in the order of their kernels.

    Args:
        text_representation: "quad", the smallest rectangle around an instance's pixels, or "poly", their outline.
        text_threshold: probability above which a pixel is text.
        kernel_threshold: probability above which a pixel is kernel.
        score_threshold: mean text probability above which an instance counts. As in the original also the largest
            distance between the embeddings of a pixel and its kernel.
        min_area: smallest number of an instance's pixels, of the maps.
    """

    text_threshold: float = 0.5
    kernel_threshold: float = 0.5
    score_threshold: float = 0.85
    min_area: int = 16

    def __call__(self, maps: np.ndarray) -> list[Instance]:
        """Instances of maps [h / 4, w / 4, 6]: text logit, kernel logit, embedding. Pixels that are not finite are
        background.
        """
        maps = np.asarray(maps, np.float32)
        channels = np.ascontiguousarray(np.moveaxis(maps, -1, 0))  # [6, h / 4, w / 4], far quicker to reduce
        with np.errstate(over="ignore"):
            text_score, kernel_score = 1 / (1 + np.exp(-channels[:2]))
        text = (text_score > self.text_threshold) & np.isfinite(channels).all(0)
        labels = aggregate(text, text & (kernel_score > self.kernel_threshold), maps[..., 2:], self.score_threshold)

        pixels = np.flatnonzero(labels)
        owners = labels.reshape(-1)[pixels]
        areas = np.bincount(owners)
        scores = np.bincount(owners, text_score.reshape(-1)[pixels]) / np.maximum(areas, 1)
        kept = np.flatnonzero((areas >= max(self.min_area, 1)) & (scores > self.score_threshold))
        quad, instances = self.text_representation == "quad", []
        for label, points in zip(kept.tolist(), row_ends(labels, kept), strict=True):
            polygon = min_area_rect(points)[0] if quad else outline(labels, label, points)
            if len(polygon) >= MIN_POINTS:
                instances.append(Instance(polygon * np.float32(STRIDE), float(scores[label])))
        return instances


def aggregate(text: np.ndarray, kernel: np.ndarray, embedding: np.ndarray, distance: float) -> np.ndarray:
    """Kernels, grown over text pixels that are near in the image and in embedding.

    Connected kernel pixels (by edges) are one instance. Breadth first, each claims the free neighbours whose
    embedding is nearer than `distance` to the mean of its kernel. Where two meet, the order decides: pixels of
    kernels are asked row by row, others in the order in which they were claimed, each for its neighbours to the left,
    right, above and below. That is the order of a queue, here for all pixels of one distance to the kernels at once.

    Args:
        text, kernel: bool [h, w]; kernel pixels are text.
        embedding: float32 [h, w, d].

    Returns:
        int32 [h, w], ids from 1; 0 for what belongs to no instance.
    """
    count, components = cv2.connectedComponents(kernel.view(np.uint8), connectivity=4)
    labels = np.pad(np.where(text, components, -1), 1, constant_values=-1)  # 0 is free; a border instead of bounds
    steps = np.array([-1, 1, -labels.shape[1], labels.shape[1]])
    features = np.pad(embedding, ((1, 1), (1, 1), (0, 0))).reshape(-1, embedding.shape[-1])
    flat = labels.reshape(-1)

    frontier = np.flatnonzero(flat > 0)
    owners = flat[frontier]
    sums = np.stack([np.bincount(owners, channel, count) for channel in features[frontier].T], axis=1)
    means = (sums / np.maximum(np.bincount(owners, minlength=count), 1)[:, None]).astype(np.float32)
    with np.errstate(over="ignore"):
        while len(frontier):
            reached = (frontier[:, None] + steps).reshape(-1)
            owners = np.repeat(owners, len(steps))
            free = flat[reached] == 0
            reached, owners = reached[free], owners[free]
            offsets = features[reached] - means[owners]
            near = np.einsum("nd,nd->n", offsets, offsets) < distance * distance
            reached, owners = reached[near], owners[near]
            first = np.sort(np.unique(reached, return_index=True)[1])  # the first claim of each pixel, in order
            frontier, owners = reached[first], owners[first]
            flat[frontier] = owners
    return np.maximum(labels[1:-1, 1:-1], 0)


def row_ends(labels: np.ndarray, kept: np.ndarray) -> list[np.ndarray]:
    """Of every instance in `kept`, the pixels that end its runs in the rows: x and y, int32 [n, 2].

    They have the same convex hull and the same bounds as all its pixels.
    """
    same = labels[:, 1:] == labels[:, :-1]
    inside = np.zeros(labels.shape, bool)
    inside[:, 1:-1] = same[:, 1:] & same[:, :-1]
    y, x = np.nonzero((labels > 0) & ~inside)
    owners = labels[y, x]
    order = np.argsort(owners, kind="stable")
    points = np.stack([x, y], axis=1).astype(np.int32)[order]
    starts, ends = (np.searchsorted(owners[order], kept, side) for side in ("left", "right"))
    return [points[start:end] for start, end in zip(starts, ends, strict=True)]


def outline(labels: np.ndarray, label: int, points: np.ndarray) -> np.ndarray:
    """The outer contour of an instance, float32 [n, 2], through the centres of its pixels.

    Args:
        points: pixels of the instance, x and y, that have its bounds.
    """
    x, y, w, h = cv2.boundingRect(points)
    inside = (labels[y : y + h, x : x + w] == label).view(np.uint8)
    contours, _ = cv2.findContours(inside, cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_SIMPLE, offset=(x, y))
    return contours[0].reshape(-1, 2).astype(np.float32)
