"""Scores of a detector and a recognizer together: words that are found and read."""

import argparse
import functools
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from tcm_jax.commands.evaluate.exports import Outcome, exporting
from tcm_jax.commands.evaluate.images import open_all
from tcm_jax.commands.evaluate.outputs import document, origin, print_account, results_path
from tcm_jax.commands.evaluate.tables import spotting_table
from tcm_jax.data.scenes.build import AnnotatedImageSubset
from tcm_jax.files import write_json
from tcm_jax.images.decoding import ImageError
from tcm_jax.images.inputs import Input
from tcm_jax.metrics.detection import ImagePolygons, Score, combine, hmean_iou
from tcm_jax.metrics.spotting import RULES, ImageWords, spotting
from tcm_jax.recognition.recognizer import Recognizer
from tcm_jax.records import AnnotatedImageSource, TextRegion, warn_undecodable
from tcm_jax.spotting.results import SpottedImage, SpottedWord
from tcm_jax.spotting.spotter import READING, Spotter

_DETECTION = "detection"


@dataclass(frozen=True)
class SpottingResult:
    """Scores of one data set.

    Args:
        num_photos: images that were scored; undecodable: of these, those that can't be decoded; they count as images
            in which nothing is found.
        num_ignored: regions where words count neither way.
        scores: by "detection", MMOCR's hmean-iou of the words' polygons, and by the names of `metrics.spotting.RULES`.
    """

    name: str
    num_photos: int
    undecodable: int
    num_ignored: int
    scores: dict[str, Score]


def prepare(options: argparse.Namespace) -> Callable[[], None]:
    """Opens models and test sets, and returns the function that evaluates.

    Raises:
        OSError, ValueError: something in the options, a model or a set is wrong.
    """
    if options.deteval:
        raise ValueError("--deteval is for detectors alone; leave out --recognizer")
    sets, detectors = open_all(options)
    for source in sets:
        if not any(region.text for i in range(len(source)) for region in source.regions(i) if not region.ignore):
            raise ValueError(f"{source.name} has no texts to compare with; --recognizer needs a set with texts")
    recognizer = Recognizer(options.recognizer, READING, dtype=options.dtype, batch_size=64, quiet=True)
    limits = {} if options.min_score is None else {"min_score": options.min_score}
    spotters = [Spotter(detector, recognizer, **limits) for detector in detectors]
    return functools.partial(_run, options, spotters, sets)


def _run(options: argparse.Namespace, spotters: Sequence[Spotter], sets: Sequence[AnnotatedImageSubset]) -> None:
    summaries = []
    for checkpoint, spotter in zip(options.checkpoint, spotters, strict=True):
        print(f"Detecting with {spotter.detector.model}; images {spotter.detector.options}")
        model = spotter.recognizer.model
        print(f"Reading with {model}{model.network.options}")
        least = f", detected with at least {options.score_threshold:g}" if options.score_threshold else ""
        print(f"Counting words with a score of at least {spotter.min_score:g}{least}; letter case aside", flush=True)
        start = time.monotonic()
        results = [_evaluate(options, spotter, source) for source in sets]
        seconds = time.monotonic() - start
        titles = {_DETECTION: "found"} | {name: rule.title for name, rule in RULES.items()}
        print(spotting_table([(r.name, r.num_photos, titles[k], s) for r in results for k, s in r.scores.items()]))
        print_account(results, seconds)
        summaries.append(_summary(options, spotter, sets, results, seconds))
        if options.output is None:
            write_json(results_path(checkpoint), document(summaries[-1:]))
    if options.output is not None:
        write_json(options.output, document(summaries))


def _evaluate(options: argparse.Namespace, spotter: Spotter, source: AnnotatedImageSubset) -> SpottingResult:
    scores: dict[str, list[Score]] = {name: [] for name in (_DETECTION, *RULES)}
    broken: list[str] = []
    num_ignored = 0
    with exporting(source, options.submission, options.overlays) as export:
        for index, image in enumerate(spotter.stream(_images(source), errors="return")):
            name, regions = source.image_name(index), source.regions(index)
            num_ignored += sum(region.ignore for region in regions)
            if isinstance(image, ImageError):
                broken.append(name)
            words = [] if isinstance(image, ImageError) else _counted(image, options.score_threshold)
            for key, score in score_words(regions, words, name).items():
                scores[key].append(score)
            texts = [word.text for word in words]
            paint = None if isinstance(image, ImageError) else image.draw
            export(Outcome(index, scores["equal"][-1].hmean, [word.polygon for word in words], texts, paint))
    warn_undecodable(source.name, broken, "images without text")
    totals = {name: combine(of_images, empty=1.0 if name == _DETECTION else 0.0) for name, of_images in scores.items()}
    return SpottingResult(source.name, len(source), len(broken), num_ignored, totals)


def _images(source: AnnotatedImageSource) -> Iterator[Input]:
    for index in range(len(source)):
        try:
            yield source[index].image
        except ImageError:
            yield b""  # whose ImageError takes the image's place in the results


def _counted(image: SpottedImage, score_threshold: float | None) -> list[SpottedWord]:
    return [word for word in image.words if score_threshold is None or word.detection_score >= score_threshold]


def score_words(regions: Sequence[TextRegion], words: Sequence[SpottedWord], name: str) -> dict[str, Score]:
    """The scores of one image, by the keys of `SpottingResult.scores`."""
    wanted = [region for region in regions if not region.ignore]
    polygons = ImagePolygons(
        [region.polygon for region in wanted],
        [region.polygon for region in regions if region.ignore],
        [word.polygon for word in words],
        [word.detection_score for word in words],
        name,
    )
    image = ImageWords(polygons, [region.text for region in wanted], [word.text for word in words])
    read = {key: spotting([image], rule).images[0] for key, rule in RULES.items()}
    return {_DETECTION: hmean_iou([polygons]).total, **read}


def _summary(
    options: argparse.Namespace,
    spotter: Spotter,
    sets: Sequence[AnnotatedImageSubset],
    results: Sequence[SpottingResult],
    seconds: float,
) -> dict[str, Any]:
    """Everything that a later reader of the numbers may ask, as JSON values."""
    detector, recognizer = spotter.detector.model, spotter.recognizer.model
    return {
        "checkpoint": origin(detector),
        "recognizer": origin(recognizer),
        "config": {
            "model": asdict(detector.network.config),
            "recognizer": asdict(recognizer.network.config),
            "scale": list(spotter.detector.options.scales[0]),
            "coarse_scales": spotter.detector.options.scales[1:],
            "dtype": detector.dtype,
            "score_threshold": options.score_threshold,
            "min_score": spotter.min_score,
            "paths": options.paths,
            "format": options.format,
            "hold_out": options.hold_out,
        },
        "results": [
            {
                "name": result.name,
                "num_photos": result.num_photos,
                "num_ignored": result.num_ignored,
                "undecodable": result.undecodable,
                "annotations": source.report,
                **{name: asdict(score) for name, score in result.scores.items()},
            }
            for source, result in zip(sets, results, strict=True)
        ],
        "seconds": seconds,
    }
