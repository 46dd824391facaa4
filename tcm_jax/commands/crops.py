"""Cuts crops of words out of annotated images, to train or to test a recognizer with.

python -m tcm_jax.crops data/icdar2015 data/words
python -m tcm_jax.crops data/icdar2015 data/outlines --margin 0 0.25 --jitter 0.06 --copies 3 --hold-out 10
python -m tcm_jax.crops data/icdar2015 data/found --detector --hold-out 10

Crops are rectified as by a Spotter: perspective is removed, bent words are straightened. With --detector they are cut
out by the polygons that a detector finds, each with the text of the word that it overlaps, so that a recognizer is
trained on what it will have to read.
"""

import argparse
import sys
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from typing import NamedTuple

import numpy as np

from tcm_jax.commands.command_line import command, new_parser, progress
from tcm_jax.commands.data.common import print_left_out
from tcm_jax.commands.data.words import WRITERS
from tcm_jax.commands.images import MODEL_HELP
from tcm_jax.data.scenes.sources import open_annotated_images
from tcm_jax.detection.detector import Detector
from tcm_jax.detection.options import DetectionOptions
from tcm_jax.detection.streaming import Detections
from tcm_jax.files import as_path
from tcm_jax.images.decoding import ImageError
from tcm_jax.images.inputs import load_image
from tcm_jax.metrics.detection import ImagePolygons, match, overlaps
from tcm_jax.options import add_flags
from tcm_jax.records import AnnotatedImageSource, SourceError, WordCrop
from tcm_jax.spotting.crops import extent, is_tall, rectify
from tcm_jax.spotting.outlines import sides

_MIN_IOU = 0.5  # of a word and a detected polygon, as in evaluations
_MAX_TALL = 2  # characters; a taller word of more characters may be text that runs up or down


class AnnotatedWord(NamedTuple):
    """A word of an image, its polygon [n, 2] in pixels, and its number in the data set, from 1."""

    number: int
    polygon: np.ndarray
    text: str


Words = Mapping[int, list[AnnotatedWord]]  # by the index of the image
Images = Iterator[tuple[np.ndarray, list[AnnotatedWord]]]


@command
def main(arguments: Sequence[str] | None = None, prog: str = "python -m tcm_jax.crops") -> None:
    """Writes the crops; prints how many there are, and what is left out."""
    options = _parser(prog).parse_args(arguments)
    low, high = options.margin
    if not 0 <= low <= high or options.jitter < 0 or options.copies < 1 or options.seed < 0:
        given = ", ".join(f"{name} {getattr(options, name)}" for name in ("margin", "jitter", "copies", "seed"))
        raise ValueError(f"{given}; expected 0 <= margin <= margin, jitter >= 0, copies >= 1 and seed >= 0")
    if options.hold_out < 0 or options.hold_out == 1:
        raise ValueError(f"--hold-out is {options.hold_out}; expected 2 or more")
    source = open_annotated_images(options.path, options.format, options.images, options.annotations)
    every = options.hold_out or sys.maxsize
    words = {index: found for index, found in _words(source).items() if (index + 1) % every}
    if not words:
        raise SourceError(f"{source.name} has no words with a text; {source.report}")
    broken: list[str] = []
    counts: Counter[str] = Counter()
    if options.detector is None:
        images = _annotated(source, words, broken)
    else:
        detector = Detector(options.detector or None, scale=options.scale, upright=False)
        images = _detected(source, words, detector, broken)

    def records() -> Iterator[WordCrop]:
        for image, in_image in images:
            for word in in_image:
                if word.number % every == 0:
                    continue
                counts["words"] += 1
                for crop in _crops(image, word, options):
                    if crop is None:
                        counts["none"] += 1
                    else:
                        yield WordCrop(crop, word.text, f"word {word.number} of {source.name}")
        if not counts["words"]:
            raise SourceError(f"{source.name}: no words of {len(words):,} images; {len(broken):,} can't be read")

    count = WRITERS[options.to](records(), options.destination)
    with_text = sum(word.number % every > 0 for in_image in words.values() for word in in_image)
    print(f"{options.destination}: {count:,} crops of {counts['words']:,} words; {with_text:,} have a text")
    if counts["none"]:
        print(f"left out: {counts['none']:,} crops of words that may be turned, or lie outside their image")
    print_left_out(broken)


