"""Exported programs beside the model they were made of, on noise and on pictures."""

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

TOLERANCE = 1e-4  # of float32, as a share of the largest value where that exceeds 1
_COARSE = 2e-2  # of bfloat16, which has three digits
_NOISE = 4  # images


class Comparison(NamedTuple):
    """What a program gave beside what the model gives for the same images.

    Args:
        program: its canvas, height and width; images: how many; pictures: whether they show something, or noise.
        difference: the largest of all numbers, as a share of the largest where that exceeds 1.
        texts: how many words are equal; None of a detector.
    """

    program: tuple[int, int]
    images: int
    pictures: bool
    difference: float
    texts: int | None

    def check(self, dtype: str) -> None:
        """Raises ValueError if they are not the same."""
        tolerance = TOLERANCE if dtype == "float32" else _COARSE
        if not self.difference <= tolerance or self.texts not in (None, self.images):
            raise ValueError(f"the exported program is not the model: {self}; nothing is kept")

    def __str__(self) -> str:
        what = f"{self.images} of {'pictures' if self.pictures else 'noise'}"
        same = "" if self.texts is None else f", {self.texts} of {self.images} words equal"
        return f"{self.program[0]} x {self.program[1]}, {what}: largest difference {self.difference:.1e}{same}"


def of_recognizer(model: LoadedModel, folder: Path, crops: Sequence[np.ndarray]) -> Iterator[Comparison]:
    """Compares the programs in `folder` with the model, on word images uint8 RGB [h, w, 3]."""
    exported = _exported(folder)
    predict = jax.jit(model.predict)
    size = model.network.config.clip.image_size
    for batch, pictures in (_noise(_NOISE, size), False), (np.stack([resize(crop, size) for crop in crops]), True):
        ours, theirs = predict(model.contents.variables, batch), exported.call(batch)
        expected = [word.text for word in words(model.network.tokenizer, ours)]
        equal = sum(a == b for a, (b, _) in zip(expected, exported.texts(theirs), strict=True))
        yield Comparison(size, len(batch), pictures, _difference(ours._asdict(), theirs), equal)


def of_detector(model: LoadedModel, folder: Path, photos: Sequence[np.ndarray]) -> Iterator[Comparison]:
    """Compares the programs in `folder` with the model, each on noise and on one of the photos, uint8 RGB [h, w, 3]."""
    exported = _exported(folder)
    text = model.call(model.network.text_embedding, model.contents.variables)
    predict = jax.jit(model.predict)
    for i, program in enumerate(exported.manifest["programs"]):
        height, width = canvas = tuple(program["canvas"])
        # A little less than the canvas, so that what lies beside the photo is seen to have no effect.
        size = max(1, height - 5), max(1, width - 9)
        photo = np.zeros((1, *canvas, 3), np.uint8)
        photo[0, : size[0], : size[1]] = cv2.resize(photos[i % len(photos)], size[::-1], interpolation=cv2.INTER_AREA)
        for image, shape, pictures in (_noise(1, canvas), canvas, False), (photo, size, True):
            sizes = np.array([shape], np.int32)
            ours = results_by_name(*predict(model.contents.variables, image, sizes, text))
            yield Comparison(canvas, 1, pictures, _difference(ours, exported.call(image, sizes)), None)
        jax.clear_caches()  # dozens of programs, each needed once


def _exported(folder: Path) -> Any:
    """As the script beside the programs reads them."""
    return runpy.run_path(str(folder / "run.py"))["Exported"](folder)


def _noise(count: int, size: tuple[int, int]) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (count, *size, 3), np.uint8)


def _difference(ours: dict[str, jax.Array], theirs: dict[str, jax.Array]) -> float:
    def largest(a: jax.Array, b: jax.Array) -> float:
        return float(np.abs(np.subtract(a, b)).max() / max(1, np.abs(a).max()))

    return max(largest(ours[name], theirs[name]) for name in ours)
