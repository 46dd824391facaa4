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
from tcm_jax.commands.images import MODEL_HELP, ImageProgress, add_scale_option, background, find_images, picture_paths
from tcm_jax.commands.reading_options import add_reading_options, reading_arguments
from tcm_jax.files import as_path
from tcm_jax.images import overlay
from tcm_jax.images.inputs import pixels
from tcm_jax.models.layers import DTYPES
from tcm_jax.spotting.results import SpottedImage
from tcm_jax.spotting.spotter import Spotter
from tcm_jax.spotting.writers import check_output, writer

WORDS = "words.jsonl"


@command
def main(arguments: Sequence[str] | None = None, prog: str = "python -m tcm_jax.spot") -> None:
    """Runs the command; exit code 1 if a photo or anything else couldn't be read.

    Ctrl-C ends it with what is done: whole pictures, and files with the photos until then.
    """
    options = _parser(prog).parse_args(arguments)
    try:
        progression = _spot(options, find_images(options.images))
    except (OSError, ValueError) as error:
        sys.exit(f"error: {error}")
    progression.exit()


def _spot(options: argparse.Namespace, files: list[str]) -> ImageProgress:
    """Prints, writes and draws the words of each photo as they come."""
    outputs = list(options.output)
    for path in outputs:
        check_output(path, files)
    pictures = None
    if options.out:
        pictures = picture_paths(files, options.out)
        options.out.mkdir(parents=True, exist_ok=True)
        outputs.append(options.out / WORDS)
        check_output(outputs[-1], files, "--out")
    spotter = Spotter.load(
        options.detector,
        options.recognizer,
        scale=options.scale,
        upright=not options.ignore_exif,
        dtype=options.dtype,
        quiet=options.quiet,
        **_given(options, "min_score", "score_threshold"),
        **reading_arguments(options),
    )

    def read(photo: SpottedImage) -> Any:
        return pixels(photo.name, photo.name, not options.ignore_exif)

    progression = ImageProgress(len(files), options.quiet)
    with contextlib.ExitStack() as stack:
        writers = [stack.enter_context(writer(path, files, read)) for path in outputs]
        draw = stack.enter_context(background())

        def report(index: int, photo: SpottedImage) -> None:
            for add in writers:
                add(photo)
            if pictures:
                draw(lambda: overlay.save(photo.draw(read(photo)), pictures[index]))
            _print(photo, options)

        progression.through(spotter.stream(files, errors="return"), report)
    return progression


def _given(options: argparse.Namespace, *names: str) -> dict[str, Any]:
    """The options that the user gave; others are the models'."""
    return {name: value for name in names if (value := getattr(options, name)) is not None}


def _print(photo: SpottedImage, options: argparse.Namespace) -> None:
    if options.json:
        print(json.dumps(photo.to_dict(), ensure_ascii=False), flush=True)
        return
    for words in photo.lines if options.lines else [[word] for word in photo.words]:
        text, score = " ".join(word.text for word in words), min(word.score for word in words)
        print(f"{photo.name}\t{text}\t{score:.4f}", flush=True)
    if not photo.words and not options.quiet:
        print(f"{photo.name}: no words found", file=sys.stderr)


def _parser(prog: str) -> argparse.ArgumentParser:
    parser = new_parser(prog, __doc__)
    add = parser.add_argument
    add("images", nargs="+", metavar="PHOTO", help="image files, folders of them, or quoted patterns")
    add("--detector", metavar="MODEL", help=MODEL_HELP)
    add("--recognizer", metavar="MODEL", help="the same, of a recognizer")
    add("--quiet", action="store_true", help="don't tell which models run on which device; no progress bar")

    add = parser.add_argument_group("output").add_argument
    add(
        "--output",
        action="append",
        default=[],
        type=as_path,
        metavar="FILE",
        help="write this file, in the format of its ending; may be repeated",
    )
    add("--out", type=as_path, metavar="DIR", help=f"write {WORDS} and a picture of each photo to this folder")
    add("--json", action="store_true", help="print JSON lines")
    add("--lines", action="store_true", help="print lines of words, with the lowest score of their words")

    add = parser.add_argument_group("reading").add_argument
    add_reading_options(add)
    add("--min-score", type=float, metavar="X", help="leave out words with a smaller probability, 0 .. 1")

    add = parser.add_argument_group("detection").add_argument
    add("--score-threshold", type=float, metavar="X", help="leave out what may be no text: smaller scores, 0 .. 1")
    add_scale_option(add)
    add("--ignore-exif", action="store_true", help="don't turn photos as their EXIF orientation says")
    add("--dtype", choices=DTYPES, default="auto", help="auto: float32 on a CPU, else bfloat16 (default)")
    return parser
