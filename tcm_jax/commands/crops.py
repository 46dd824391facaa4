"""Cuts words out of photos whose text is known: pictures to train or to test a recognizer with.

python -m tcm_jax.crops data/icdar2015 data/words
python -m tcm_jax.crops data/icdar2015 data/outlines --margin 0 0.25 --jitter 0.06 --copies 3 --hold-out 10
python -m tcm_jax.crops data/icdar2015 data/found --detector --hold-out 10

They are cut out as a Spotter does it: seen from the front, bent ones straightened. With --detector by the outlines that
a detector finds, each with the text of the word that it overlaps, so that a recognizer learns from what it will have
to read.
"""

import argparse
import sys
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from typing import NamedTuple

import numpy as np

from tcm_jax.commands.command_line import command, new_parser
from tcm_jax.commands.data.common import print_left_out, progress
from tcm_jax.commands.data.words import WRITERS
from tcm_jax.commands.images import MODEL_HELP, add_scale_option
from tcm_jax.data.scenes.sources import open_scenes
from tcm_jax.detection.detector import Detector
from tcm_jax.detection.streaming import Detections
from tcm_jax.files import as_path
from tcm_jax.images.decoding import ImageError
from tcm_jax.images.inputs import pixels
from tcm_jax.metrics.detection import ImagePolygons, geometry, pairs
from tcm_jax.records import AnnotatedImageSource, SourceError, WordCrop
from tcm_jax.spotting.crops import extent, is_tall, rectify
from tcm_jax.spotting.outlines import sides

_OVERLAP = 0.5  # intersection over union from which a word counts as found, as in evaluations
_EITHER_WAY = 2  # characters; a taller picture of more may be of text that runs up or down


class AnnotatedWord(NamedTuple):
    """A word of a photo, its polygon [n, 2] in pixels; `number` counts from 1 through all words of the set."""

    number: int
    polygon: np.ndarray
    text: str


class Cuts(NamedTuple):
    """How words are cut out.

    Args:
        margin: around a word, in its heights, drawn between two.
        jitter: standard deviation, in heights of the word, by which each point of an outline is moved.
        copies: pictures of each word.
        seed: of what is drawn.
    """

    margin: tuple[float, float]
    jitter: float
    copies: int
    seed: int

    def of(self, photo: np.ndarray, word: AnnotatedWord) -> Iterator[np.ndarray | None]:
        """Pictures of a word, uint8 RGB [h, w, 3]; None where there is none, or where it may be turned."""
        rng = np.random.default_rng((self.seed, word.number))
        found = sides(word.polygon)
        height = 0.0 if found is None else min(extent(found))
        turned = found is not None and is_tall(found) and len(word.text) > _EITHER_WAY
        for _ in range(self.copies):
            polygon = word.polygon + rng.normal(0, self.jitter * height, word.polygon.shape)
            yield None if turned else rectify(photo, polygon, rng.uniform(*self.margin))


@command
def main(arguments: Sequence[str] | None = None, prog: str = "python -m tcm_jax.crops") -> None:
    options = _parser(prog).parse_args(arguments)
    try:
        _cut(options)
    except (OSError, ValueError) as error:
        sys.exit(f"error: {error}")


def _cut(options: argparse.Namespace) -> None:
    """Writes the pictures, and tells how many there are and what has none."""
    cuts = Cuts(tuple(options.margin), options.jitter, options.copies, options.seed)
    if not 0 <= cuts.margin[0] <= cuts.margin[1] or cuts.jitter < 0 or cuts.copies < 1 or cuts.seed < 0:
        raise ValueError(f"{cuts}; expected 0 <= margin <= margin, jitter >= 0, copies >= 1 and seed >= 0")
    if options.hold_out < 0 or options.hold_out == 1:
        raise ValueError(f"--hold-out is {options.hold_out}; expected 2 or more")
    source = open_scenes(options.path, options.format, options.images, options.annotations)
    every = options.hold_out or sys.maxsize
    words = {index: found for index, found in _words(source).items() if (index + 1) % every}
    if not words:
        raise SourceError(f"{source.name} has no words with a text; {source.report}")
    broken: list[str] = []
    counts: Counter[str] = Counter()
    if options.detector is None:
        photos = _annotated(source, words, broken)
    else:
        detector = Detector(options.detector or None, scale=options.scale, upright=False)
        photos = _found(source, words, detector, broken)

    def records() -> Iterator[WordCrop]:
        for photo, in_photo in photos:
            for word in in_photo:
                if word.number % every == 0:
                    continue
                counts["words"] += 1
                for picture in cuts.of(photo, word):
                    if picture is None:
                        counts["none"] += 1
                    else:
                        yield WordCrop(picture, word.text, f"word {word.number} of {source.name}")
        if not counts["words"]:
            raise SourceError(f"{source.name}: no words of {len(words):,} photos; {len(broken):,} can't be read")

    count = WRITERS[options.to](records(), options.destination)
    readable = sum(word.number % every > 0 for in_photo in words.values() for word in in_photo)
    print(f"{options.destination}: {count:,} pictures of {counts['words']:,} words; {readable:,} have a text")
    if counts["none"]:
        print(f"left out: {counts['none']:,} pictures of words that may be turned, or lie outside their photo")
    print_left_out(broken)


