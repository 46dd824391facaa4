"""Checks the installation: versions, devices, folders, models, and a self-test of some seconds.

python -m tcm_jax.doctor

Exit code 1 if something is wrong; the lines that start with "wrong" say what to do. Nothing is downloaded.
"""

# Packages are imported where they are used, so that this starts when some are missing.
import hashlib
import os
import platform
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING

import tcm_jax
from tcm_jax.commands.command_line import command, new_parser

if TYPE_CHECKING:
    import numpy as np

_PACKAGES = (
    *("jax", "jaxlib", "flax", "numpy", "scipy", "pillow", "opencv-python-headless", "shapely", "pyclipper"),
    *("rapidfuzz", "safetensors", "optax", "orbax-checkpoint", "grain", "lmdb", "array_record", "rich"),
)
_WORD = "HELLO"

Line = tuple[bool, str]  # whether all is well, and what was found


@command
def main(arguments: Sequence[str] | None = None, prog: str = "python -m tcm_jax.doctor") -> None:
    """Runs the command; exit code 1 if something is wrong."""
    new_parser(prog, __doc__).parse_args(arguments)
    wrong = 0
    for check in (_versions, _devices, _programs, _weights, _self_test):
        for well, text in _safely(check):
            print(f"{'ok   ' if well else 'wrong'} {text}", flush=True)
            wrong += not well
    if wrong:
        sys.exit(f"{wrong} {'thing is' if wrong == 1 else 'things are'} wrong")


def _safely(check: Callable[[], Iterator[Line]]) -> Iterator[Line]:
    """The lines of `check`; an error in it becomes a line, so that the checks after it still run."""
    try:
        yield from check()
    except Exception as error:
        yield False, f"{check.__name__.strip('_').replace('_', ' ')}: {type(error).__name__}: {error}"


def _versions() -> Iterator[Line]:
    yield True, f"tcm_jax {tcm_jax.__version__} in {Path(tcm_jax.__file__).parent}"
    yield True, f"Python {platform.python_version()} on {platform.platform()}, {os.cpu_count()} CPU cores"
    versions = {name: _version(name) for name in _PACKAGES}
    yield True, ", ".join(f"{name} {version}" for name, version in versions.items() if version)
    if missing := [name for name, version in versions.items() if not version]:
        yield False, f"not installed: {', '.join(missing)}; run `pip install --upgrade tcm_jax`"
    if _version("opencv-python"):
        problem = "opencv-python and opencv-python-headless write the same files, and the first needs a display"
        first, second = "pip uninstall opencv-python opencv-python-headless", "pip install opencv-python-headless"
        yield False, f"{problem}; run `{first}`, then `{second}`"


def _version(name: str) -> str:
    """Of an installed package, else empty."""
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return ""


def _devices() -> Iterator[Line]:
    import jax

    devices = jax.devices()
    kind, backend = devices[0].device_kind, devices[0].platform
    yield True, f"{len(devices)} x {kind} ({backend}), computes with JAX {jax.__version__}"
    if backend == "cpu" and Path("/proc/driver/nvidia/version").exists():
        yield False, 'there is an NVIDIA GPU that JAX does not use; run `pip install --upgrade "tcm_jax[cuda]"`'


def _programs() -> Iterator[Line]:
    from tcm_jax import compilation

    folder = compilation.folder()
    existing = next(path for path in (folder, *folder.absolute().parents) if path.exists())
    if not existing.is_dir() or not os.access(existing, os.W_OK):
        remedy = f"set {compilation.VARIABLE} to another folder"
        yield False, f"{folder} is not writable: each start compiles anew; {remedy}"
        return
    files = [path for path in folder.rglob("*") if path.is_file()]
    size = sum(path.stat().st_size for path in files) / 1e6
    yield True, f"compiled programs are kept in {folder}: {len(files):,} files, {size:,.1f} MB"


def _weights() -> Iterator[Line]:
    from tcm_jax import pretrained

    for directory in (pretrained.DETECTOR, pretrained.RECOGNIZER):
        path = directory / pretrained.WEIGHTS
        if path.is_file():
            checksum = hashlib.sha256(path.read_bytes()).hexdigest()
            yield True, f"{directory}: {path.stat().st_size / 1e6:.1f} MB, sha256 {checksum[:16]}"
        else:
            yield False, f"{path} is missing; run `pip install --force-reinstall --no-deps tcm_jax`"


def _self_test() -> Iterator[Line]:
    """The packaged models detect and read a word in an image that is drawn here."""
    import numpy as np

    from tcm_jax.compilation import enable_compilation_cache
    from tcm_jax.detection.detector import Detector
    from tcm_jax.metrics.detection import ImagePolygons, hmean_iou
    from tcm_jax.recognition.recognizer import Recognizer

    enable_compilation_cache()
    image, (left, top, right, bottom) = drawn_image()
    remedy = ": the models or the computation are damaged; reinstall, and try with JAX_PLATFORMS=cpu"

    start = time.monotonic()
    text = Recognizer(quiet=True).read(image[top - 4 : bottom + 4, left - 6 : right + 6]).text
    seconds, well = time.monotonic() - start, text.upper() == _WORD
    yield well, f"reads {text!r} where {_WORD!r} is drawn, in {seconds:.1f} s{'' if well else remedy}"

    start = time.monotonic()
    polygons = [instance.polygon for instance in Detector(quiet=True).detect(image).instances]
    corners = np.array([(left, top), (right, top), (right, bottom), (left, bottom)])
    well = hmean_iou([ImagePolygons([corners], [], polygons)]).total.recall == 1
    found = "detects the word in a drawn image" if well else "does not detect the word in a drawn image"
    yield well, f"{found}, in {time.monotonic() - start:.1f} s{'' if well else remedy}"


def drawn_image() -> tuple["np.ndarray", tuple[int, int, int, int]]:
    """An image of a sign, uint8 RGB [540, 960, 3], and the box of its word: left, top, right, bottom in pixels."""
    import numpy as np
    from PIL import Image, ImageDraw, ImageFont

    image, font, middle = Image.new("RGB", (960, 540), (70, 90, 110)), ImageFont.load_default(40), (480, 270)
    draw = ImageDraw.Draw(image)
    draw.rectangle((360, 220, 600, 320), fill=(235, 230, 215))
    left, top, right, bottom = map(round, draw.textbbox(middle, _WORD, font=font, anchor="mm"))
    draw.text(middle, _WORD, fill=(25, 25, 35), font=font, anchor="mm")
    return np.array(image), (left, top, right, bottom)
