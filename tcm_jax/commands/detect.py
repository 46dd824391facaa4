"""Detects text in images.

tcm-jax detect photos/ --checkpoint models/tcm-db-ic15 --out detected/

One line for each image: path and number of text instances, separated by a tab.
"""

import argparse
from collections.abc import Sequence
from pathlib import Path

from tcm_jax.commands.command_line import command, new_parser
from tcm_jax.commands.images import (
    MODEL_HELP,
    ImageProgress,
    background,
    find_images,
    output_file,
    overlay_paths,
    print_row,
)
from tcm_jax.compilation import enable_compilation_cache
from tcm_jax.detection.detector import Detections, Detector
from tcm_jax.detection.options import DetectionOptions
from tcm_jax.files import as_path, check_writable
from tcm_jax.images import overlay
from tcm_jax.images.inputs import load_image
from tcm_jax.options import add_flags, from_flags, settings_flag

DETECTIONS = "detections.jsonl"


@command
def main(arguments: Sequence[str] | None = None, prog: str = "tcm-jax detect") -> None:
    """Runs the command; exit code 1 if an image or anything else couldn't be read.

    Ctrl-C ends it with what is done: whole overlays, and a file with a line for each image until then.
    """
    parsed = _parser(prog).parse_args(arguments)
    files = find_images(parsed.images)
    overlays = overlay_paths(files, parsed.out) if parsed.out and parsed.overlay else None
    if parsed.out:
        parsed.out.mkdir(parents=True, exist_ok=True)
        check_writable(parsed.out / DETECTIONS, "--out")
    enable_compilation_cache()
    detector = Detector(parsed.checkpoint, from_flags(DetectionOptions, parsed), quiet=parsed.quiet)
    progress = ImageProgress(len(files), parsed.quiet)
    with output_file(parsed.out / DETECTIONS if parsed.out else None) as output, background() as draw:

        def report(index: int, found: Detections) -> None:
            row = found.to_dict()
            if overlays:
                row["overlay"] = overlays[index].name
                draw(_draw_overlay, found, files[index], detector.options.upright, overlays[index])
            print_row(row, f"{found.name}\t{len(found.instances)}", parsed.json, output)

        progress.through(detector.stream(files, errors="return"), report)
    progress.exit()


def _draw_overlay(found: Detections, file: str, upright: bool, path: Path) -> None:
    overlay.save(found.draw(load_image(file, file, upright)), path)


def _parser(prog: str) -> argparse.ArgumentParser:
    parser = new_parser(prog, __doc__)
    add = parser.add_argument
    add("images", nargs="+", metavar="IMAGE", help="image files, folders of them, or quoted patterns")
    add("--checkpoint", metavar="MODEL", help=MODEL_HELP)
    add("--out", type=as_path, metavar="DIR", help=f"write {DETECTIONS} and an overlay of each image to this folder")
    add("--no-overlay", dest="overlay", action="store_false", help="no overlays")
    add("--json", action="store_true", help="print JSON lines")
    add("--quiet", action="store_true", help="don't print which model runs on which device; no progress bar")
    add_flags(add, DetectionOptions, "scale", "canvases", "upright", "dtype")
    settings_flag(add, "decoding", "another value of the decoding, such as score_threshold=0.5; may be repeated")
    return parser
