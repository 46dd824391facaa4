"""Training targets of PAN, on the host. Source: mmocr 0.4 datasets/pipelines/textdet_targets/panet_targets.py."""

from collections.abc import Sequence

import numpy as np
from absl import logging

from tcm_jax.detection.polygons import fill, shrink, shrink_distance, to_pixels


def pan_targets(
    polygons: Sequence[np.ndarray],
    ignored: Sequence[np.ndarray],
    size: tuple[int, int],
    shrink_ratios: Sequence[float],
    max_shrink: int,
    max_instances: int,
) -> dict[str, np.ndarray]:
    """Instances, whole and shrunk to their kernels.

    A polygon that falls apart is its first piece; of two that overlap the later one is on top. Polygons after the
    first `max_instances` share the next id: they are text, but are not told apart; a warning counts them.

    Args:
        polygons, ignored: float [n, 2] each, x and y in pixels.
        size: height and width.
        shrink_ratios: one for each level, 1 for the whole region.
        max_shrink: most pixels by which an outline moves inwards.

    Returns:
        "gt_kernels" [levels, h, w], ids from 1 in the order of the polygons (8 bits up to 254 instances, else 16);
        "gt_mask" uint8 [h, w], 0 in ignored regions.
    """
    if len(polygons) > max_instances:
        excess = len(polygons) - max_instances
        logging.warning("%d of %d instances of an image are more than max_instances", excess, len(polygons))
    kernels = np.zeros((len(shrink_ratios), *size), np.uint8 if max_instances < 255 else np.uint16)
    outlines = [to_pixels(polygon) for polygon in polygons]
    for level, ratio in zip(kernels, shrink_ratios, strict=True):
        for i, outline in enumerate(outlines, start=1):
            for piece in shrink(outline, min(shrink_distance(outline, ratio), max_shrink))[:1]:
                fill(level, piece, min(i, max_instances + 1))
    mask = np.ones(size, np.uint8)
    for region in ignored:
        fill(mask, region, 0)
    return {"gt_kernels": kernels, "gt_mask": mask}
