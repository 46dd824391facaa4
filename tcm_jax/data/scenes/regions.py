"""Which annotated polygons are usable, and the account of the others."""

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from tcm_jax.records import TextRegion

Instance = tuple[np.ndarray, str, bool]  # polygon [n, 2] (x and y in pixels), text, ignore
Annotation = tuple[np.ndarray, str, bool, str]  # an instance, and where it is annotated ("gt_img_1.txt:3")

_SHOWN = 3  # places in a message, for each reason


@dataclass
class AnnotationReport:
    """What was read and what was left out; `str()` is the message for users.

    Attributes:
        images: number of images with annotations.
        regions: number of usable text instances; ignored: of these, those with "ignore".
        dropped: how often something was left out, by reason.
        where: the first places ("gt_img_1.txt:3") of what was left out, by reason.
    """

    images: int = 0
    regions: int = 0
    ignored: int = 0
    dropped: Counter[str] = field(default_factory=Counter)
    where: dict[str, list[str]] = field(default_factory=dict)

    def drop(self, reason: str, where: str) -> None:
        """Counts something that is left out, such as ("without area", "gt_img_1.txt:3")."""
        self.dropped[reason] += 1
        places = self.where.setdefault(reason, [])
        if len(places) < _SHOWN:
            places.append(where)

    def __str__(self) -> str:
        parts = []
        for reason, count in self.dropped.most_common():
            more = ", ..." if count > len(self.where[reason]) else ""
            parts.append(f"{count:,} {reason} ({', '.join(self.where[reason])}{more})")
        text = f"{self.images:,} images, {self.regions:,} text instances ({self.ignored:,} of them ignored)"
        return f"{text}; dropped {', '.join(parts)}" if parts else text


def polygon_problem(points: np.ndarray) -> str | None:
    """Why a polygon [n, 2] is unusable, None if it is usable.

    One that crosses itself or leaves the image is usable: training, evaluation protocols and papers have them.
    """
    if len(points) < 3:
        return "with fewer than 3 points"
    if not np.isfinite(points).all():
        return "with coordinates that are not finite"
    x, y = (points - points[0]).T.astype(float)
    # A crossing may cancel the signed area of a region, so the extent of the points decides.
    if np.ptp(x) == 0 or np.ptp(y) == 0 or not np.any(x[1:, None] * y[None, 1:] - y[1:, None] * x[None, 1:]):
        return "without area"
    return None


def usable_regions(annotations: Iterable[Annotation], report: AnnotationReport | None = None) -> tuple[TextRegion, ...]:
    """The regions of one image with usable polygons; counts it in `report`."""
    report = report or AnnotationReport()
    regions = []
    for polygon, text, ignore, where in annotations:
        points = np.asarray(polygon, np.float32).reshape(-1, 2)
        if reason := polygon_problem(points):
            report.drop(reason, where)
        else:
            regions.append(TextRegion(points, text, ignore))
            report.ignored += ignore
    report.images += 1
    report.regions += len(regions)
    return tuple(regions)


def region_to_json(region: TextRegion) -> dict[str, Any]:
    """A text instance as an object for JSON: {"polygon": [[x, y], ...], "text", "ignore"}.

    The coordinates are the shortest numbers that give the same float32, integers where possible.
    """
    polygon = [[int(value) if value.is_integer() else float(str(value)) for value in point] for point in region.polygon]
    return {"polygon": polygon, "text": region.text, "ignore": region.ignore}
