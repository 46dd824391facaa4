"""Running a detector over images: threads prepare the next ones and decode the last ones while the device works."""

import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, NamedTuple

import jax
import numpy as np

from tcm_jax.detection.interface import Instance
from tcm_jax.detection.model import DetectionModel
from tcm_jax.detection.multi_scale import MIN_SIDE, merged
from tcm_jax.images import overlay
from tcm_jax.images.canvas import PaddedImage, padded, prepare
from tcm_jax.images.decoding import ImageError
from tcm_jax.images.inputs import Errors, check_errors
from tcm_jax.records import TextRegion

SCHEMA_VERSION = 1
_ON_DEVICE = 2  # images: one is computed, one waits or is on its way back

Predict = Callable[[np.ndarray, np.ndarray], tuple[Any, jax.Array | None]]
Read = Callable[[], np.ndarray]
Then = Callable[["Detections", np.ndarray], Any]


@dataclass(frozen=True, eq=False)
class Detections:
    """What was found in one image.

    Args:
        name: the path, or where the image stood in the input.
        width, height: of the image in pixels.
        instances: polygons in pixels of the image, as the model gives them: they may leave it by some pixels.
        score_map: similarity of the image's regions with the text prompt, float32 [rows, columns], one for 32 x 32
            pixels of the network's input; None for a model without text.
        scale: float32 (x, y), pixels of the network's input for one of the image.
    """

    name: str
    width: int
    height: int
    instances: tuple[Instance, ...]
    score_map: np.ndarray | None
    scale: np.ndarray

    def to_dict(self) -> dict[str, Any]:
        """For JSON; `schema_version` changes when a key changes its meaning or goes away.

        Corners outside the image are moved to its border: who reads this cuts and draws, and a negative index
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

    def draw(self, image: np.ndarray, regions: Sequence[TextRegion] = ()) -> np.ndarray:
        """A picture, uint8 RGB, of `image`, uint8 RGB [height, width, 3], with polygons, scores and score map, and with
        the annotated `regions`, if any.
        """
        polygons, scores = zip(*self.instances, strict=True) if self.instances else ((), ())
        return overlay.draw_detections(image, polygons, scores, self.score_map, self.scale, regions)


class Prepared(NamedTuple):
    """An image on its way to the device: its pixels, uint8 RGB [h, w, 3], and what the network gets, for each scale."""

    name: str
    pixels: np.ndarray
    images: tuple[PaddedImage, ...]


def _alone(detections: Detections, pixels: np.ndarray) -> Detections:
    return detections


class ImageStream:
    """Images in, detections out, a few images at a time. One object can serve many threads.

    Args:
        network: whose options say how images are resized, and whose family decodes what `predict` returns.
        predict: `network.predict` of canvases uint8 [1, H, W, 3] and sizes int [1, 2], jitted and bound to parameters;
            it should return before the device is done.
    """

    def __init__(self, network: DetectionModel, predict: Predict) -> None:
        self.network, self.predict = network, predict
        self.scales, self.canvases = network.options.scales, network.options.canvases
        workers = min(8, os.cpu_count() or 1)
        # Those that wait for the device must not keep the others from preparing.
        self._pool = ThreadPoolExecutor(workers + _ON_DEVICE, thread_name_prefix="images")
        self.ahead = workers + 1  # images that are prepared before they are needed

    def stream(
        self,
        images: Iterable[tuple[Read, str]],
        errors: Errors = "raise",
        then: Then = _alone,
    ) -> Iterator[Any]:
        """Detections of each image in order, or what `then` makes of them.

        Args:
            images: (function that reads the image, name); it is called in a thread, returns uint8 RGB [h, w, 3] and
                may raise ImageError.
            errors: what an image that can't be read does: "raise", or "return" the ImageError at its place.
            then: of the detections and the image's pixels, uint8 RGB [h, w, 3]; called in a thread.

        Raises:
            ImageError: an image can't be read; `name` says which.
        """
        check_errors(errors)
        return self._stream(iter(images), errors, then)

    def _stream(self, images: Iterator[tuple[Read, str]], errors: Errors, then: Then) -> Iterator[Any]:
        preparing: deque[Future] = deque()
        finishing: deque[Future] = deque()
        try:
            while True:
                while len(preparing) < self.ahead and (item := next(images, None)) is not None:
                    preparing.append(self._pool.submit(self._prepare, *item))
                if preparing and len(finishing) < _ON_DEVICE:
                    finishing.append(self._start(preparing.popleft().result(), then))
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

    def _prepare(self, read: Read, name: str) -> Prepared | ImageError:
        try:
            return self.prepare(read(), name)
        except ImageError as error:
            return error

    def prepare(self, image: np.ndarray, name: str) -> Prepared:
        """Resizes an image, uint8 RGB [h, w, 3]."""
        return Prepared(name, image, tuple(prepare(image, scale, self.canvases) for scale in self.scales))

    def _start(self, prepared: Prepared | ImageError, then: Then) -> Future:
        """Starts the computation; the result is that of `_finish`."""
        if isinstance(prepared, ImageError):
            failed: Future = Future()
            failed.set_result(prepared)
            return failed
        outputs = [self.predict(image.canvas[None], np.array([image.size], np.int32)) for image in prepared.images]
        return self._pool.submit(self._finish, then, prepared, outputs)

    def _finish(self, then: Then, prepared: Prepared, outputs: Sequence[Any]) -> Any:
        """Waits for the device, decodes, and hands on."""
        (instances, score_map), *coarse = map(self._decode, prepared.images, outputs)
        for (large, _), image in zip(coarse, prepared.images[1:], strict=True):
            instances = merged(instances, large, MIN_SIDE / float(image.scale.min()))
        height, width = prepared.pixels.shape[:2]
        scale = prepared.images[0].scale
        found = Detections(prepared.name, width, height, tuple(instances), score_map, scale)
        return then(found, prepared.pixels)

    def _decode(self, image: PaddedImage, output: Any) -> tuple[list[Instance], np.ndarray | None]:
        """Instances in pixels of the image, and the score map."""
        maps, score_map = jax.tree.map(lambda a: valid(a[0], image), jax.device_get(output))
        found = self.network.detector.decoding(maps)
        return [Instance(polygon / image.scale, score) for polygon, score in found], score_map


def valid(array: np.ndarray, image: PaddedImage) -> np.ndarray:
    """Of a map [h, w, ...] for the whole canvas of `image`, the part that the original's padding has."""
    canvas = image.canvas.shape[:2]
    rows, columns = (padded(s) * n // c for s, n, c in zip(image.size, array.shape, canvas, strict=False))
    return array[:rows, :columns]
