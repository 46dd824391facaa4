"""Reading word images from Python.

from tcm_jax import Recognizer
recognizer = Recognizer()  # or Recognizer("models/clip4str-b16")
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

from tcm_jax.images.decoding import ImageError
from tcm_jax.images.inputs import Errors, Input, check_errors, is_single, load_image, named_images
from tcm_jax.options import from_keywords
from tcm_jax.pretrained import RECOGNIZER
from tcm_jax.recognition.loading import load_recognizer
from tcm_jax.recognition.model import Prediction
from tcm_jax.recognition.options import ReadingOptions
from tcm_jax.recognition.words import DecodedWord, words
from tcm_jax.text.allow_list import AllowList
from tcm_jax.text.lexicon import Lexicon, carry_over

SCHEMA_VERSION = 1


@dataclass(frozen=True)
class Reading:
    """What was read in one image.

    Args:
        text: the word, in the charset of the model unless it comes from a lexicon.
        confidence: probability of the whole word as it was read, the product of those of its characters and of its
            end.
        char_confidences: one probability for each character of `text`; 0 for one that only the lexicon has.
        name: the path, or where the image stood in the input.
        raw_text: the likeliest reading, where a word of the lexicon or the dictionary took its place; else None.
    """

    text: str
    confidence: float
    char_confidences: tuple[float, ...]
    name: str
    raw_text: str | None = None

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
            `last`); None: the one that comes with the package.
        options: how it reads; keywords are fields of `ReadingOptions`, and count more.
        quiet: don't print on stderr which model runs on which device.

    Raises:
        FileNotFoundError: no model at `checkpoint`.
        ValueError: a broken model, one of another kind, an option outside its choices, or expected characters that
            the model can't read.
        OSError: the lexicon can't be read.
    """

    def __init__(
        self,
        checkpoint: str | os.PathLike | None = None,
        options: ReadingOptions | None = None,
        *,
        quiet: bool = False,
        **keywords: Any,
    ) -> None:
        given = from_keywords(ReadingOptions, options, keywords)
        self._lexicon = None if given.lexicon is None else Lexicon(given.lexicon, given.lexicon_distance)
        self.model = load_recognizer(RECOGNIZER if checkpoint is None else checkpoint, given)
        self._network = self.model.network
        self.options = self._network.options
        allowed = None if given.allow is None else AllowList(given.allow, self._network.config.charset)
        self._mask = allowed.mask() if allowed and given.on_disallowed == "mask" else None
        self._kept = allowed if given.on_disallowed == "drop" else None
        self._variables = jax.device_put(self.model.contents.variables)
        self._predict = jax.jit(self.model.predict)
        self._pool = ThreadPoolExecutor(min(8, os.cpu_count() or 1), thread_name_prefix="recognizer")
        if not quiet:
            print(f"Reading with {self.model}{self.options}", file=sys.stderr)

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
        return self._stream(named_images(images), errors)

    def _stream(self, inputs: Iterator[tuple[Input, str]], errors: Errors) -> Iterator[Reading | ImageError]:
        before: Iterator[Reading | ImageError] = iter(())
        while chunk := list(itertools.islice(inputs, self.options.batch_size)):
            images = list(self._pool.map(self._prepare, *zip(*chunk, strict=True)))
            prediction = self._dispatch([image for image in images if not isinstance(image, ImageError)])
            yield from before  # while the device works on the new images
            before = self._readings([name for _, name in chunk], images, prediction, errors)
        yield from before

    def warmup(self) -> None:
        """Compiles the programs for all sizes of batches, so that the first images are read quickly."""
        sizes = {min(1 << i, self.options.batch_size) for i in range(self.options.batch_size.bit_length() + 1)}
        word = np.zeros((len(self._network.views.views), *self._network.views.size, 3), np.uint8)
        for size in sorted(sizes):
            jax.block_until_ready(self._dispatch([word] * size))

    def _prepare(self, image: Input, name: str) -> np.ndarray | ImageError:
        """The views [v, H, W, 3] for the model."""
        try:
            return self._network.views(load_image(image, name))
        except ImageError as error:
            return error

    def _dispatch(self, images: list[np.ndarray]) -> Prediction | None:
        """Starts the reading of at most `batch_size` words, [v, H, W, 3] each."""
        if not images:
            return None
        size = min(1 << (len(images) - 1).bit_length(), self.options.batch_size)
        batch = np.zeros((size, *images[0].shape), np.uint8)
        batch[: len(images)] = images
        return self._predict(self._variables, batch, self._mask)

    def _readings(
        self,
        names: list[str],
        images: list[np.ndarray | ImageError],
        prediction: Prediction | None,
        errors: Errors,
    ) -> Iterator[Reading | ImageError]:
        """The outcome for every name; the device is waited for at the first."""
        read: Iterator[DecodedWord] = iter(())
        if prediction is not None:
            read = iter(words(self._network.tokenizer, prediction, self._network.dictionary_prior))
        for name, image in zip(names, images, strict=True):
            if isinstance(image, ImageError):
                if errors == "raise":
                    raise image
                yield image
            else:
                yield self._reading(next(read), name)

    def _reading(self, word: DecodedWord, name: str) -> Reading:
        """The word without what is to be dropped, and in the spelling of the lexicon."""
        if self._kept is not None:
            # What follows the characters, the probability of the end, stays.
            kept = np.pad(
                self._kept.allowed(word.text), (0, len(word.probabilities) - len(word.text)), constant_values=True
            )
            text = "".join(itertools.compress(word.text, kept))
            word = word._replace(text=text, probabilities=word.probabilities[kept])
        characters = tuple(word.probabilities[: len(word.text)].tolist())
        expected = self._lexicon.nearest(word.text) if self._lexicon else None
        if expected in (None, word.text):
            return Reading(word.text, word.confidence, characters, name, word.raw_text)
        return Reading(expected, word.confidence, carry_over(characters, word.text, expected), name, word.text)
