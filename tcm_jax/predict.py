"""Reads word images, and detects text in photos.

python -m tcm_jax.predict read words/ more/*.jpg --checkpoint models/clip4str-b16
python -m tcm_jax.predict detect photos/ --checkpoint models/tcm-db-ic15 --out detected/

One line for each image: path, text and confidence, or path and number of text instances, separated by tabs.
"""

import argparse
import contextlib
import glob
import json
import os
import sys
from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import IO, Any

from PIL import Image
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from tcm_jax import overlay
from tcm_jax.config import setting
from tcm_jax.data.check import contact_sheet
from tcm_jax.data.images import ImageError
from tcm_jax.data.inputs import image_files, pixels
from tcm_jax.data.records import Record
from tcm_jax.detector import Detections, Detector
from tcm_jax.files import as_path, atomic_file, check_writable, matching, reaching
from tcm_jax.recognizer import Reading, Recognizer
from tcm_jax.tasks.loading import DTYPES, NORMALIZATIONS

DETECTIONS = "detections.jsonl"
_MAX_PICTURE = 400  # images on a sheet
_INTERRUPTED = 130  # the shells' exit code for Ctrl-C


def main(arguments: Sequence[str] | None = None) -> None:
    """Runs the command; exit code 1 if an image or anything else couldn't be read."""
    options = _parser().parse_args(arguments)
    try:
        files = _find_images(options.images)
        failed = options.run(options, files)
    except (OSError, ValueError) as error:
        sys.exit(f"error: {error}")
    if failed:
        sys.exit(f"{failed:,} of {len(files):,} images can't be read")


def _read(options: argparse.Namespace, files: list[str]) -> int:
    """Prints and writes the readings as they come, draws the first ones; returns the number of failures."""
    check_writable(options.output, "--output")
    _check_picture(options.picture)
    recognizer = Recognizer(
        options.checkpoint,
        batch_size=options.batch,
        normalization=options.normalization,
        dtype=options.dtype,
        quiet=options.quiet,
    )
    drawn: list[Reading] = []
    failed = 0
    with _output(options.output) as output:
        for outcome in recognizer.stream(files, errors="return"):
            if isinstance(outcome, ImageError):
                print(f"error: {outcome}", file=sys.stderr)
                failed += 1
                continue
            short = f"{outcome.name}\t{outcome.text}\t{outcome.confidence:.4f}"
            _report(outcome.to_dict(), short, options.json, output)
            if len(drawn) < _MAX_PICTURE:
                drawn.append(outcome)
    if options.picture and drawn:
        _draw_sheet(drawn, options.picture)
        if len(drawn) < len(files) - failed:
            print(f"{options.picture} shows the first {len(drawn)} images", file=sys.stderr)
    return failed


def _detect(options: argparse.Namespace, files: list[str]) -> int:
    """Prints, writes and draws the detections as they come; returns the number of failures.

    Ctrl-C ends it with what is done: whole pictures, and a file with a line for each photo until then.
    """
    decoding = dict(setting(text) for text in options.set)
    pictures = _picture_paths(files, options.out) if options.out and options.overlay else None
    if options.out:
        options.out.mkdir(parents=True, exist_ok=True)
        check_writable(options.out / DETECTIONS, "--out")
    detector = Detector(
        options.checkpoint,
        scale=options.scale,
        buckets="exact" if options.exact else "few",
        upright=not options.ignore_exif,
        dtype=options.dtype,
        quiet=options.quiet,
        **decoding,
    )
    done = failed = 0
    path = options.out / DETECTIONS if options.out else None
    with _output(path) as output, _progress(len(files), options.quiet) as progress, _background() as background:
        interrupted = False
        try:
            for done, outcome in enumerate(detector.stream(files, errors="return"), start=1):
                if isinstance(outcome, ImageError):
                    print(f"error: {outcome}", file=sys.stderr)
                    failed += 1
                else:
                    row = outcome.to_dict()
                    if pictures:
                        picture = pictures[done - 1]
                        row["overlay"] = picture.name
                        background(_draw_overlay, outcome, files[done - 1], detector.upright, picture)
                    _report(row, f"{outcome.name}\t{len(outcome.instances)}", options.json, output)
                progress()
        except KeyboardInterrupt:
            interrupted = True
    if interrupted:
        print(f"interrupted after {done:,} of {len(files):,} images", file=sys.stderr)
        sys.exit(_INTERRUPTED)
    return failed


def _report(row: dict[str, Any], short: str, as_json: bool, output: IO | None) -> None:
    """Writes `row`, and prints it or `short`."""
    line = json.dumps(row, ensure_ascii=False)
    if output is not None:
        output.write(line + "\n")
    print(line if as_json else short, flush=True)


def _output(path: Path | None) -> contextlib.AbstractContextManager[IO | None]:
    return atomic_file(path) if path else contextlib.nullcontext()


