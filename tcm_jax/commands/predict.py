"""Reads word images, and detects text in photos.

python -m tcm_jax.predict read words/ more/*.jpg
python -m tcm_jax.predict detect photos/ --checkpoint models/tcm-db-ic15 --out detected/

One line for each image: path, text and confidence, or path and number of text instances, separated by tabs.
"""

import argparse
import contextlib
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import IO

from PIL import Image

from tcm_jax.commands.command_line import command, new_parser
from tcm_jax.commands.images import (
    MODEL_HELP,
    ImageProgress,
    add_scale_option,
    background,
    find_images,
    picture_paths,
    print_row,
)
from tcm_jax.commands.reading_options import add_reading_options, margins_option, reading_arguments
from tcm_jax.compilation import enable_compilation_cache
from tcm_jax.config import setting
from tcm_jax.data.words.check import contact_sheet
from tcm_jax.detection.detector import Detections, Detector
from tcm_jax.files import as_path, atomic_file, check_writable
from tcm_jax.images import overlay
from tcm_jax.images.inputs import pixels
from tcm_jax.models.layers import DTYPES
from tcm_jax.pretrained import DETECTOR, RECOGNIZER
from tcm_jax.recognition.loading import NORMALIZATIONS
from tcm_jax.recognition.recognizer import Reading, Recognizer
from tcm_jax.records import WordCrop

DETECTIONS = "detections.jsonl"
_MAX_PICTURE = 400  # images on a sheet


@command
def main(arguments: Sequence[str] | None = None, prog: str = "python -m tcm_jax.predict") -> None:
    """Runs the command; exit code 1 if an image or anything else couldn't be read.

    Ctrl-C ends it with what is done: whole pictures, and a file with a line for each image until then.
    """
    options = _parser(prog).parse_args(arguments)
    try:
        progression = options.run(options, find_images(options.images))
    except (OSError, ValueError) as error:
        sys.exit(f"error: {error}")
    progression.exit()


def _read(options: argparse.Namespace, files: list[str]) -> ImageProgress:
    """Prints and writes the readings as they come, draws the first ones."""
    check_writable(options.output, "--output")
    _check_picture(options.picture)
    enable_compilation_cache()
    recognizer = Recognizer(
        options.checkpoint,
        batch_size=options.batch,
        normalization=options.normalization,
        margins=options.margins,
        dtype=options.dtype,
        quiet=options.quiet,
        **reading_arguments(options),
    )
    drawn: list[Reading] = []
    progression = ImageProgress(len(files), options.quiet, "images")
    with _output(options.output) as output:

        def report(_: int, reading: Reading) -> None:
            short = f"{reading.name}\t{reading.text}\t{reading.confidence:.4f}"
            print_row(reading.to_dict(), short, options.json, output)
            if len(drawn) < _MAX_PICTURE:
                drawn.append(reading)

        progression.through(recognizer.stream(files, errors="return"), report)
    if options.picture and drawn:
        _draw_sheet(drawn, options.picture)
        if len(drawn) < progression.succeeded:
            print(f"{options.picture} shows the first {len(drawn)} images", file=sys.stderr)
    return progression


def _detect(options: argparse.Namespace, files: list[str]) -> ImageProgress:
    """Prints, writes and draws the detections as they come."""
    decoding = dict(setting(text) for text in options.set)
    pictures = picture_paths(files, options.out) if options.out and options.overlay else None
    if options.out:
        options.out.mkdir(parents=True, exist_ok=True)
        check_writable(options.out / DETECTIONS, "--out")
    enable_compilation_cache()
    detector = Detector(
        options.checkpoint,
        scale=options.scale,
        buckets="exact" if options.exact else "few",
        upright=not options.ignore_exif,
        dtype=options.dtype,
        quiet=options.quiet,
        **decoding,
    )
    progression = ImageProgress(len(files), options.quiet)
    with _output(options.out / DETECTIONS if options.out else None) as output, background() as draw:

        def report(index: int, found: Detections) -> None:
            row = found.to_dict()
            if pictures:
                picture = pictures[index]
                row["overlay"] = picture.name
                draw(_draw_overlay, found, files[index], detector.upright, picture)
            print_row(row, f"{found.name}\t{len(found.instances)}", options.json, output)

        progression.through(detector.stream(files, errors="return"), report)
    return progression


def _output(path: Path | None) -> contextlib.AbstractContextManager[IO | None]:
    return atomic_file(path) if path else contextlib.nullcontext()


def _draw_overlay(found: Detections, file: str, upright: bool, path: Path) -> None:
    overlay.save(found.draw(pixels(file, file, upright)), path)


def _check_picture(path: Path | None) -> None:
    check_writable(path, "--picture")
    if path is not None and path.suffix.lower() not in Image.registered_extensions():
        raise ValueError(f"--picture {path}: no picture format has this ending; try .png")


def _draw_sheet(readings: Sequence[Reading], path: Path) -> None:
    """A sheet of the images, each above its text."""
    records = [WordCrop(as_path(reading.name).read_bytes(), reading.text, reading.name) for reading in readings]
    with atomic_file(path, "wb") as file:
        contact_sheet(records).save(file, Image.registered_extensions()[path.suffix.lower()])


def _parser(prog: str) -> argparse.ArgumentParser:
    parser = new_parser(prog, __doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    common = argparse.ArgumentParser(add_help=False)
    add = common.add_argument
    add("images", nargs="+", metavar="IMAGE", help="image files, folders of them, or quoted patterns")
    add("--json", action="store_true", help="print JSON lines")
    add("--dtype", choices=DTYPES, default="auto", help="auto: float32 on a CPU, else bfloat16 (default)")
    add("--quiet", action="store_true", help="don't tell which model runs on which device; no progress bar")

    read = commands.add_parser(
        "read", parents=[common], help="read word images", description="Reads word images, one word each."
    )
    read.set_defaults(run=_read)
    add = read.add_argument
    add("--checkpoint", default=RECOGNIZER, help=MODEL_HELP)
    add("--output", type=as_path, help="write the JSON lines to this file as well")
    add("--picture", type=as_path, help="draw the first images and what was read in them, such as sheet.png")
    add(
        "--normalization",
        choices=NORMALIZATIONS,
        default="checkpoint",
        help="of the images: as in training, or with mean and deviation 0.5 (default: checkpoint)",
    )
    add("--batch", type=int, default=64, help="images at a time (default: 64)")
    margins_option(add)
    add_reading_options(add)

    detect = commands.add_parser(
        "detect", parents=[common], help="detect text in photos", description="Detects the text in photos."
    )
    detect.set_defaults(run=_detect)
    add = detect.add_argument
    add("--checkpoint", default=DETECTOR, help=MODEL_HELP)
    add("--out", type=as_path, metavar="DIR", help=f"write {DETECTIONS} and a picture of each photo to this folder")
    add("--no-overlay", dest="overlay", action="store_false", help="no pictures")
    add_scale_option(add)
    add(
        "--set",
        action="append",
        default=[],
        metavar="NAME=VALUE",
        help="another parameter of the decoding, such as score_threshold=0.5; may be repeated",
    )
    add("--exact", action="store_true", help="pad as the original does; compiles a program for every new shape")
    add("--ignore-exif", action="store_true", help="don't turn photos as their EXIF orientation says")
    return parser
