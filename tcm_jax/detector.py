"""Detecting text in photos from Python.

from tcm_jax import Detector
detector = Detector("models/tcm-db-ic15")
for instance in detector.detect("photo.jpg").instances:
    print(instance.polygon, instance.score)
"""

import os
import sys
from collections import deque
from collections.abc import Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from typing import Any, NamedTuple

import jax
import numpy as np

from tcm_jax import overlay
from tcm_jax.data.images import ImageError
from tcm_jax.data.inputs import Errors, Input, check_errors, is_single, named, pixels
from tcm_jax.data.photos import BUCKETS, Buckets, Photo, Scale, padded, prepare
from tcm_jax.detectors.interface import Instance
from tcm_jax.tasks.loading import load_detector

SCHEMA_VERSION = 1
_ON_DEVICE = 2  # photos: one is computed, one waits or is on its way back


@dataclass(frozen=True, eq=False)
class Detections:
    """What was found in one photo.

    Args:
        name: the path, or where the photo stood in the input.
        width, height: of the photo in pixels.
        instances: polygons in pixels of the photo, as the model gives them: they may leave it by some pixels.
        score_map: similarity of the photo's regions with the text prompt, float32 [rows, columns], one for 32 x 32
            pixels of the network's input; None for a model without text.
        scale: float32 (x, y), pixels of the network's input for one of the photo.
    """

    name: str
    width: int
    height: int
    instances: tuple[Instance, ...]
    score_map: np.ndarray | None
    scale: np.ndarray

    def to_dict(self) -> dict[str, Any]:
        """For JSON; `schema_version` changes when a key changes its meaning or goes away.

        Corners outside the photo are moved to its border: who reads this cuts and draws, and a negative index
        would do so from the other side.
        """
        border = np.array([self.width, self.height])
        return {
            "schema_version": SCHEMA_VERSION,
            "image": self.name,
            "width": self.width,
            "height": self.height,
            "instances": [
                {
                    "polygon": [[round(float(v), 2) for v in point] for point in np.clip(polygon, 0, border)],
                    "score": round(float(score), 4),
                }
                for polygon, score in self.instances
            ],
        }

    def draw(self, photo: np.ndarray) -> np.ndarray:
        """A picture, uint8 RGB, of `photo`, uint8 RGB [height, width, 3], with polygons, scores and score map."""
        polygons, scores = zip(*self.instances, strict=True) if self.instances else ((), ())
        return overlay.draw(photo, polygons, scores, self.score_map, self.scale)


class _Prepared(NamedTuple):
    """A photo on its way to the device; height and width are the original's."""

    name: str
    height: int
    width: int
    photo: Photo


class Detector:
    """Finds text in photos; one object can serve many threads.

    The result for a photo doesn't depend on the photos that are given with it. Threads prepare the next photos
    and decode the last ones while the device works, and few photos are held at a time.

    Args:
        checkpoint: a model directory, or the working directory of a training run (its `best`, else its `last`).
        scale: longest and shorter side, in pixels, that photos are resized to; None: the model's.
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
        checkpoint: str | os.PathLike,
        *,
        scale: Scale | None = None,
        buckets: Buckets = "few",
        upright: bool = True,
        dtype: str = "auto",
        quiet: bool = False,
        **decoding: Any,
    ):
        if buckets not in BUCKETS:
            raise ValueError(f"buckets is {buckets!r}; expected one of {', '.join(BUCKETS)}")
        self.model = load_detector(checkpoint, dtype, decoding)
        self.scale = _checked_scale(scale or self.model.contents.preprocessing.get("scale"))
        self.buckets, self.upright = buckets, upright
        self._variables = jax.device_put(self.model.contents.variables)
        self._text = jax.jit(partial(self.model.call, self.model.task.text_embedding))(self._variables)
        self._predict = jax.jit(self.model.predict)
        workers = min(8, os.cpu_count() or 1)
        # Those that wait for the device must not keep the others from preparing.
        self._pool = ThreadPoolExecutor(workers + _ON_DEVICE, thread_name_prefix="detector")
        self._ahead = workers + 1
        if not quiet:
            print(f"Detecting with {self.model}, photos resized to {_words(self.scale)}", file=sys.stderr)

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
        check_errors(errors)
        return self._stream(named(images), errors)

    def _stream(self, inputs: Iterator[tuple[Input, str]], errors: Errors) -> Iterator[Detections | ImageError]:
        preparing: deque[Future] = deque()
        finishing: deque[Future] = deque()
        try:
            while True:
                while len(preparing) < self._ahead and (item := next(inputs, None)) is not None:
                    preparing.append(self._pool.submit(self._prepare, *item))
                if preparing and len(finishing) < _ON_DEVICE:
                    finishing.append(self._start(preparing.popleft().result()))
                elif finishing:
                    outcome = finishing.popleft().result()
                    if isinstance(outcome, ImageError) and errors == "raise":
                        raise outcome
                    yield outcome
                else:
                    return
        finally:
            for future in (*preparing, *finishing):
                future.cancel()

    def _prepare(self, image: Input, name: str) -> _Prepared | ImageError:
        try:
            photo = pixels(image, name, self.upright)
        except ImageError as error:
            return error
        height, width = photo.shape[:2]
        return _Prepared(name, height, width, prepare(photo, self.scale, self.buckets))

    def _start(self, prepared: _Prepared | ImageError) -> Future:
        """Starts the computation; the result is that of `_finish`."""
        if isinstance(prepared, ImageError):
            failed: Future = Future()
            failed.set_result(prepared)
            return failed
        photo = prepared.photo
        size = np.array([photo.size], np.int32)
        output = self._predict(self._variables, photo.canvas[None], size, self._text)
        return self._pool.submit(self._finish, prepared, *output)

    def _finish(self, prepared: _Prepared, *output: Any) -> Detections:
        """Waits for the device and decodes."""
        photo = prepared.photo
        canvas = photo.canvas.shape[:2]
        maps, score_map = jax.tree.map(lambda a: _valid(a[0], canvas, photo.size), jax.device_get(output))
        instances = (Instance(polygon / photo.scale, score) for polygon, score in self.model.task.detector.decode(maps))
        return Detections(prepared.name, prepared.width, prepared.height, tuple(instances), score_map, photo.scale)


def _checked_scale(scale: Any) -> Scale:
    """The longest side first, in whatever order they come, as in the original."""
    try:
        short, long = sorted(int(side) for side in scale)
    except (TypeError, ValueError):
        short = long = 0
    if short < 1:
        raise ValueError(
            f"scale is {scale!r}; expected the longest and the shorter side in pixels, such as (1280, 736)"
        )
    return long, short


def _valid(array: np.ndarray, canvas: tuple[int, int], size: tuple[int, int]) -> np.ndarray:
    """Of a map [h, w, ...] for a whole canvas, the part that the original's padding of a photo of `size` has."""
    rows, columns = (padded(s) * n // c for s, n, c in zip(size, array.shape, canvas, strict=False))
    return array[:rows, :columns]


def _words(scale: tuple[int, int]) -> str:
    return f"a shorter side of {scale[1]}, at most {scale[0]} pixels long"
