"""DBNet's probability map to text instances, on the host.

Sources: mmocr 0.4 models/textdet/postprocess/db_postprocessor.py and TCM's ocrclip/postprocessor.py.
"""

from dataclasses import dataclass

import cv2
import numpy as np

from tcm_jax.detection.db.separation import Region, separated
from tcm_jax.detection.interface import Decoding, Instance
from tcm_jax.detection.polygons import expand, min_area_rect, perimeter

MIN_POINTS = 4  # of a contour and of a polygon


@dataclass(frozen=True)
class DBDecoding(Decoding):
    """Text instances of a probability map, in the order of their contours.

    A contour, simplified, is moved outwards by area * unclip_ratio / perimeter, which undoes the shrinking of the
    training targets. Contours of holes are candidates too. A contour that becomes several, or gets a hole, is no text
    (the original joins the points of all pieces if they happen to have equally many). Nothing is cut off at the
    image's border.

    Args:
        text_representation: "quad", the smallest rectangle around the polygon, or "poly".
        mask_threshold: pixels with a higher probability are text.
        score_threshold: lowest mean probability inside a contour.
        min_width: rectangles must be wider, in pixels; with filter_min_width those around polygons at least as wide.
        filter_min_width: applies min_width to polygons too.
        approximate: simplify contours, to arc_length_ratio of their length.
        arc_length_ratio: see approximate.
        unclip_ratio: how far contours are moved outwards.
        max_candidates: contours after the first 1 + max_candidates are dropped, as in the original.
        separate_words: split merged words (`separation`), and score by the highest probabilities; no part of the
            original.
    """

    mask_threshold: float = 0.28
    score_threshold: float = 0.2
    min_width: float = 2.0
    filter_min_width: bool = False
    approximate: bool = True
    arc_length_ratio: float = 0.001
    unclip_ratio: float = 1.6
    max_candidates: int = 3000
    separate_words: bool = False

    def __call__(self, maps: np.ndarray) -> list[Instance]:
        """Instances of the probabilities [h, w] of one image; NaN is background."""
        probabilities = np.ascontiguousarray(maps, np.float32)
        if self.separate_words:
            probabilities = np.nan_to_num(probabilities)
            regions = separated(probabilities, float(np.float32(self.mask_threshold)), self.contours)
        else:
            mask = probabilities > np.float32(self.mask_threshold)
            regions = (Region(c, mean_inside(probabilities, c), 0.0) for c in self.contours(mask, cv2.RETR_LIST))
        instances = []
        for contour, score, widening in regions:
            if score < self.score_threshold:
                continue
            points = contour[:, 0]  # [n, 2]
            pieces = expand(points, cv2.contourArea(contour) * (self.unclip_ratio + widening) / perimeter(points))
            if len(pieces) != 1:
                continue
            polygon = pieces[0]
            if self.text_representation == "quad":
                polygon, width = min_area_rect(polygon)
                if width <= self.min_width:
                    continue
            elif len(polygon) < MIN_POINTS or (self.filter_min_width and min_area_rect(polygon)[1] < self.min_width):
                continue
            instances.append(Instance(polygon.astype(np.float32), score))
        return instances

    def contours(self, mask: np.ndarray, mode: int = cv2.RETR_EXTERNAL) -> list[np.ndarray]:
        """The candidates, int32 [n, 1, 2] each, in a mask, bool [h, w]."""
        found = cv2.findContours(mask.view(np.uint8), mode, cv2.CHAIN_APPROX_SIMPLE)[0][: self.max_candidates + 1]
        if self.approximate:
            found = [cv2.approxPolyDP(c, self.arc_length_ratio * cv2.arcLength(c, True), True) for c in found]
        return [contour for contour in found if len(contour) >= MIN_POINTS]


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