def _words(source: AnnotatedImageSource) -> Words:
    """The words that have a text."""
    words: dict[int, list[AnnotatedWord]] = {}
    number = 0
    for index in range(len(source)):
        for region in source.regions(index):
            if region.text and not region.ignore:
                number += 1
                words.setdefault(index, []).append(AnnotatedWord(number, region.polygon, region.text))
    return words


def _annotated(source: AnnotatedImageSource, words: Words, broken: list[str]) -> Images:
    """Images with their words; messages about unreadable ones are added to `broken`."""
    for index in progress(list(words), "cropping"):
        try:
            image = _load(source, index)
        except ImageError as error:
            broken.append(str(error))
        else:
            yield image, words[index]


def _detected(source: AnnotatedImageSource, words: Words, detector: Detector, broken: list[str]) -> Images:
    """As `_annotated`, but only with the words that the detector finds."""
    images = ((partial(_load, source, index), source.image_name(index)) for index in progress(list(words), "cropping"))
    results = detector.images.stream(images, "return", lambda detections, image: (image, detections))
    for index, result in zip(words, results, strict=True):
        if isinstance(result, ImageError):
            broken.append(str(result))
        else:
            image, detections = result
            yield image, matched_words(words[index], detections)


def _load(source: AnnotatedImageSource, index: int) -> np.ndarray:
    return load_image(source[index].image, source.image_name(index))


def matched_words(words: Sequence[AnnotatedWord], detections: Detections) -> list[AnnotatedWord]:
    """The words that are detected, with the detected polygons instead of their own."""
    polygons = [np.asarray(instance.polygon, np.float64) for instance in detections.instances]
    image = ImagePolygons([word.polygon for word in words], [], polygons, name=detections.name)
    (table,) = overlaps([image], _MIN_IOU)
    matches = match(table, _MIN_IOU, np.ones(len(polygons), bool))
    return [words[word]._replace(polygon=polygons[polygon]) for word, polygon in matches]


def _crops(image: np.ndarray, word: AnnotatedWord, options: argparse.Namespace) -> Iterator[np.ndarray | None]:
    """Crops of a word, uint8 RGB [h, w, 3]; None where there is none, or where the text may be turned."""
    rng = np.random.default_rng((options.seed, word.number))
    found = sides(word.polygon)
    height = 0.0 if found is None else min(extent(found))
    turned = found is not None and is_tall(found) and len(word.text) > _MAX_TALL
    for _ in range(options.copies):
        polygon = word.polygon + rng.normal(0, options.jitter * height, word.polygon.shape)
        yield None if turned else rectify(image, polygon, rng.uniform(*options.margin))


def _parser(prog: str) -> argparse.ArgumentParser:
    parser = new_parser(prog, __doc__)
    add = parser.add_argument
    add("path", metavar="source", type=as_path, help="folder of one split of images with polygons and texts")
    add("destination", type=as_path, help="new folder (or file, of ArrayRecord)")
    add("--to", default="folder", choices=sorted(WRITERS), help="form to write (default: folder)")
    detector_help = f"cut out the polygons that this model detects; a {MODEL_HELP}"
    add("--detector", nargs="?", const="", metavar="MODEL", help=detector_help)
    add_flags(add, DetectionOptions, "scale")
    margin_help = "around a word, as a share of its height (default: 0.2 0.2)"
    add("--margin", nargs=2, type=float, default=(0.2, 0.2), metavar=("MIN", "MAX"), help=margin_help)
    jitter_help = "standard deviation by which points are moved, as a share of the word's height (default: 0)"
    add("--jitter", type=float, default=0.0, help=jitter_help)
    add("--copies", type=int, default=1, help="crops of each word (default: 1)")
    add("--seed", type=int, default=0, help="of margins and jitter")
    hold_out_help = "leave out every N-th image, and every N-th word of the set, to evaluate on"
    add("--hold-out", type=int, default=0, metavar="N", help=hold_out_help)
    add("--format", default="auto", help="of the annotations (default: auto)")
    add("--images", default="", metavar="SUB", help="folder of the images below the source")
    add("--annotations", default="", metavar="SUB", help="annotations below the source")
    return parser
