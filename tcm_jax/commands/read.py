"""Reads crops, one word each.

tcm-jax read words/ more/*.jpg
tcm-jax read words/ --checkpoint models/clip4str-b16 --picture sheet.png

One line for each image: path, text and confidence, separated by tabs.
"""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from PIL import Image

from tcm_jax.commands.command_line import command, new_parser
from tcm_jax.commands.images import MODEL_HELP, ImageProgress, find_images, output_file, print_row
from tcm_jax.compilation import enable_compilation_cache
from tcm_jax.data.words.check import contact_sheet
from tcm_jax.files import as_path, atomic_file, check_writable
from tcm_jax.options import add_flags, from_flags
from tcm_jax.recognition.options import ReadingOptions
from tcm_jax.recognition.recognizer import Reading, Recognizer
from tcm_jax.records import WordCrop

_MAX_SHEET = 400  # images on a sheet


@command
def main(arguments: Sequence[str] | None = None, prog: str = "tcm-jax read") -> None:
    """Runs the command; exit code 1 if an image or anything else couldn't be read.

    Ctrl-C ends it with what is done: a file with a line for each image until then.
    """
    parsed = _parser(prog).parse_args(arguments)
    files = find_images(parsed.images)
    check_writable(parsed.output, "--output")
    _check_sheet(parsed.picture)
    enable_compilation_cache()
    recognizer = Recognizer(parsed.checkpoint, from_flags(ReadingOptions, parsed), quiet=parsed.quiet)
    drawn: list[Reading] = []
    progress = ImageProgress(len(files), parsed.quiet)
    with output_file(parsed.output) as output:

        def report(_: int, reading: Reading) -> None:
            short = f"{reading.name}\t{reading.text}\t{reading.confidence:.4f}"
            print_row(reading.to_dict(), short, parsed.json, output)
            if len(drawn) < _MAX_SHEET:
                drawn.append(reading)

        progress.through(recognizer.stream(files, errors="return"), report)
    if parsed.picture and drawn:
        _draw_sheet(drawn, parsed.picture)
        if len(drawn) < progress.succeeded:
            print(f"{parsed.picture} shows the first {len(drawn)} images", file=sys.stderr)
    progress.exit()


def _check_sheet(path: Path | None) -> None:
    check_writable(path, "--picture")
    if path is not None and path.suffix.lower() not in Image.registered_extensions():
        raise ValueError(f"--picture {path}: no picture format has this ending; try .png")


def _draw_sheet(readings: Sequence[Reading], path: Path) -> None:
    """A sheet of the images, each above its text."""
    crops = [WordCrop(as_path(reading.name).read_bytes(), reading.text, reading.name) for reading in readings]
    with atomic_file(path, "wb") as file:
        contact_sheet(crops).save(file, Image.registered_extensions()[path.suffix.lower()])


def _parser(prog: str) -> argparse.ArgumentParser:
    parser = new_parser(prog, __doc__)
    add = parser.add_argument
    add("images", nargs="+", metavar="IMAGE", help="image files, folders of them, or quoted patterns")
    add("--checkpoint", metavar="MODEL", help=MODEL_HELP)
    add("--output", type=as_path, help="write the JSON lines to this file as well")
    add("--picture", type=as_path, help="draw the first images and what was read in them, such as sheet.png")
    add("--json", action="store_true", help="print JSON lines")
    add("--quiet", action="store_true", help="don't print which model runs on which device; no progress bar")
    add_flags(add, ReadingOptions, *READ_FLAGS, "views", "normalization", "batch_size", "dtype")
    return parser


READ_FLAGS = ("dictionary_prior", "branches", "allow", "on_disallowed", "lexicon", "lexicon_distance")
