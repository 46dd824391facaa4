"""Finds and reads the text in photos.

python -m tcm_jax.spot photo.jpg
python -m tcm_jax.spot photos/ --output words.json --output pages.hocr --out pictures/

One line for each word, or with --lines for each line of words: path, text and score, separated by tabs. --output takes
the format from the ending of the file: json, jsonl, txt, hocr (also html and xml), zip (as the Robust Reading
Competition takes it), and for one photo jpg and png.
"""

import argparse
import contextlib
import json
import sys
from collections.abc import Sequence
from typing import Any

from tcm_jax.commands.command_line import command, new_parser
from tcm_jax.commands.images import MODEL_HELP, ImageProgress, background, find_images, overlay_paths
from tcm_jax.commands.read import READ_FLAGS
from tcm_jax.detection.options import DetectionOptions
from tcm_jax.files import as_path
from tcm_jax.images import overlay
from tcm_jax.images.inputs import load_image
from tcm_jax.options import add_flags, from_flags
from tcm_jax.recognition.options import ReadingOptions
from tcm_jax.spotting.results import SpottedImage
from tcm_jax.spotting.spotter import READING, Spotter
from tcm_jax.spotting.writers import check_output, writer

WORDS = "words.jsonl"


@command
def main(arguments: Sequence[str] | None = None, prog: str = "python -m tcm_jax.spot") -> None:
    """Runs the command; exit code 1 if an image or anything else couldn't be read.

    Ctrl-C ends it with what is done: whole overlays, and files with the images until then.
    """
    parsed = _parser(prog).parse_args(arguments)
    files = find_images(parsed.images)
    outputs = list(parsed.output)
    for path in outputs:
        check_output(path, files)
    overlays = None
    if parsed.out:
        overlays = overlay_paths(files, parsed.out)
        parsed.out.mkdir(parents=True, exist_ok=True)
        outputs.append(parsed.out / WORDS)
        check_output(outputs[-1], files, "--out")
    limits = {} if parsed.min_score is None else {"min_score": parsed.min_score}
    spotter = load_spotter(parsed, parsed.quiet, **limits)

    def read(image: SpottedImage) -> Any:
        return load_image(image.name, image.name, parsed.upright)

    progress = ImageProgress(len(files), parsed.quiet)
    with contextlib.ExitStack() as stack:
        writers = [stack.enter_context(writer(path, files, read)) for path in outputs]
        draw = stack.enter_context(background())

        def report(index: int, image: SpottedImage) -> None:
            for add in writers:
                add(image)
            if overlays:
                draw(lambda: overlay.save(image.draw(read(image)), overlays[index]))
            _print(image, parsed)

        progress.through(spotter.stream(files, errors="return"), report)
    progress.exit()


def load_spotter(parsed: argparse.Namespace, quiet: bool, **keywords: Any) -> Spotter:
    """The spotter that the flags of `add_spotter_flags` describe."""
    threshold = getattr(parsed, "score_threshold", None)
    decoding = {} if threshold is None else {"score_threshold": threshold}
    return Spotter.load(
        parsed.detector,
        parsed.recognizer,
        quiet=quiet,
        reading=from_flags(ReadingOptions, parsed, views=READING.views, batch_size=READING.batch_size),
        detection=from_flags(DetectionOptions, parsed, decoding=decoding),
        **keywords,
    )


def add_spotter_flags(parser: argparse.ArgumentParser, *detection: str) -> None:
    """Declares which models run and how they read; `detection` are further fields of `DetectionOptions`."""
    add = parser.add_argument_group("models").add_argument
    add("--detector", metavar="MODEL", help=MODEL_HELP)
    add("--recognizer", metavar="MODEL", help="the same, of a recognizer")
    add_flags(add, DetectionOptions, "scale", *detection, "dtype")
    add_flags(parser.add_argument_group("reading").add_argument, ReadingOptions, *READ_FLAGS)


def _print(image: SpottedImage, parsed: argparse.Namespace) -> None:
    if parsed.json:
        print(json.dumps(image.to_dict(), ensure_ascii=False), flush=True)
        return
    for words in image.lines if parsed.lines else [[word] for word in image.words]:
        text, score = " ".join(word.text for word in words), min(word.score for word in words)
        print(f"{image.name}\t{text}\t{score:.4f}", flush=True)
    if not image.words and not parsed.quiet:
        print(f"{image.name}: no words found", file=sys.stderr)


def _parser(prog: str) -> argparse.ArgumentParser:
    parser = new_parser(prog, __doc__)
    add = parser.add_argument
    add("images", nargs="+", metavar="IMAGE", help="image files, folders of them, or quoted patterns")
    add("--quiet", action="store_true", help="don't print which models run on which device; no progress bar")
    add("--min-score", type=float, metavar="X", help="leave out words with a smaller probability, 0 .. 1")
    add("--score-threshold", type=float, metavar="X", help="leave out what may be no text: smaller scores, 0 .. 1")

    add = parser.add_argument_group("output").add_argument
    add(
        "--output",
        action="append",
        default=[],
        type=as_path,
        metavar="FILE",
        help="write this file, in the format of its ending; may be repeated",
    )
    add("--out", type=as_path, metavar="DIR", help=f"write {WORDS} and an overlay of each image to this folder")
    add("--json", action="store_true", help="print JSON lines")
    add("--lines", action="store_true", help="print lines of words, with the lowest score of their words")

    add_spotter_flags(parser, "upright")
    return parser
