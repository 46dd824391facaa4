"""Detecting text in photos from Python.

from tcm_jax import Detector
detector = Detector()  # the model that comes with the package, or Detector("models/tcm-db-ic15")
for instance in detector.detect("photo.jpg").instances:
    print(instance.polygon, instance.score)
"""

import os
import sys
from collections.abc import Iterable, Iterator
from functools import partial
from typing import Any

import jax

from tcm_jax.detection.loading import load_detector
from tcm_jax.detection.streaming import Detections, ImageStream
from tcm_jax.images.canvas import Buckets, Scale
from tcm_jax.images.decoding import ImageError
from tcm_jax.images.inputs import Errors, Input, is_single, named, pixels
from tcm_jax.pretrained import DETECTOR


class Detector:
    """Finds text in photos; one object can serve many threads.

    The result for a photo doesn't depend on the photos that are given with it. Threads prepare the next photos
    and decode the last ones while the device works, and few photos are held at a time (`photos`, a `ImageStream`).

    Args:
        checkpoint: a model directory, or the working directory of a training run (its `best`, else its `last`);
            None: the model that comes with the package.
        scale: longest and shorter side, in pixels, that photos are resized to; None: the model's, and for large words
            the model's coarse scales too, if it has some.
        buckets: "few" pads resized photos to one of the canvases `photos.bucket_sizes(scale)`, each a program that
            is compiled when it first occurs; "exact" to multiples of 32, as the original does.
        upright: turn photos as their EXIF orientation says, as viewers do. The original and its benchmarks don't.
        dtype: of the computation; "auto" is float32 on a CPU and bfloat16 elsewhere.
        quiet: don't tell on stderr which model runs on which device.
        decoding: parameters of the model's decoding by name, such as score_threshold=0.6; the names
            are the family's `decoding_fields`.

    Raises:
        FileNotFoundError: no model at `checkpoint`.
        ValueError: a broken model, one of another kind, or an argument outside its choices.
    """

    def __init__(
        self,
        checkpoint: str | os.PathLike | None = None,
        *,
        scale: Scale | None = None,
        buckets: Buckets = "few",
        upright: bool = True,
        dtype: str = "auto",
        quiet: bool = False,
        **decoding: Any,
    ):
        self.model = load_detector(DETECTOR if checkpoint is None else checkpoint, dtype, decoding)
        self._variables = jax.device_put(self.model.contents.variables)
        self._text = jax.jit(partial(self.model.call, self.model.network.text_embedding))(self._variables)
        self._predict = jax.jit(self.model.predict)
        preprocessing = self.model.contents.preprocessing
        self.photos = ImageStream(
            self.model.network,
            lambda canvas, size: self._predict(self._variables, canvas, size, self._text),
            scale or preprocessing.get("scale"),
            () if scale else preprocessing.get("coarse_scales", ()),
            buckets,
        )
        self.scale, self.buckets, self.upright = self.photos.scale, buckets, upright
        if not quiet:
            print(f"Detecting with {self.model}, photos {self.photos.resizing}", file=sys.stderr)

    def detect(self, images: Input | Iterable[Input], errors: Errors = "raise") -> Any:  # Detections or a list
        """Finds the text in one or many photos.

        Args:
            images: a path, the bytes of an image file, a PIL image, or an array uint8 RGB [h, w, 3] or gray
                [h, w]; or an iterable of them, or a folder (its image files by name, without subfolders).
            errors: what a photo that can't be read does among many: "raise", or "return" the ImageError at
                its place. A single photo always raises.

        Returns:
            Detections, or for many photos a list in their order.

        Raises:
            ImageError: a photo can't be read; `name` says which.
            ValueError: a folder without images.
        """
        if is_single(images):
            return next(self.stream(images))
        return list(self.stream(images, errors))

    def stream(self, images: Input | Iterable[Input], errors: Errors = "raise") -> Iterator[Detections | ImageError]:
        """As `detect` for many photos, but yields as it goes and holds only a few photos."""
        photos = ((partial(pixels, image, name, self.upright), name) for image, name in named(images))
        return self.photos.stream(photos, errors)
