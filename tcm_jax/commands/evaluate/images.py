"""Scores of detectors on test sets of images."""

import argparse
import dataclasses
import functools
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict
from typing import Any

from tcm_jax.commands.evaluate.exports import Outcome, Paint, exporting, image_stems
from tcm_jax.commands.evaluate.outputs import document, origin, print_account, results_path
from tcm_jax.commands.evaluate.tables import cross_table, scene_table
from tcm_jax.data.scenes.build import AnnotatedImageSubset, hold_out
from tcm_jax.data.scenes.formats import FORMATS
from tcm_jax.data.scenes.sources import open_annotated_images
from tcm_jax.detection.detector import Detector
from tcm_jax.detection.evaluate import DetectionResult, ScoredImage, evaluate_scenes
from tcm_jax.detection.options import DetectionOptions
from tcm_jax.files import absolute, as_path, check_writable, write_json
from tcm_jax.metrics.detection import Score
from tcm_jax.options import add_flags, from_flags, settings_flag


def add_options(add: Callable[..., argparse.Action]) -> list[argparse.Action]:
    """Declares the options of detectors by the parser's `add`, and returns them."""
    return [
        add(
            "--format",
            default="auto",
            help=f"of the annotations: {', '.join(FORMATS)} (default: recognised); a part by coco_text:val",
        ),
        add("--images", default="", metavar="SUB", help="folder of the images below PATH, where there are several"),
        add("--annotations", default="", metavar="SUB", help="folder or file of the annotations below PATH"),
        add(
            "--score-threshold",
            type=float,
            metavar="X",
            help="count detections with at least this score (default: all that the decoding gives)",
        ),
        add("--deteval", action="store_true", help="DetEval too, by the protocol of Total-Text; slow to compute"),
        add("--recognizer", metavar="MODEL", help="read what is detected, and score the words that are found and read"),
        add(
            "--min-score", type=float, metavar="X", help="with --recognizer: count words read with at least this score"
        ),
        add("--submission", type=as_path, metavar="DIR", help="write DIR/SET.zip, as benchmarks' servers take it"),
        add("--overlays", type=as_path, metavar="DIR", help="draw detections and annotations in DIR/SET, worst first"),
        *add_flags(add, DetectionOptions, "scale"),
        settings_flag(add, "decoding", "another value of the decoding, such as score_threshold=0.3; may be repeated"),
    ]


def prepare(options: argparse.Namespace) -> Callable[[], None]:
    """Opens detectors and test sets, and returns the function that evaluates.

    Raises:
        OSError, ValueError: something in the options, a model or a set is wrong.
    """
    if options.min_score is not None:
        raise ValueError("--min-score is of words that are read; give a --recognizer too, or --score-threshold instead")
    sets, detectors = open_all(options)
    return functools.partial(_run, options, detectors, sets)


def open_all(options: argparse.Namespace) -> tuple[list[AnnotatedImageSubset], list[Detector]]:
    """The test sets and the detectors; all outputs are checked."""
    sets = _open_sets(options)
    _check_outputs(options, sets)
    # Images are read as they are stored, which is what annotations are of.
    detection = from_flags(DetectionOptions, options, upright=False)
    return sets, [Detector(checkpoint, detection, quiet=True) for checkpoint in options.checkpoint]


def _run(options: argparse.Namespace, detectors: Sequence[Detector], sets: Sequence[AnnotatedImageSubset]) -> None:
    rows = {}
    summaries = []
    for checkpoint, detector in zip(options.checkpoint, detectors, strict=True):
        print(f"Evaluating {detector.model}; images {detector.options}")
        print(_what_counts(options.score_threshold, detector), flush=True)
        start = time.monotonic()
        results = [_evaluate(options, detector, source) for source in sets]
        seconds = time.monotonic() - start
        _report(results, seconds)
        summaries.append(_summary(options, detector, sets, results, seconds))
        rows[checkpoint] = results
        if options.output is None:
            write_json(results_path(checkpoint), document(summaries[-1:]))
    if len(rows) > 1:
        print(cross_table(rows))
    if options.output is not None:
        write_json(options.output, document(summaries))


def _evaluate(options: argparse.Namespace, detector: Detector, source: AnnotatedImageSubset) -> DetectionResult:
    with exporting(source, options.submission, options.overlays) as export:

        def on_image(image: ScoredImage) -> None:
            polygons = [instance.polygon for instance in image.counted]
            export(Outcome(image.index, image.fixed.hmean, polygons, None, _painter(image)))

        return evaluate_scenes(
            detector.images,
            source,
            min_score=options.score_threshold,
            deteval=options.deteval,
            on_image=on_image,
        )


