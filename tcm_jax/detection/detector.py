"""Detecting text in images from Python.

from tcm_jax import Detector
detector = Detector()  # the model that comes with the package, or Detector("models/tcm-db-ic15")
for instance in detector.detect("image.jpg").instances:
    print(instance.polygon, instance.score)
"""

import os
import sys
from collections.abc import Iterable, Iterator
from functools import partial
from typing import Any

import jax

from tcm_jax.detection.loading import load_detector
from tcm_jax.detection.options import DetectionOptions, detection_options
from tcm_jax.detection.streaming import Detections, ImageStream
from tcm_jax.images.decoding import ImageError
from tcm_jax.images.inputs import Errors, Input, is_single, load_image, named_images
from tcm_jax.pretrained import DETECTOR


class Detector:
    """Finds text in images; one object can serve many threads.

    The result for an image doesn't depend on the images that are given with it. Threads prepare the next images
    and decode the last ones while the device works, and few images are held at a time (`images`, an `ImageStream`).

    Args:
        checkpoint: a model directory, or the working directory of a training run (its `best`, else its `last`);
            None: the model that comes with the package.
        options: how it detects; keywords are fields of `DetectionOptions`, or values of the decoding by name, such as
            score_threshold=0.6, and count more.
        quiet: don't print on stderr which model runs on which device.

    Raises:
        FileNotFoundError: no model at `checkpoint`.
        ValueError: a broken model, one of another kind, or an option outside its choices.
    """

    def __init__(
        self,
        checkpoint: str | os.PathLike | None = None,
        options: DetectionOptions | None = None,
        *,
        quiet: bool = False,
        **keywords: Any,
    ) -> None:
        self.model = load_detector(DETECTOR if checkpoint is None else checkpoint, detection_options(options, keywords))
        self.options = self.model.network.options
        self._variables = jax.device_put(self.model.contents.variables)
        self._text = jax.jit(partial(self.model.call, self.model.network.text_embedding))(self._variables)
        self._predict = jax.jit(self.model.predict)
        self.images = ImageStream(
            self.model.network, lambda canvas, size: self._predict(self._variables, canvas, size, self._text)
        )
        if not quiet:
            print(f"Detecting with {self.model}, images {self.options}", file=sys.stderr)

    def detect(self, images: Input | Iterable[Input], errors: Errors = "raise") -> Any:  # Detections or a list
        """Finds the text in one or many images.

        Args:
            images: a path, the bytes of an image file, a PIL image, or an array uint8 RGB [h, w, 3] or gray
                [h, w]; or an iterable of them, or a folder (its image files by name, without subfolders).
            errors: what an image that can't be read does among many: "raise", or "return" the ImageError at
                its place. A single image always raises.

        Returns:
            Detections, or for many images a list in their order.

        Raises:
            ImageError: an image can't be read; `name` says which.
            ValueError: a folder without images.
        """
        if is_single(images):
            return next(self.stream(images))
        return list(self.stream(images, errors))

    def stream(self, images: Input | Iterable[Input], errors: Errors = "raise") -> Iterator[Detections | ImageError]:
        """As `detect` for many images, but yields as it goes and holds only a few images."""
        inputs = (
            (partial(load_image, image, name, self.options.upright), name) for image, name in named_images(images)
        )
        return self.images.stream(inputs, errors)
