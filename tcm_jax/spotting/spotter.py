"""Reading all text in images from Python.

from tcm_jax import Spotter
spotter = Spotter.load()
for word in spotter("image.jpg").words:
    print(word.text, word.score, word.polygon)
"""

import os
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import fields, replace
from functools import partial
from typing import Any, NamedTuple

import numpy as np

from tcm_jax import compilation
from tcm_jax.detection.detector import Detections, Detector
from tcm_jax.detection.options import DetectionOptions
from tcm_jax.images.decoding import ImageError
from tcm_jax.images.inputs import Errors, Input, check_errors, is_single, load_image, named_images
from tcm_jax.options import RENAMED
from tcm_jax.recognition.options import ReadingOptions
from tcm_jax.recognition.recognizer import Reading, Recognizer
from tcm_jax.recognition.views import SINGLE_VIEW
from tcm_jax.spotting.crops import Candidate, candidates
from tcm_jax.spotting.lines import reading_order
from tcm_jax.spotting.results import SpottedImage, SpottedWord

_MIN_SCORE = 0.5  # of four values, see docs/results.md
READING = ReadingOptions(views=SINGLE_VIEW, batch_size=32)  # crops have margins of their own

Path = str | os.PathLike


class _Cut(NamedTuple):
    """An image without its pixels: what was found, and the pictures of each instance that are to be read."""

    found: Detections
    crops: list[list[Candidate]]


class Spotter:
    """Finds and reads the text in images; one object can serve many threads.

    The result for an image doesn't depend on the images given with it. The words of several images are read in common
    batches, and threads prepare images and cut out words while the device works.

    Args:
        detector, recognizer: what finds and what reads words; each word is cut out with several margins, so that
            test-time views of the recognizer would multiply the work.
        min_score: words read with a smaller probability are left out.
    """

    def __init__(self, detector: Detector, recognizer: Recognizer, *, min_score: float = _MIN_SCORE):
        if not 0 <= min_score <= 1:
            raise ValueError(f"min_score is {min_score}; expected a probability, 0 .. 1")
        self.detector, self.recognizer, self.min_score = detector, recognizer, min_score

    @classmethod
    def load(
        cls,
        detector: Path | None = None,
        recognizer: Path | None = None,
        *,
        min_score: float = _MIN_SCORE,
        quiet: bool = True,
        reading: ReadingOptions = READING,
        detection: DetectionOptions | None = None,
        **keywords: Any,
    ) -> "Spotter":
        """Loads a detector and a recognizer, by default those that come with the package.

        Compiled programs are cached for the next start, see `compilation.enable_compilation_cache`.

        Args:
            detector, recognizer: model directories, or working directories of training runs, in any combination.
            min_score: words read with a smaller probability are left out.
            quiet: don't print on stderr which models run on which device.
            reading, detection: options of both; the default reads each crop once, as it is.
            keywords: fields of `ReadingOptions`, or those of `DetectionOptions` and values of the detector's decoding,
                such as lexicon=["STOP"], scale=(1280, 736) or score_threshold=0.5; dtype is of both.

        Raises:
            FileNotFoundError: no model at `detector` or `recognizer`.
            ValueError: a broken model, one of another kind, or an option outside its choices.
        """
        compilation.enable_compilation_cache()
        of_reading = {field.name for field in fields(ReadingOptions)}
        of_reading |= {old for old, new in RENAMED.items() if new in of_reading}
        read = {name: value for name, value in keywords.items() if name in of_reading}
        detect = {name: value for name, value in keywords.items() if name not in of_reading or name == "dtype"}
        finds = Detector(detector, detection, quiet=quiet, **detect)
        return cls(finds, Recognizer(recognizer, reading, quiet=quiet, **read), min_score=min_score)

    def __call__(self, images: Input | Iterable[Input], errors: Errors = "raise") -> Any:  # SpottedImage or a list
        """Reads the text in one or many images.

        Args:
            images: a path, the bytes of an image file, a PIL image, or an array uint8 RGB [h, w, 3] or gray
                [h, w]; or an iterable of them, or a folder (its image files by name, without subfolders).
            errors: what an image that can't be read does among many: "raise", or "return" the ImageError at
                its place. A single image always raises.

        Returns:
            A SpottedImage, or for many images a list in their order.

        Raises:
            ImageError: an image can't be read; `name` says which.
            ValueError: a folder without images.
        """
        if is_single(images):
            return next(self.stream(images))
        return list(self.stream(images, errors))

    def stream(self, images: Input | Iterable[Input], errors: Errors = "raise") -> Iterator[SpottedImage | ImageError]:
        """As a call for many images, but yields as it goes and holds only a few images."""
        check_errors(errors)
        inputs = (
            (partial(load_image, image, name, self.detector.options.upright), name)
            for image, name in named_images(images)
        )
        return self._stream(inputs, errors)

    def _stream(self, inputs: Iterable, errors: Errors) -> Iterator[SpottedImage | ImageError]:
        waiting: deque[_Cut | ImageError] = deque()  # found and cut, not all of it read

        def crops() -> Iterator[np.ndarray]:
            for cut in self.detector.images.stream(inputs, "return", _cut):
                waiting.append(cut)
                if isinstance(cut, _Cut):
                    yield from (candidate.image for instance in cut.crops for candidate in instance)

        readings: Iterator[Any] = self.recognizer.stream(crops())
        reading = next(readings, None)  # one ahead: then the image that it belongs to, and all before, are in `waiting`
        while waiting:
            cut = waiting.popleft()
            if isinstance(cut, ImageError):
                if errors == "raise":
                    raise cut
                yield cut
                continue
            read: list[list[Any]] = []  # Reading of each crop
            for instance in cut.crops:
                read.append([])
                for _ in instance:
                    read[-1].append(reading)
                    reading = next(readings, None)
            yield self._image(cut, read)

    def _image(self, cut: _Cut, read: Sequence[Sequence[Reading]]) -> SpottedImage:
        """Of each instance the likeliest reading, in lines."""
        found = cut.found
        border = np.array([found.width, found.height], np.float32)
        words = []
        for instance, crops, readings in zip(found.instances, cut.crops, read, strict=True):
            if not readings:
                continue
            best, crop = max(zip(readings, crops, strict=True), key=lambda pair: pair[0].confidence)
            if best.text and best.confidence >= self.min_score:
                words.append(
                    SpottedWord(
                        np.clip(np.asarray(instance.polygon, np.float32), 0, border),
                        best.text,
                        best.confidence,
                        best.char_confidences,
                        float(instance.score),
                        turn=crop.turn,
                        raw_text=best.raw_text,
                    )
                )
        lines = reading_order([word.polygon for word in words], [word.turn for word in words])
        ordered = [replace(words[i], line=number) for number, line in enumerate(lines) for i in line]
        return SpottedImage(found.name, found.width, found.height, tuple(ordered), found.score_map, found.scale)

    def warmup(self, sizes: Iterable[tuple[int, int]] = ((720, 1280),)) -> None:
        """Compiles all that images of these sizes (height, width, in pixels) need, so that the first one is quick."""
        for height, width in sizes:
            self.detector.detect(np.zeros((height, width, 3), np.uint8))
        self.recognizer.warmup()


def _cut(found: Detections, image: np.ndarray) -> _Cut:
    return _Cut(found, [candidates(image, polygon) for polygon, _ in found.instances])