def _painter(image: ScoredImage) -> Paint | None:
    """Draws what counts, over the annotated text."""
    if image.detections is None:
        return None
    counted = dataclasses.replace(image.detections, instances=image.counted)
    return lambda pixels: counted.draw(pixels, image.regions)


def _what_counts(min_score: float | None, detector: Detector) -> str:
    if min_score is not None:
        return f"Precision, recall and H-mean are of detections with a score of at least {min_score:g}."
    decoding: Any = detector.model.network.detector.decoding
    return (
        "Precision, recall and H-mean are of all detections that the decoding gives "
        f"({decoding.text_representation}s, score_threshold {decoding.score_threshold:g})."
    )


def _report(results: Sequence[DetectionResult], seconds: float) -> None:
    print(scene_table(results))
    print("Note: best H-mean is the largest of seven score thresholds, chosen on the same images, as in MMOCR.")
    print_account(results, seconds)


def _summary(
    options: argparse.Namespace,
    detector: Detector,
    sets: Sequence[AnnotatedImageSubset],
    results: Sequence[DetectionResult],
    seconds: float,
) -> dict:
    """Everything that a later reader of the numbers may ask, as JSON values."""
    model = detector.model
    return {
        "checkpoint": origin(model),
        "config": {
            "model": asdict(model.network.config),
            "mean": list(model.network.mean),
            "std": list(model.network.std),
            "scale": list(detector.options.scales[0]),
            "coarse_scales": detector.options.scales[1:],
            "dtype": model.dtype,
            "score_threshold": options.score_threshold,
            "paths": options.paths,
            "format": options.format,
            "hold_out": options.hold_out,
        },
        "results": [
            {
                "name": result.name,
                "num_photos": result.num_photos,
                "num_truth": result.num_truth,
                "num_ignored": result.num_ignored,
                "undecodable": result.undecodable,
                "annotations": source.report,
                "fixed": asdict(result.fixed),
                "best": _at(result.best_threshold, result.best),
                "search": [_at(threshold, score) for threshold, score in result.search.items()],
                "deteval": asdict(result.deteval) if result.deteval else None,
            }
            for source, result in zip(sets, results, strict=True)
        ],
        "seconds": seconds,
    }


def _at(threshold: float, score: Score) -> dict[str, Any]:
    return {"score_threshold": round(threshold, 6), **asdict(score)}


def _open_sets(options: argparse.Namespace) -> list[AnnotatedImageSubset]:
    """The test sets of all paths, with a line on stderr for each that lost annotations."""
    if options.hold_out < 0:
        raise ValueError(f"--hold-out is {options.hold_out}; expected at least 1")
    sources = [
        open_annotated_images(path, options.format, options.images, options.annotations) for path in options.paths
    ]
    sets = []
    for name, source in zip(_names(options.paths), sources, strict=True):
        if source.report.dropped:
            print(f"{name}: {source.report}", file=sys.stderr)
        chosen = hold_out(source, options.hold_out or 1, held_out=True, name=name)
        if len(chosen) == 0:
            raise ValueError(f"{name} has no image left to score")
        sets.append(chosen)
    return sets


def _names(paths: Sequence[str]) -> list[str]:
    """For each path its last part, with the folder above where that is the same: "icdar2015-test", "totaltext-test".

    Raises:
        ValueError: those are the same too.
    """
    full = [absolute(path) for path in paths]
    short = [path.stem if path.is_file() else path.name for path in full]
    names = [
        f"{path.parent.name}-{name}" if short.count(name) > 1 else name for path, name in zip(full, short, strict=True)
    ]
    if len(set(names)) < len(names):
        raise ValueError(f"sets of the same name: {', '.join(names)}; evaluate them one after the other")
    return names


def _check_outputs(options: argparse.Namespace, sets: Sequence[AnnotatedImageSubset]) -> None:
    """All outputs are checked now, not after the work; their folders are made."""
    check_writable(options.output, "--output")
    if options.output is None:
        for checkpoint in options.checkpoint:
            results_path(checkpoint)
    for option in ("submission", "overlays"):
        folder = getattr(options, option)
        if folder is None:
            continue
        if len(options.checkpoint) > 1:
            raise ValueError(f"--{option} takes one --checkpoint, but {len(options.checkpoint)} are given")
        folder.mkdir(parents=True, exist_ok=True)
        check_writable(folder / "any", f"--{option}")
        for source in sets:
            image_stems(source)
