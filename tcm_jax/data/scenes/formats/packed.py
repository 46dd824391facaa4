"""Annotations of many images in a few arrays."""

import io
from array import array
from collections.abc import Iterable, Iterator

import numpy as np

from tcm_jax.data.scenes.regions import Annotation, AnnotationReport, Instance, polygon_problem

_CHUNK = 10_000  # images counted at a time, so that counting takes little memory


class PackedAnnotations:
    """The annotations of many images, up to millions of words: 50 bytes a word, quick to send to another process.

    Args:
        annotated: image files and their text instances, read one after the other.
        keep_places: keep where the instances are annotated, which takes more memory; else it is "image file:number".

    Attributes:
        images: the image files, relative to the folder of images, "/" between folders.
    """

    def __init__(
        self, annotated: Iterable[tuple[str, Iterable[Instance | Annotation]]], keep_places: bool = False
    ) -> None:
        self.images: list[str] = []
        self._places: list[str] = []
        coordinates, ignored, letters = array("f"), array("b"), io.StringIO()
        # The first instance of each image, and the first point and the first letter of each instance.
        images, polygons, texts = array("q", [0]), array("q", [0]), array("q", [0])
        for image, instances in annotated:
            self.images.append(image)
            for polygon, text, ignore, *place in instances:
                coordinates.frombytes(np.asarray(polygon, np.float32).tobytes())
                polygons.append(len(coordinates) // 2)
                letters.write(text)
                texts.append(texts[-1] + len(text))
                ignored.append(ignore)
                self._places += place if keep_places else []
            images.append(len(ignored))
        self._images, self._polygons, self._texts = np.array(images), np.array(polygons), np.array(texts)
        self._points = np.array(coordinates, np.float32).reshape(-1, 2)
        self._ignored = np.array(ignored, bool)
        self._letters = letters.getvalue()

    def instances(self, index: int) -> Iterator[Annotation]:
        """The text instances of `images[index]`, including unusable ones."""
        for i in range(self._images[index], self._images[index + 1]):
            text = self._letters[self._texts[i] : self._texts[i + 1]]
            yield self._polygon(i), text, bool(self._ignored[i]), self._where(index, i)

    def count(self, indices: Iterable[int], report: AnnotationReport) -> None:
        """Counts the images `indices` and their regions in `report`, as `usable_regions` does."""
        every = np.fromiter(indices, np.int64)
        for start in range(0, len(every), _CHUNK):
            index = every[start : start + _CHUNK]
            instances = _ranges(self._images[index], self._images[index + 1])
            report.images += len(index)
            report.regions += len(instances)
            report.ignored += int(self._ignored[instances].sum())
            owners = np.repeat(index, self._images[index + 1] - self._images[index])
            for k in np.flatnonzero(~self._have_area(instances)):  # few; the others are usable
                instance = int(instances[k])
                if reason := polygon_problem(self._polygon(instance)):
                    report.drop(reason, self._where(int(owners[k]), instance))
                    report.regions -= 1
                    report.ignored -= int(self._ignored[instance])

    def _polygon(self, instance: int) -> np.ndarray:
        return self._points[self._polygons[instance] : self._polygons[instance + 1]]

    def _where(self, image: int, instance: int) -> str:
        if self._places:
            return self._places[instance]
        return f"{self.images[image]}:{instance - self._images[image] + 1}"

    def _have_area(self, instances: np.ndarray) -> np.ndarray:
        """Whether the points of `instances` are finite and the signed area of each polygon is not zero."""
        begin, end = self._polygons[instances], self._polygons[instances + 1]
        sizes = end - begin
        points = self._points[_ranges(begin, end)]
        with np.errstate(invalid="ignore", over="ignore"):
            x, y = (points - np.repeat(self._points[begin[sizes > 0]], sizes[sizes > 0], axis=0)).T.astype(float)
            # Relative to its first point, the edges of a polygon at that point and the steps between polygons add 0.
            twice = np.append(x[:-1] * y[1:] - y[:-1] * x[1:], [0.0, 0.0])
            area = np.add.reduceat(twice, np.cumsum(sizes) - sizes) if len(sizes) else np.empty(0)
        return (sizes >= 3) & np.isfinite(area) & (area != 0)


def _ranges(begin: np.ndarray, end: np.ndarray) -> np.ndarray:
    """The ranges `begin[i]`, ..., `end[i]` - 1 joined to one array."""
    sizes = end - begin
    return np.arange(sizes.sum()) + np.repeat(begin - (np.cumsum(sizes) - sizes), sizes)
