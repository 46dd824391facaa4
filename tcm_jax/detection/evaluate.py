"""Evaluation of a detector: one pass over the images of a data set."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial

import jax
import numpy as np

from tcm_jax.detection.interface import Instance
from tcm_jax.detection.streaming import Detections, ImageStream
from tcm_jax.distributed.multihost import multihost_sum
from tcm_jax.images.decoding import ImageError, decode
from tcm_jax.metrics.detection import SCORE_THRESHOLDS, ImagePolygons, Score, hmean_iou, threshold_search
from tcm_jax.metrics.deteval import total_text_deteval
from tcm_jax.records import AnnotatedImageSource, TextRegion, warn_undecodable


@dataclass(frozen=True)
class DetectionResult:
    """Scores of one data set.

    Args:
        num_photos: images that were scored; num_truth: text in them that has to be found; num_ignored: regions
            where predictions count neither way.
        fixed: MMOCR's hmean-iou of the predictions with the least score that was asked for.
        search: the same by score threshold, as MMOCR searches it.
        deteval: DetEval of the predictions of `fixed`, if asked for.
        undecodable: images among `num_photos` that can't be decoded; they count as images without predictions.
    """

    name: str
    num_photos: int
    num_truth: int
    num_ignored: int
    fixed: Score
    search: Mapping[float, Score]
    deteval: Score | None = None
    undecodable: int = 0

    @property
    def best_threshold(self) -> float:
        """The first of those with the largest hmean; chosen on the very images that it scores."""
        return max(self.search, key=lambda threshold: self.search[threshold].hmean)

    @property
    def best(self) -> Score:
        """The score at `best_threshold`."""
        return self.search[self.best_threshold]


@dataclass(frozen=True, eq=False)
class ScoredImage:
    """An image as it was compared.

    Args:
        index: in the source.
        detections: all of them; None if the image can't be decoded. counted: those that `fixed` counts.
        regions: its text; fixed: its score.
    """

    index: int
    detections: Detections | None
    counted: tuple[Instance, ...]
    regions: tuple[TextRegion, ...]
    fixed: Score


def evaluate_scenes(
    images: ImageStream,
    source: AnnotatedImageSource,
    *,
    min_score: float | None = None,
    deteval: bool = False,
    on_image: Callable[[ScoredImage], None] | None = None,
) -> DetectionResult:
    """Scores what is found in every image of `source` once.

    An image that can't be decoded counts as one in which nothing is found. With several processes all of them call
    this, each scores its share of the images, and all return the same result.

    Args:
        images: of the detector; in a run of several processes it computes on this process's devices alone.
        min_score: only predictions with at least this score count in `fixed` and `deteval`; None: all that the
            decoding gives.
        deteval: compute that as well; predictions are rounded to whole pixels, which is what its script reads.
        on_photo: called for every image of this process, in order.

    Raises:
        RuntimeError: the number of scored images isn't that of the source.
        ValueError: the source is empty.
    """
    if len(source) == 0:
        raise ValueError(f"{source.name} has no images to score")
    mine = range(jax.process_index(), len(source), jax.process_count())
    annotated: dict[int, tuple[TextRegion, ...]] = {}

    def pixels(index: int) -> np.ndarray:
        """As they are stored, which is what annotations are of: not turned as an EXIF orientation may say."""
        scene = source[index]
        annotated[index] = scene.regions  # a rendered scene is painted for them
        return decode(scene.image, scene.name)

    inputs = ((partial(pixels, index), source.image_name(index)) for index in mine)
    # The last row holds the number of images, of ignored regions and of broken images.
    counts = np.zeros((1 + len(SCORE_THRESHOLDS) + deteval + 1, 4))
    broken: list[str] = []
    for index, found in zip(mine, images.stream(inputs, errors="return"), strict=False):
        regions = annotated.pop(index) if index in annotated else source.regions(index)
        if isinstance(found, ImageError):
            broken.append(source.image_name(index))
        detections = None if isinstance(found, ImageError) else found
        instances = detections.instances if detections else ()
        counted = tuple(i for i in instances if min_score is None or i.score >= min_score)
        scores = _scores(regions, instances, counted, deteval, source.image_name(index))
        counts[:-1] += [score.counts for score in scores]
        counts[-1] += 1, sum(region.ignore for region in regions), detections is None, 0
        if on_image is not None:
            on_image(ScoredImage(index, detections, counted, regions, scores[0]))

    warn_undecodable(source.name, broken, "images without text")
    *rows, (num_photos, num_ignored, undecodable, _) = multihost_sum(counts).tolist()
    if num_photos != len(source):
        raise RuntimeError(f"{source.name}: {num_photos:,.0f} images were scored; expected {len(source):,}")
    fixed, *search = (_total(row, empty=1.0) for row in rows[: 1 + len(SCORE_THRESHOLDS)])
    return DetectionResult(
        source.name,
        int(num_photos),
        fixed.num_truth,
        int(num_ignored),
        fixed,
        dict(zip(SCORE_THRESHOLDS, search, strict=True)),
        _total(rows[-1], empty=0.0) if deteval else None,
        int(undecodable),
    )


def _scores(
    regions: Sequence[TextRegion],
    instances: Sequence[Instance],
    counted: Sequence[Instance],
    deteval: bool,
    name: str,
) -> list[Score]:
    """The scores of one image: fixed, by threshold, and DetEval if asked for."""
    truth, ignored = ([region.polygon for region in regions if region.ignore == ignore] for ignore in (False, True))

    def image(instances: Sequence[Instance], whole: bool = False) -> ImagePolygons:
        polygons = [np.round(i.polygon) if whole else i.polygon for i in instances]
        return ImagePolygons(truth, ignored, polygons, [i.score for i in instances], name)

    search = threshold_search([image(instances)]).evaluations.values()
    scores = [hmean_iou([image(counted)]).total, *(evaluation.total for evaluation in search)]
    return [*scores, total_text_deteval([image(counted, whole=True)]).total] if deteval else scores


def _total(counts: Sequence[float], empty: float) -> Score:
    num_truth, num_predictions, *matched = counts
    return Score.of(int(num_truth), int(num_predictions), *matched, empty=empty)
