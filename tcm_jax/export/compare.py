"""Comparison of exported programs with their model, on noise and on images."""

import runpy
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import cv2
import jax
import numpy as np

from tcm_jax.export.programs import results_by_name
from tcm_jax.images.decoding import resize
from tcm_jax.loading import LoadedModel
from tcm_jax.recognition.words import words

TOLERANCE = 1e-4  # of float32, relative to the largest value if that exceeds 1
_BFLOAT16_TOLERANCE = 2e-2  # it has three digits
_NOISE_IMAGES = 4


class Comparison(NamedTuple):
    """Outputs of a program, compared with those of the model for the same images.

    Args:
        canvas: height and width of the program's images.
        images: number of images.
        kind: "noise" or "images".
        difference: the largest one of all values, relative to the largest value if that exceeds 1.
        texts: number of equal words; None for a detector.
    """

    canvas: tuple[int, int]
    images: int
    kind: str
    difference: float
    texts: int | None

    def check(self, dtype: str) -> None:
        """Raises ValueError if the outputs differ by more than rounding errors of `dtype`."""
        tolerance = TOLERANCE if dtype == "float32" else _BFLOAT16_TOLERANCE
        if not self.difference <= tolerance or self.texts not in (None, self.images):
            raise ValueError(f"the exported program differs from the model: {self}; nothing is kept")

    def __str__(self) -> str:
        equal = "" if self.texts is None else f", {self.texts} of {self.images} words equal"
        height, width = self.canvas
        return f"{height} x {width}, {self.images} of {self.kind}: largest difference {self.difference:.1e}{equal}"


def of_recognizer(model: LoadedModel, folder: Path, crops: Sequence[np.ndarray]) -> Iterator[Comparison]:
    """Compares the program in `folder` with the model, on noise and on crops, uint8 RGB [h, w, 3]."""
    exported = _load(folder)
    predict = jax.jit(model.predict)
    size = model.network.config.clip.image_size
    batches = {"noise": _noise(_NOISE_IMAGES, size), "images": np.stack([resize(crop, size) for crop in crops])}
    for kind, batch in batches.items():
        ours, theirs = predict(model.contents.variables, batch), exported.call(batch)
        expected = [word.text for word in words(model.network.tokenizer, ours)]
        equal = sum(a == b for a, (b, _) in zip(expected, exported.texts(theirs), strict=True))
        yield Comparison(size, len(batch), kind, _difference(ours._asdict(), theirs), equal)


def of_detector(model: LoadedModel, folder: Path, images: Sequence[np.ndarray]) -> Iterator[Comparison]:
    """Compares the programs in `folder` with the model, each on noise and on one of the images, uint8 RGB [h, w, 3]."""
    exported = _load(folder)
    text = model.call(model.network.text_embedding, model.contents.variables)
    predict = jax.jit(model.predict)
    for i, program in enumerate(exported.manifest["programs"]):
        height, width = canvas = tuple(program["canvas"])
        # A little smaller than the canvas, to show that the padding has no effect.
        size = max(1, height - 5), max(1, width - 9)
        padded = np.zeros((1, *canvas, 3), np.uint8)
        padded[0, : size[0], : size[1]] = cv2.resize(images[i % len(images)], size[::-1], interpolation=cv2.INTER_AREA)
        for kind, batch, shape in ("noise", _noise(1, canvas), canvas), ("images", padded, size):
            sizes = np.array([shape], np.int32)
            ours = results_by_name(*predict(model.contents.variables, batch, sizes, text))
            yield Comparison(canvas, 1, kind, _difference(ours, exported.call(batch, sizes)), None)
        jax.clear_caches()  # dozens of programs, each used once


def _load(folder: Path) -> Any:
    """The programs, loaded by the script in their folder."""
    return runpy.run_path(str(folder / "run.py"))["Exported"](folder)


def _noise(count: int, size: tuple[int, int]) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (count, *size, 3), np.uint8)


def _difference(ours: dict[str, jax.Array], theirs: dict[str, jax.Array]) -> float:
    pairs = ((a, theirs[name]) for name, a in ours.items())
    return max(float(np.abs(np.subtract(a, b)).max() / max(1, np.abs(a).max())) for a, b in pairs)
