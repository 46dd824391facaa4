"""Writes a model as StableHLO programs, which run where only JAX, flatbuffers and NumPy are.

python -m tcm_jax.export MODEL --output FOLDER
python -m tcm_jax.export runs/mine --output served --platforms cuda --images photos/*.jpg

The folder gets a program for each size of the input, the weights, manifest.json that says what goes in and comes out,
and run.py, which reads them. Each program is compared with the model before the folder appears.
"""

import argparse
import json
import shutil
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import jax
import numpy as np
from rich.console import Console
from rich.progress import track

from tcm_jax import Detector, Recognizer
from tcm_jax.commands.command_line import command, new_parser
from tcm_jax.commands.images import add_scale_option, find_images
from tcm_jax.compilation import enable_compilation_cache
from tcm_jax.export import compare, run
from tcm_jax.export.programs import PLATFORMS, Exportable, of_detector, of_recognizer, programs
from tcm_jax.files import atomic_folder
from tcm_jax.images.decoding import decode
from tcm_jax.images.inputs import pixels
from tcm_jax.pretrained import find_model, read_config
from tcm_jax.render.scenes import SyntheticScenes
from tcm_jax.render.words import SyntheticWords

VERSION = 1  # of the folder; it changes when a key of manifest.json changes its meaning or goes away
_WEIGHTS = "weights.npz"
_RENDERED = 8  # pictures to compare on


@command
def main(arguments: Sequence[str] | None = None, prog: str = "python -m tcm_jax.export") -> None:
    """Runs the command; a problem ends it with a message and exit code 1."""
    parser = new_parser(prog, __doc__)
    parser.add_argument("checkpoint", metavar="MODEL", help="model directory or training workdir")
    parser.add_argument("--output", required=True, metavar="FOLDER", help="a new folder")
    parser.add_argument(
        "--platforms", nargs="+", choices=PLATFORMS, default=PLATFORMS, help="where it will run (default: all three)"
    )
    parser.add_argument("--dtype", choices=("float32", "bfloat16"), default="float32", help="of the computation")
    parser.add_argument(
        "--images", nargs="+", metavar="PATH", help="words or photos to compare on too (default: rendered ones)"
    )
    add_scale_option(parser.add_argument)
    options = parser.parse_args(arguments)
    enable_compilation_cache()
    try:
        _write(options)
    except (OSError, ValueError) as error:
        sys.exit(f"error: {error}")


def _write(options: argparse.Namespace) -> None:
    files = find_images(options.images) if options.images else ()
    images = [pixels(file, file) for file in files]
    if read_config(find_model(options.checkpoint))["task"] == "recognition":
        if options.scale:
            raise ValueError("--scale is for detectors; a recognizer has one size of image")
        _write_recognizer(options, images)
    else:
        _write_detector(options, images)


def _write_recognizer(options: argparse.Namespace, images: list[np.ndarray]) -> None:
    model = Recognizer(options.checkpoint, dtype=options.dtype, quiet=True).model
    charset = model.network.config.charset
    words = SyntheticWords(charset, model.network.config.max_label_length, difficulty=0.3, size=_RENDERED)
    facts = {"task": "recognition", "charset": charset, "resize": "to the canvas, bicubic, as Pillow does"}
    with atomic_folder(options.output) as folder:
        _fill(folder, model, of_recognizer(model), facts, options)
        crops = images or [decode(words[i].image) for i in range(_RENDERED)]
        _compare(compare.of_recognizer(model, folder, crops), options.dtype)


def _write_detector(options: argparse.Namespace, images: list[np.ndarray]) -> None:
    detector = Detector(options.checkpoint, scale=options.scale, dtype=options.dtype, quiet=True)
    model, (long, short) = detector.model, detector.scale
    facts = {
        "task": "detection",
        "family": model.contents.model["family"],
        "scale": [long, short],
        "resize": f"keep the ratio; shorter side {short}, or longer side {long} if that would be exceeded; bilinear",
    }
    scenes = SyntheticScenes(size=_RENDERED, image_size=(short, long), words=(4, 12))
    with atomic_folder(options.output) as folder:
        _fill(folder, model, of_detector(model, detector.scale), facts, options)
        photos = images or [decode(scenes[i].image) for i in range(_RENDERED)]
        _compare(compare.of_detector(model, folder, photos), options.dtype)


def _fill(folder: Path, model: Any, exportable: Exportable, facts: dict, options: argparse.Namespace) -> None:
    files = []
    total = len(exportable.canvases)
    for canvas, program in _bar(programs(exportable, options.platforms), "exporting", total):
        name = "{}x{}.stablehlo".format(*canvas)
        (folder / name).write_bytes(program)
        files.append({"file": name, "canvas": list(canvas)})
    weights: dict[str, Any] = dict(exportable.weights)
    np.savez(folder / _WEIGHTS, **weights)
    contents = model.contents
    manifest = {
        "format": "tcm_jax export",
        "version": VERSION,
        **facts,
        "inputs": [
            "weights",
            "images uint8 RGB [b, h, w, 3]",
            *(["sizes int32 [b, 2]"] if exportable.has_sizes else []),
        ],
        "weights": _WEIGHTS,
        "programs": files,
        "platforms": list(options.platforms),
        "dtype": model.dtype,
        "jax": jax.__version__,
        "source": contents.source,
        "license": contents.license,
    }
    (folder / "manifest.json").write_text(json.dumps(manifest, indent=1, ensure_ascii=False) + "\n", "utf-8")
    shutil.copy(run.__file__, folder / "run.py")
    size = sum(file.stat().st_size for file in folder.iterdir()) / 1e6
    print(f"{total} {'program' if total == 1 else 'programs'} for {', '.join(options.platforms)}, {size:.1f} MB")


def _compare(comparisons: Iterator[compare.Comparison], dtype: str) -> None:
    for comparison in comparisons:
        print(comparison, flush=True)
        comparison.check(dtype)


def _bar(items: Iterator[Any], text: str, total: int) -> Iterator[Any]:
    return iter(track(items, text, total, console=Console(stderr=True), disable=not sys.stderr.isatty()))
