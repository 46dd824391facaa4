"""Writes a model as StableHLO programs, which run with JAX, flatbuffers and NumPy only.

python -m tcm_jax.export MODEL --output FOLDER
python -m tcm_jax.export runs/mine --output served --platforms cuda --images images/*.jpg

The folder gets a program for each size of the input, the weights, manifest.json that describes inputs and outputs, and
run.py, which loads them. Each program is compared with the model before the folder appears.
"""

import argparse
import json
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np

from tcm_jax import Detector, Recognizer
from tcm_jax.commands.command_line import command, new_parser, progress
from tcm_jax.commands.images import find_images
from tcm_jax.compilation import enable_compilation_cache
from tcm_jax.detection.options import DetectionOptions
from tcm_jax.export import compare, programs, run
from tcm_jax.files import atomic_folder
from tcm_jax.images.decoding import decode
from tcm_jax.images.inputs import load_image
from tcm_jax.loading import LoadedModel
from tcm_jax.options import add_flags
from tcm_jax.pretrained import find_model, read_config
from tcm_jax.render.scenes import SyntheticScenes
from tcm_jax.render.words import SyntheticWords

VERSION = 1  # of the folder; it changes when a key of manifest.json changes its meaning or goes away
_WEIGHTS = "weights.npz"
_RENDERED = 8  # images to compare on


class _Export(NamedTuple):
    """A model to export, entries of its manifest, rendered images, and the comparison of `compare`."""

    model: LoadedModel
    exportable: programs.Exportable
    manifest: dict[str, Any]
    rendered: Any
    compare: Callable[..., Any]


@command
def main(arguments: Sequence[str] | None = None, prog: str = "python -m tcm_jax.export") -> None:
    """Runs the command."""
    parser = new_parser(prog, __doc__)
    add = parser.add_argument
    add("checkpoint", metavar="MODEL", help="model directory or training workdir")
    add("--output", required=True, metavar="FOLDER", help="a new folder")
    platforms = programs.PLATFORMS
    add("--platforms", nargs="+", choices=platforms, default=platforms, help="where it will run (default: all three)")
    add("--dtype", choices=("float32", "bfloat16"), default="float32", help="of the computation")
    add("--images", nargs="+", default=(), metavar="PATH", help="images to compare on (default: rendered ones)")
    add_flags(add, DetectionOptions, "scale")
    options = parser.parse_args(arguments)
    enable_compilation_cache()
    images = [load_image(file, file) for file in find_images(options.images)]
    is_recognizer = read_config(find_model(options.checkpoint))["task"] == "recognition"
    if is_recognizer and options.scale:
        raise ValueError("--scale is for detectors; a recognizer has one size of image")
    with atomic_folder(options.output) as folder:
        export = _recognizer(options) if is_recognizer else _detector(options)
        _fill(folder, export, options.platforms)
        images = images or [decode(export.rendered[i].image) for i in range(_RENDERED)]
        for comparison in export.compare(export.model, folder, images):
            print(comparison, flush=True)
            comparison.check(options.dtype)


def _recognizer(options: argparse.Namespace) -> _Export:
    model = Recognizer(options.checkpoint, dtype=options.dtype, quiet=True).model
    config = model.network.config
    rendered = SyntheticWords(config.charset, config.max_label_length, difficulty=0.3, size=_RENDERED)
    manifest = {"task": "recognition", "charset": config.charset, "resize": "to the canvas, bicubic, as Pillow does"}
    return _Export(model, programs.of_recognizer(model), manifest, rendered, compare.of_recognizer)


def _detector(options: argparse.Namespace) -> _Export:
    detector = Detector(options.checkpoint, scale=options.scale, dtype=options.dtype, quiet=True)
    model, scale = detector.model, detector.options.scales[0]
    long, short = scale
    manifest = {
        "task": "detection",
        "family": model.contents.model["family"],
        "scale": [long, short],
        "resize": f"keep the ratio; shorter side {short}, or longer side {long} if that would be exceeded; bilinear",
    }
    rendered = SyntheticScenes(size=_RENDERED, image_size=(short, long), words=(4, 12))
    return _Export(model, programs.of_detector(model, scale), manifest, rendered, compare.of_detector)


def _fill(folder: Path, export: _Export, platforms: Sequence[str]) -> None:
    """Writes all files of the folder."""
    files, exportable, contents = [], export.exportable, export.model.contents
    total = len(exportable.canvases)
    for canvas, program in progress(programs.programs(exportable, platforms), "exporting", total):
        name = "{}x{}.stablehlo".format(*canvas)
        (folder / name).write_bytes(program)
        files.append({"file": name, "canvas": list(canvas)})
    weights: dict[str, Any] = dict(exportable.weights)
    np.savez(folder / _WEIGHTS, **weights)
    inputs = ["weights", "images uint8 RGB [b, h, w, 3]", "sizes int32 [b, 2]"]
    manifest = {
        "format": "tcm_jax export",
        "version": VERSION,
        **export.manifest,
        "inputs": inputs if exportable.has_sizes else inputs[:2],
        "weights": _WEIGHTS,
        "programs": files,
        "platforms": list(platforms),
        "dtype": export.model.dtype,
        "jax": jax.__version__,
        "source": contents.source,
        "license": contents.license,
    }
    (folder / "manifest.json").write_text(json.dumps(manifest, indent=1, ensure_ascii=False) + "\n", "utf-8")
    shutil.copy(run.__file__, folder / "run.py")
    size = sum(file.stat().st_size for file in folder.iterdir()) / 1e6
    print(f"{total} {'program' if total == 1 else 'programs'} for {', '.join(platforms)}, {size:.1f} MB")
