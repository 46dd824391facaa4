"""Which annotated polygons can be used, and the account of those that can't."""

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from tcm_jax.records import TextRegion

_SHOWN = 3  # places in a message, for each reason


@dataclass
class AnnotationReport:
    """What was read and what was left out; `str()` tells a user.

    Attributes:
        scenes: photos with an annotation. regions: usable text instances; ignored: of these, those that don't count.
        dropped: how often for each reason; where: the first places ("gt_img_1.txt:3") for each reason.
    """

    scenes: int = 0
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
        text = f"{self.scenes:,} photos, {self.regions:,} text instances ({self.ignored:,} of them ignored)"
        if not self.dropped:
            return text
        parts = []
        for reason, count in self.dropped.most_common():
            more = ", ..." if count > len(self.where[reason]) else ""
            parts.append(f"{count:,} {reason} ({', '.join(self.where[reason])}{more})")
        return f"{text}; dropped {', '.join(parts)}"


def usable(points: np.ndarray) -> str | None:
    """Why a polygon, [n, 2], can't be used, None if it can.

    One that crosses itself or leaves the photo can: training, evaluation protocols and papers have them.
    """
    if len(points) < 3:
        return "with fewer than 3 points"
    if not np.isfinite(points).all():
        return "with coordinates that are not finite"
    x, y = (points - points[0]).T.astype(float)
    # A crossing may cancel the signed area of a region that is there, so that the extent of the points decides.
    if np.ptp(x) == 0 or np.ptp(y) == 0 or not np.any(x[1:, None] * y[None, 1:] - y[1:, None] * x[None, 1:]):
        return "without area"
    return None


def collect(
    found: Iterable[tuple[np.ndarray, str, bool, str]], report: AnnotationReport | None = None
) -> tuple[TextRegion, ...]:
    """The usable ones of (polygon [n, 2], text, ignore, where it stands) of one photo, counted in `report`."""
    regions = []
    for polygon, text, ignore, where in found:
        points = np.asarray(polygon, np.float32).reshape(-1, 2)
        if reason := usable(points):
            if report is not None:
                report.drop(reason, where)
            continue
        regions.append(TextRegion(points, text, ignore))
    if report is not None:
        report.scenes += 1
        report.regions += len(regions)
        report.ignored += sum(region.ignore for region in regions)
    return tuple(regions)


def instance(region: TextRegion) -> dict[str, Any]:
    """A text instance as it is written in JSON: {"polygon": [[x, y], ...], "text", "ignore"}.

    The coordinates are the shortest numbers that are read back as the same float32, integers where they are.
    """
    polygon = [[int(value) if value.is_integer() else float(str(value)) for value in point] for point in region.polygon]
    return {"polygon": polygon, "text": region.text, "ignore": region.ignore}
