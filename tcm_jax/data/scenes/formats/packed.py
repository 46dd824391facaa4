"""Annotations of many photos in a few arrays."""

import io
from array import array
from collections.abc import Iterable, Iterator

import numpy as np

from tcm_jax.data.scenes.formats.base import Found, SetAnnotations
from tcm_jax.data.scenes.regions import AnnotationReport, usable

Instance = tuple[np.ndarray, str, bool]  # polygon float32 [n, 2], text, ignore

_CHUNK = 10_000  # photos counted at a time, so that the counting takes little memory


class PackedAnnotations(SetAnnotations):
    """Annotations of millions of words: they take 50 bytes a word and are quick to send to another process.

    Args:
        annotated: photos and their text instances, taken one after the other.
    """

    def __init__(self, annotated: Iterable[tuple[str, Iterable[Instance]]]):
        self.photos: list[str] = []
        coordinates, ignored, letters = array("f"), array("b"), io.StringIO()
        # Where each photo begins in the instances, and each instance in the points and in the letters.
        photos, polygons, texts = array("q", [0]), array("q", [0]), array("q", [0])
        for photo, instances in annotated:
            self.photos.append(photo)
            for polygon, text, ignore in instances:
                coordinates.frombytes(np.asarray(polygon, np.float32).tobytes())
                polygons.append(len(coordinates) // 2)
                letters.write(text)
                texts.append(texts[-1] + len(text))
                ignored.append(ignore)
            photos.append(len(ignored))
        self._photos, self._polygons, self._texts = np.array(photos), np.array(polygons), np.array(texts)
        self._points = np.array(coordinates, np.float32).reshape(-1, 2)
        self._ignored = np.array(ignored, bool)
        self._letters = letters.getvalue()

    def found(self, index: int) -> Iterator[Found]:
        for i in range(self._photos[index], self._photos[index + 1]):
            text = self._letters[self._texts[i] : self._texts[i + 1]]
            yield self._polygon(i), text, bool(self._ignored[i]), self._where(index, i)

    def count(self, indices: Iterable[int], report: AnnotationReport) -> None:
        every = np.fromiter(indices, np.int64)
        for start in range(0, len(every), _CHUNK):
            index = every[start : start + _CHUNK]
            instances = _ranges(self._photos[index], self._photos[index + 1])
            report.scenes += len(index)
            report.regions += len(instances)
            report.ignored += int(self._ignored[instances].sum())
            owners = np.repeat(index, self._photos[index + 1] - self._photos[index])
            for k in np.flatnonzero(~self._have_area(instances)):  # few: the others need no closer look
                instance = int(instances[k])
                if reason := usable(self._polygon(instance)):
                    report.drop(reason, self._where(int(owners[k]), instance))
                    report.regions -= 1
                    report.ignored -= int(self._ignored[instance])

    def _polygon(self, instance: int) -> np.ndarray:
        return self._points[self._polygons[instance] : self._polygons[instance + 1]]

    def _where(self, photo: int, instance: int) -> str:
        return f"{self.photos[photo]}:{instance - self._photos[photo] + 1}"

    def _have_area(self, instances: np.ndarray) -> np.ndarray:
        """Whether the points of `instances` are finite and the signed areas of their polygons not zero."""
        begin, end = self._polygons[instances], self._polygons[instances + 1]
        sizes = end - begin
        points = self._points[_ranges(begin, end)]
        with np.errstate(invalid="ignore", over="ignore"):
            x, y = (points - np.repeat(self._points[begin[sizes > 0]], sizes[sizes > 0], axis=0)).T.astype(float)
            # Relative to its first point, the edges of a polygon at that point, and the steps between polygons, add 0.
            twice = np.append(x[:-1] * y[1:] - y[:-1] * x[1:], [0.0, 0.0])
            area = np.add.reduceat(twice, np.cumsum(sizes) - sizes) if len(sizes) else np.empty(0)
        return (sizes >= 3) & np.isfinite(area) & (area != 0)


def _ranges(begin: np.ndarray, end: np.ndarray) -> np.ndarray:
    """The numbers of all ranges `begin[i]`, ..., `end[i]` - 1, one range after the other."""
    sizes = end - begin
    return np.arange(sizes.sum()) + np.repeat(begin - (np.cumsum(sizes) - sizes), sizes)
