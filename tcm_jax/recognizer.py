"""Reading word images from Python.

from tcm_jax import Recognizer
recognizer = Recognizer("models/clip4str-b16")
recognizer.read("word.jpg").text
"""

import dataclasses
import itertools
import os
import sys
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import jax
import numpy as np

from tcm_jax.data.images import ImageError, resize
from tcm_jax.data.inputs import Errors, Input, check_errors, is_single, named, pixels
from tcm_jax.tasks.evaluation import Word, words
from tcm_jax.tasks.loading import load_model
from tcm_jax.tasks.recognition import Prediction, Recognition

SCHEMA_VERSION = 1


@dataclass(frozen=True)
class Reading:
    """What was read in one image.

    Args:
        text: the word, in the charset of the model.
        confidence: probability of the whole word, the product of those of its characters and of its end.
        char_confidences: one probability for each character of `text`.
        name: the path, or where the image stood in the input.
    """

    text: str
    confidence: float
    char_confidences: tuple[float, ...]
    name: str

    def to_dict(self) -> dict[str, Any]:
        """For JSON; `schema_version` changes when a key changes its meaning or goes away."""
        fields = dataclasses.asdict(self) | {"char_confidences": list(self.char_confidences)}
        return {"schema_version": SCHEMA_VERSION, **fields}


class Recognizer:
    """Reads word images; one object can serve many threads.

    The result for an image doesn't depend on the images that are read with it. Batches are padded to 1, 2,
    4, ... or `batch_size` images, so that few programs are compiled.

    Args:
        checkpoint: a model directory, or the working directory of a training run (its `best`, else its
            `last`).
        batch_size: most images at a time.
        normalization: "checkpoint" as in training, "half" with mean and deviation 0.5, as the original's
            scripts for testing and reading do.
        dtype: of the computation; "auto" is float32 on a CPU and bfloat16 elsewhere.
        quiet: don't tell on stderr which model runs on which device.

    Raises:
        FileNotFoundError: no model at `checkpoint`.
        ValueError: a broken model, one of another kind, or an argument outside its choices.
    """

    def __init__(
        self,
        checkpoint: str | os.PathLike,
        *,
        batch_size: int = 64,
        normalization: str = "checkpoint",
        dtype: str = "auto",
        quiet: bool = False,
    ):
        if batch_size < 1:
            raise ValueError(f"batch_size is {batch_size}; expected at least 1")
        self.model = load_model(checkpoint, normalization, dtype)
        self.batch_size = batch_size
        self._task = self.model.task
        self._variables = jax.device_put(self.model.contents.variables)
        self._predict = jax.jit(self.model.predict)
        self._pool = ThreadPoolExecutor(min(8, os.cpu_count() or 1), thread_name_prefix="recognizer")
        if not quiet:
            print(f"Reading with {self.model}", file=sys.stderr)

    def read(self, images: Input | Iterable[Input], errors: Errors = "raise") -> Any:  # Reading or a list
        """Reads one or many images.

        Args:
            images: a path, the bytes of an image file, a PIL image, or an array uint8 RGB [h, w, 3] or gray
                [h, w]; or an iterable of them, or a folder (its image files by name, without subfolders).
            errors: what an image that can't be read does among many: "raise", or "return" the ImageError at
                its place. A single image always raises.

        Returns:
            A Reading, or for many images a list in their order.

        Raises:
            ImageError: an image can't be read; `name` says which.
            ValueError: a folder without images.
        """
        if is_single(images):
            return next(self.stream(images))
        return list(self.stream(images, errors))

    def stream(self, images: Input | Iterable[Input], errors: Errors = "raise") -> Iterator[Reading | ImageError]:
        """As `read` for many images, but yields as it goes and holds only two batches of images."""
        check_errors(errors)
        return self._stream(named(images), errors)

    def _stream(self, inputs: Iterator[tuple[Input, str]], errors: Errors) -> Iterator[Reading | ImageError]:
        before: Iterator[Reading | ImageError] = iter(())
        while chunk := list(itertools.islice(inputs, self.batch_size)):
            images = list(self._pool.map(self._prepare, *zip(*chunk, strict=True)))
            prediction = self._dispatch([image for image in images if not isinstance(image, ImageError)])
            yield from before  # while the device works on the new images
            before = _readings([name for _, name in chunk], images, prediction, self._task, errors)
        yield from before

    def _prepare(self, image: Input, name: str) -> np.ndarray | ImageError:
        """The pixels [H, W, 3] for the model."""
        try:
            return resize(pixels(image, name), self._task.config.clip.image_size)
        except ImageError as error:
            return error

    def _dispatch(self, images: list[np.ndarray]) -> Prediction | None:
        """Starts the reading of at most `batch_size` images."""
        if not images:
            return None
        size = min(1 << (len(images) - 1).bit_length(), self.batch_size)
        batch = np.zeros((size, *images[0].shape), np.uint8)
        batch[: len(images)] = images
        return self._predict(self._variables, batch)


def _readings(
    names: list[str],
    images: list[np.ndarray | ImageError],
    prediction: Prediction | None,
    task: Recognition,
    errors: Errors,
) -> Iterator[Reading | ImageError]:
    """The outcome for every name; the device is waited for at the first."""
    read: Iterator[Word] = iter(words(task.tokenizer, prediction) if prediction is not None else ())
    for name, image in zip(names, images, strict=True):
        if isinstance(image, ImageError):
            if errors == "raise":
                raise image
            yield image
        else:
            word = next(read)
            characters = tuple(word.probabilities[: len(word.text)].tolist())
            yield Reading(word.text, word.confidence, characters, name)
