"""Reads word images.

python -m tcm_jax.predict read words/ more/*.jpg --checkpoint models/clip4str-b16

prints one line for each image: path, text and confidence, separated by tabs.
"""

import argparse
import contextlib
import glob
import json
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import IO

from PIL import Image

from tcm_jax.data.check import contact_sheet
from tcm_jax.data.images import ImageError
from tcm_jax.data.records import Record
from tcm_jax.files import atomic_file, check_writable
from tcm_jax.recognizer import Reading, Recognizer, image_files
from tcm_jax.tasks.loading import DTYPES, NORMALIZATIONS

_MAX_PICTURE = 400  # images on a sheet


def main(arguments: Sequence[str] | None = None) -> None:
    """Runs the command; exit code 1 if an image or anything else couldn't be read."""
    options = _parser().parse_args(arguments)
    try:
        files = _find_images(options.images)
        check_writable(options.output, "--output")
        _check_picture(options.picture)
        recognizer = Recognizer(
            options.checkpoint,
            batch_size=options.batch,
            normalization=options.normalization,
            dtype=options.dtype,
            quiet=options.quiet,
        )
        output = atomic_file(options.output) if options.output else contextlib.nullcontext()
        with output as file:
            failed = _read(recognizer, files, options, file)
    except (OSError, ValueError) as error:
        sys.exit(f"error: {error}")
    if failed:
        sys.exit(f"{failed:,} of {len(files):,} images can't be read")


def _read(recognizer: Recognizer, files: list[str], options: argparse.Namespace, output: IO | None) -> int:
    """Prints and writes the readings as they come, draws the first ones; returns the number of failures."""
    drawn: list[Reading] = []
    failed = 0
    for outcome in recognizer.stream(files, errors="return"):
        if isinstance(outcome, ImageError):
            print(f"error: {outcome}", file=sys.stderr)
            failed += 1
            continue
        line = json.dumps(outcome.to_dict(), ensure_ascii=False)
        short = f"{outcome.name}\t{outcome.text}\t{outcome.confidence:.4f}"
        print(line if options.json else short, flush=True)
        if output is not None:
            print(line, file=output)
        if len(drawn) < _MAX_PICTURE:
            drawn.append(outcome)
    if options.picture and drawn:
        _draw(drawn, options.picture)
        if len(drawn) < len(files) - failed:
            print(f"{options.picture} shows the first {len(drawn)} images", file=sys.stderr)
    return failed


def _find_images(arguments: Sequence[str]) -> list[str]:
    """The files that paths, folders and patterns name. A path that doesn't exist stays, to be reported later.

    Raises:
        ValueError: a folder or a pattern without images.
    """
    files: list[str] = []
    for argument in arguments:
        if os.path.isdir(argument):
            files += map(str, image_files(argument))
        elif glob.has_magic(argument) and not os.path.exists(argument):
            matches = sorted(path for path in glob.glob(argument, recursive=True) if os.path.isfile(path))
            if not matches:
                raise ValueError(f"no file matches {argument}")
            files += matches
        else:
            files.append(argument)
    return files


def _check_picture(path: Path | None) -> None:
    check_writable(path, "--picture")
    if path is not None and path.suffix.lower() not in Image.registered_extensions():
        raise ValueError(f"--picture {path}: no picture format has this ending; try .png")


def _draw(readings: Sequence[Reading], path: Path) -> None:
    """A sheet of the images, each above its text."""
    records = [Record(Path(reading.name).read_bytes(), reading.text, reading.name) for reading in readings]
    with atomic_file(path, "wb") as file:
        contact_sheet(records).save(file, Image.registered_extensions()[path.suffix.lower()])


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m tcm_jax.predict",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    command = parser.add_subparsers(dest="command", required=True).add_parser(
        "read", help="read word images", description="Reads word images, one word each."
    )
    add = command.add_argument
    add("images", nargs="+", metavar="IMAGE", help="image files, folders of them, or quoted patterns")
    add("--checkpoint", required=True, help="model directory or training workdir (its best, else its last)")
    add("--json", action="store_true", help="print JSON lines, with the confidence of every character")
    add("--output", type=Path, help="write the JSON lines to this file as well")
    add("--picture", type=Path, help="draw the first images and what was read in them, such as sheet.png")
    add(
        "--normalization",
        choices=NORMALIZATIONS,
        default="checkpoint",
        help="of the images: as in training, or with mean and deviation 0.5 (default: checkpoint)",
    )
    add("--dtype", choices=DTYPES, default="auto", help="auto: float32 on a CPU, else bfloat16 (default)")
    add("--batch", type=int, default=64, help="images at a time (default: 64)")
    add("--quiet", action="store_true", help="don't tell which model runs on which device")
    return parser


if __name__ == "__main__":
    main()