def _words(source: AnnotatedImageSource) -> dict[int, list[AnnotatedWord]]:
    """The words that have a text, by the indices of their photos."""
    words: dict[int, list[AnnotatedWord]] = {}
    number = 0
    for index in range(len(source)):
        for region in source.regions(index):
            if region.text and not region.ignore:
                number += 1
                words.setdefault(index, []).append(AnnotatedWord(number, region.polygon, region.text))
    return words


Photos = Iterator[tuple[np.ndarray, list[AnnotatedWord]]]


def _annotated(source: AnnotatedImageSource, words: Mapping[int, list[AnnotatedWord]], broken: list[str]) -> Photos:
    """Photos with their words; messages of those that can't be read go to `broken`."""
    for index in progress(list(words), "cutting"):
        try:
            photo = _pixels(source, index)
        except ImageError as error:
            broken.append(str(error))
        else:
            yield photo, words[index]


def _found(
    source: AnnotatedImageSource, words: Mapping[int, list[AnnotatedWord]], detector: Detector, broken: list[str]
) -> Photos:
    """Photos with those of their words that a detector finds."""
    photos = ((partial(_pixels, source, index), source.image_name(index)) for index in progress(list(words), "cutting"))
    for index, outcome in zip(words, detector.photos.stream(photos, "return", _with_photo), strict=True):
        if isinstance(outcome, ImageError):
            broken.append(str(outcome))
        else:
            photo, found = outcome
            yield photo, overlapped(words[index], found)


def _pixels(source: AnnotatedImageSource, index: int) -> np.ndarray:
    return pixels(source[index].image, source.image_name(index))


def _with_photo(found: Detections, photo: np.ndarray) -> tuple[np.ndarray, Detections]:
    return photo, found


def overlapped(words: Sequence[AnnotatedWord], found: Detections) -> list[AnnotatedWord]:
    """The words that are found, with the outlines of what was found in place of their own."""
    outlines = [np.asarray(instance.polygon, np.float64) for instance in found.instances]
    polygons = ImagePolygons([word.polygon for word in words], [], outlines, name=found.name)
    (table,) = geometry([polygons], _OVERLAP)
    matches = pairs(table, _OVERLAP, np.ones(len(outlines), bool))
    return [words[word]._replace(polygon=outlines[outline]) for word, outline in matches]


def _parser(prog: str) -> argparse.ArgumentParser:
    parser = new_parser(prog, __doc__)
    add = parser.add_argument
    add("path", metavar="source", type=as_path, help="folder of one split, of photos with polygons and texts")
    add("destination", type=as_path, help="new folder (or file, of ArrayRecord)")
    add("--to", default="folder", choices=sorted(WRITERS), help="form to write (default: folder)")
    add(
        "--detector",
        nargs="?",
        const="",
        metavar="MODEL",
        help=f"by the outlines that this finds; a {MODEL_HELP}",
    )
    add_scale_option(add)
    add(
        "--margin",
        nargs=2,
        type=float,
        default=(0.2, 0.2),
        metavar=("LEAST", "MOST"),
        help="around a word, in its heights (default: 0.2 0.2)",
    )
    add("--jitter", type=float, default=0.0, help="move each point of an outline by so many heights (default: 0)")
    add("--copies", type=int, default=1, help="pictures of each word (default: 1)")
    add("--seed", type=int, default=0, help="of margins and jitter")
    add(
        "--hold-out",
        type=int,
        default=0,
        metavar="N",
        help="leave out every N-th photo, and every N-th word of the set, to evaluate on",
    )
    add("--format", default="auto", help="of the annotations (default: auto)")
    add("--images", default="", metavar="SUB", help="folder of the photos below the source")
    add("--annotations", default="", metavar="SUB", help="annotations below the source")
    return parser