@contextlib.contextmanager
def _progress(total: int, quiet: bool) -> Iterator[Any]:
    """A bar on stderr if that is a terminal; yields the function that advances it."""
    columns = (BarColumn(), MofNCompleteColumn(), TextColumn("photos"), TimeRemainingColumn())
    shown = total > 1 and not quiet and sys.stderr.isatty()
    # Lines on stdout scroll above the bar where both are the terminal, and stay out of it where they are not.
    with Progress(
        *columns, console=Console(stderr=True), disable=not shown, redirect_stdout=sys.stdout.isatty()
    ) as progress:
        bar = progress.add_task("", total=total)
        yield lambda: progress.advance(bar)


@contextlib.contextmanager
def _background(limit: int = 4) -> Iterator[Any]:
    """Yields a function that runs others in a thread, at most `limit` of them waiting; all are done at the end."""
    waiting: deque[Future] = deque()
    with ThreadPoolExecutor(1, thread_name_prefix="overlay") as pool:

        def submit(function, *arguments) -> None:
            if len(waiting) == limit:
                waiting.popleft().result()
            waiting.append(pool.submit(function, *arguments))

        yield submit
        for future in waiting:
            future.result()


def _draw_overlay(found: Detections, file: str, upright: bool, path: Path) -> None:
    overlay.save(found.draw(pixels(file, file, upright)), path)


def _picture_paths(files: Sequence[str], folder: Path) -> list[Path]:
    """A JPEG file in `folder` for each of `files`, named as it, and with a number where another has this name.

    Raises:
        ValueError: one of `files` is in `folder`; its picture could replace it.
    """
    if any(os.path.realpath(as_path(file).parent) == os.path.realpath(folder) for file in files):
        raise ValueError(f"--out {folder} holds photos that are read; give another folder for their pictures")
    paths: list[Path] = []
    taken: set[str] = set()
    for file in files:
        stem = Path(file).stem
        names = (stem if number == 1 else f"{stem}-{number}" for number in range(1, len(files) + 1))
        name = next(name for name in names if name.lower() not in taken)
        taken.add(name.lower())
        paths.append(folder / f"{name}.jpg")
    return paths


def _find_images(arguments: Sequence[str]) -> list[str]:
    """The files that paths, folders and patterns name. A path that doesn't exist stays, to be reported later.

    Raises:
        ValueError: a folder or a pattern without images.
    """
    files: list[str] = []
    for argument in arguments:
        path = as_path(argument)
        with reaching(path):
            is_folder, exists = path.is_dir(), path.exists()
        if is_folder:
            files += map(str, image_files(path))
        elif glob.has_magic(argument) and not exists:
            matches = matching(argument)
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


def _draw_sheet(readings: Sequence[Reading], path: Path) -> None:
    """A sheet of the images, each above its text."""
    records = [Record(as_path(reading.name).read_bytes(), reading.text, reading.name) for reading in readings]
    with atomic_file(path, "wb") as file:
        contact_sheet(records).save(file, Image.registered_extensions()[path.suffix.lower()])


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m tcm_jax.predict",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    commands = parser.add_subparsers(dest="command", required=True)
    common = argparse.ArgumentParser(add_help=False)
    add = common.add_argument
    add("images", nargs="+", metavar="IMAGE", help="image files, folders of them, or quoted patterns")
    add("--checkpoint", required=True, help="model directory or training workdir (its best, else its last)")
    add("--json", action="store_true", help="print JSON lines")
    add("--dtype", choices=DTYPES, default="auto", help="auto: float32 on a CPU, else bfloat16 (default)")
    add("--quiet", action="store_true", help="don't tell which model runs on which device; no progress bar")

    read = commands.add_parser(
        "read", parents=[common], help="read word images", description="Reads word images, one word each."
    )
    read.set_defaults(run=_read)
    add = read.add_argument
    add("--output", type=as_path, help="write the JSON lines to this file as well")
    add("--picture", type=as_path, help="draw the first images and what was read in them, such as sheet.png")
    add(
        "--normalization",
        choices=NORMALIZATIONS,
        default="checkpoint",
        help="of the images: as in training, or with mean and deviation 0.5 (default: checkpoint)",
    )
    add("--batch", type=int, default=64, help="images at a time (default: 64)")

    detect = commands.add_parser(
        "detect", parents=[common], help="detect text in photos", description="Detects the text in photos."
    )
    detect.set_defaults(run=_detect)
    add = detect.add_argument
    add("--out", type=as_path, metavar="DIR", help=f"write {DETECTIONS} and a picture of each photo to this folder")
    add("--no-overlay", dest="overlay", action="store_false", help="no pictures")
    add(
        "--scale",
        nargs=2,
        type=int,
        metavar=("LONG", "SHORT"),
        help="resize photos to this shorter side, or the longest side if that would be exceeded (default: the model's)",
    )
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


if __name__ == "__main__":
    main()
