"""Reading word images from Python.

from tcm_jax import Recognizer
recognizer = Recognizer()  # or Recognizer("models/clip4str-b16")
recognizer.read("word.jpg").text
"""

import dataclasses
import itertools
import os
import sys
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import jax
import numpy as np

from tcm_jax.images.decoding import ImageError, pictures
from tcm_jax.images.inputs import Errors, Input, check_errors, is_single, named, pixels
from tcm_jax.pretrained import RECOGNIZER
from tcm_jax.recognition.loading import load_model
from tcm_jax.recognition.model import Prediction
from tcm_jax.recognition.words import DecodedWord, words
from tcm_jax.text.allow_list import ON_DISALLOWED, AllowList
from tcm_jax.text.lexicon import DISTANCE, Lexicon, carry_over

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
        raw_text: the likeliest reading, where a word of the lexicon or the vocabulary took its place; else None.
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
        batch_size: most images at a time.
        normalization: "checkpoint" as in training, "half" with mean and deviation 0.5, as the original's
            scripts for testing and reading do.
        margins: each image is read with a frame of these shares of its shorter side around it, or cut off if
            negative, and the likeliest reading counts; (0,) reads the image as it is. None: those of the model.
        vocabulary_weight: how many times as likely as a word of CLIP's vocabulary another reading must be to be
            preferred; 1 prefers none. None: as the model says, without a lexicon.
        allow: characters that are expected, such as "0-9A-Z"; None: all that the model reads.
        on_disallowed: "mask" lets the model choose among the expected characters only, and confidences are those of
            this choice; "drop" reads all characters, and leaves out the others with their probabilities.
        lexicon: expected words, or a text file with one in each line. The nearest takes the place of what is read
            if their normalized edit distance, without case, is at most `lexicon_distance`.
        dtype: of the computation; "auto" is float32 on a CPU and bfloat16 elsewhere.
        quiet: don't tell on stderr which model runs on which device.

    Raises:
        FileNotFoundError: no model at `checkpoint`.
        ValueError: a broken model, one of another kind, an argument outside its choices, or expected characters that
            the model can't read.
        OSError: the lexicon can't be read.
    """

    def __init__(
        self,
        checkpoint: str | os.PathLike | None = None,
        *,
        batch_size: int = 64,
        normalization: str = "checkpoint",
        margins: Sequence[float] | None = None,
        vocabulary_weight: float | None = None,
        allow: str | None = None,
        on_disallowed: str = "mask",
        lexicon: str | os.PathLike | Sequence[str] | None = None,
        lexicon_distance: float = DISTANCE,
        dtype: str = "auto",
        quiet: bool = False,
    ):
        if batch_size < 1:
            raise ValueError(f"batch_size is {batch_size}; expected at least 1")
        if on_disallowed not in ON_DISALLOWED:
            raise ValueError(f"on_disallowed is {on_disallowed!r}; expected one of {', '.join(ON_DISALLOWED)}")
        self._lexicon = None if lexicon is None else Lexicon(lexicon, lexicon_distance)
        if vocabulary_weight is None and lexicon is not None:
            vocabulary_weight = 1
        self.model = load_model(
            RECOGNIZER if checkpoint is None else checkpoint,
            normalization,
            dtype,
            margins=margins,
            vocabulary_weight=vocabulary_weight,
        )
        self.batch_size = batch_size
        self._network = self.model.network
        allowed = None if allow is None else AllowList(allow, self._network.config.charset)
        self._mask = allowed.mask() if allowed and on_disallowed == "mask" else None
        self._kept = allowed if on_disallowed == "drop" else None
        self._variables = jax.device_put(self.model.contents.variables)
        self._predict = jax.jit(self.model.predict)
        self._pool = ThreadPoolExecutor(min(8, os.cpu_count() or 1), thread_name_prefix="recognizer")
        if not quiet:
            print(f"Reading with {self.model}{self._network.looks}", file=sys.stderr)

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
            before = self._readings([name for _, name in chunk], images, prediction, errors)
        yield from before

    def warmup(self) -> None:
        """Compiles the programs for all sizes of batches, so that the first images are read quickly."""
        sizes = {min(1 << i, self.batch_size) for i in range(self.batch_size.bit_length() + 1)}
        word = np.zeros((len(self._network.margins), *self._network.config.clip.image_size, 3), np.uint8)
        for size in sorted(sizes):
            jax.block_until_ready(self._dispatch([word] * size))

    def _prepare(self, image: Input, name: str) -> np.ndarray | ImageError:
        """The pictures [v, H, W, 3] for the model."""
        try:
            return pictures(pixels(image, name), self._network.config.clip.image_size, self._network.margins)
        except ImageError as error:
            return error

    def _dispatch(self, images: list[np.ndarray]) -> Prediction | None:
        """Starts the reading of at most `batch_size` words, [v, H, W, 3] each."""
        if not images:
            return None
        size = min(1 << (len(images) - 1).bit_length(), self.batch_size)
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
            read = iter(words(self._network.tokenizer, prediction, self._network.vocabulary))
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
