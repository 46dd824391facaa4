"""DBNet's probability map to text instances, on the host.

Sources: mmocr 0.4 models/textdet/postprocess/db_postprocessor.py and TCM's ocrclip/postprocessor.py.
"""

import cv2
import numpy as np

from tcm_jax.detection.db.separation import Region, separated
from tcm_jax.detection.interface import Instance
from tcm_jax.detection.polygons import expand, min_area_rect, perimeter

MIN_POINTS = 4  # of a contour and of a polygon


def decode(
    probabilities: np.ndarray,
    *,
    text_representation: str,
    mask_threshold: float,
    score_threshold: float,
    min_width: float,
    filter_min_width: bool,
    approximate: bool,
    arc_length_ratio: float,
    unclip_ratio: float,
    max_candidates: int,
    separate_words: bool,
) -> list[Instance]:
    """Text instances of one image, in the order of their contours.

    A contour, simplified, is moved outwards by area * unclip_ratio / perimeter, which undoes the shrinking of the
    training targets. Contours of holes are candidates too. A contour that becomes several, or gets a hole, is no text
    (the original joins the points of all pieces if they happen to have equally many). Nothing is cut off at the
    image's border.

    Args:
        probabilities: [h, w]; NaN is background.
        text_representation: "quad", the smallest rectangle around the polygon, or "poly".
        mask_threshold: pixels above it are text. score_threshold: least mean probability of a contour's inside.
        min_width: rectangles must be wider; with filter_min_width those around polygons at least as wide.
        approximate: simplify contours, to arc_length_ratio of their length.
        max_candidates: contours after the first 1 + max_candidates are not looked at, as in the original.
        separate_words: search for words that are run together (`separation`), which changes what a score is.
    """
    probabilities = np.ascontiguousarray(probabilities, np.float32)

    def contours(mask: np.ndarray, mode: int = cv2.RETR_EXTERNAL) -> list[np.ndarray]:
        found, _ = cv2.findContours(mask.view(np.uint8), mode, cv2.CHAIN_APPROX_SIMPLE)
        found = found[: max_candidates + 1]
        if approximate:
            found = [cv2.approxPolyDP(c, arc_length_ratio * cv2.arcLength(c, True), True) for c in found]
        return [contour for contour in found if len(contour) >= MIN_POINTS]

    if separate_words:
        probabilities = np.nan_to_num(probabilities)
        regions = separated(probabilities, float(np.float32(mask_threshold)), contours)
    else:
        mask = probabilities > np.float32(mask_threshold)
        regions = (Region(c, mean_inside(probabilities, c), 0.0) for c in contours(mask, cv2.RETR_LIST))
    instances = []
    for contour, score, widening in regions:
        if score < score_threshold:
            continue
        points = contour[:, 0]  # [n, 2]
        pieces = expand(points, cv2.contourArea(contour) * (unclip_ratio + widening) / perimeter(points))
        if len(pieces) != 1:
            continue
        polygon = pieces[0]
        if text_representation == "quad":
            polygon, width = min_area_rect(polygon)
            if width <= min_width:
                continue
        elif len(polygon) < MIN_POINTS or (filter_min_width and min_area_rect(polygon)[1] < min_width):
            continue
        instances.append(Instance(polygon.astype(np.float32), score))
    return instances


def mean_inside(values: np.ndarray, contour: np.ndarray) -> float:
    """Mean of the pixels inside and on a contour, NaN counted as 0.

    Args:
        values: float32 [h, w].
        contour: int32 [n, 1, 2], x and y, within the image.
    """
    x, y, w, h = cv2.boundingRect(contour)
    box = values[y : y + h, x : x + w]
    inside = np.zeros((h, w), np.uint8)
    cv2.fillPoly(inside, [contour], 1, offset=(-x, -y))
    mean = cv2.mean(box, inside)[0]
    return mean if mean == mean else cv2.mean(np.nan_to_num(box), inside)[0]
