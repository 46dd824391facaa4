"""What is found in an image at several scales, as one result.

A network that learned from words of some sizes overlooks much larger ones, or finds their letters. In a small copy of
the image they are words like others.
"""

from collections.abc import Sequence

import numpy as np
import shapely

from tcm_jax.detection.interface import Instance
from tcm_jax.detection.polygons import min_area_rect
from tcm_jax.metrics.detection import shapely_polygons

# Chosen on 135 images of ICDAR 2003's training set, where values near them give H-means within one per cent.
MIN_SIDE = 12.0  # pixels of the small copy; of what is thinner there, the large copy tells more
_SAME = 0.5  # intersection over union from which two polygons are of one word
_FREE = 0.2  # share of a polygon that others may cover
_INSIDE = 0.7  # share of a polygon that has to be inside another to be a part of it
_PARTS = 0.5  # share of a word that its letters cover; what covers more may be words that the small copy merges


def merged(fine: Sequence[Instance], coarse: Sequence[Instance], least_side: float) -> list[Instance]:
    """`fine`, what the large copy of an image shows, and of `coarse`, what the small one shows, the large words.

    Those come where the large copy shows nothing, or in place of parts of them or of the same word, whose outline is
    the better one there.

    Args:
        fine, coarse: polygons in pixels of the image.
        least_side: of a large word, in pixels of the image.
    """
    own, found = (shapely.make_valid(shapely_polygons([x.polygon for x in each])) for each in (fine, coarse))
    areas = shapely.area(own)
    kept, added = np.ones(len(fine), bool), []
    for instance, shape in zip(coarse, found, strict=True):
        if shape.area == 0 or min_area_rect(np.asarray(instance.polygon, np.float64))[1] < least_side:
            continue
        common = shapely.area(shapely.intersection(shape, own))
        overlap = common / (areas + shape.area - common)
        same = overlap.max(initial=0) > _SAME
        replaced = np.arange(len(own)) == overlap.argmax() if same else common > _INSIDE * areas
        others, parts = common[~replaced].sum() / shape.area, common[replaced].sum() / shape.area
        if others < _FREE and (same or parts < _PARTS):
            kept &= ~replaced
            added.append(instance)
    return [instance for instance, keep in zip(fine, kept, strict=True) if keep] + added
