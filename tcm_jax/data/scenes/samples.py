"""Training samples of a detector, from annotated images and their pixels."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from tcm_jax.data.scenes.augment import DetectionAugment
from tcm_jax.records import AnnotatedImage

Targets = Callable[[Sequence[np.ndarray], Sequence[np.ndarray], tuple[int, int]], dict[str, np.ndarray]]


@dataclass(frozen=True)
class DetectionSample:
    """Turns annotated images into samples for `tcm_jax.data.pipeline.train_batches`.

    Args:
        targets: (polygons, ignored polygons, (height, width)) -> arrays by name, such as the `targets` of a detector.
        augment: makes a random view of an image.
    """

    targets: Targets
    augment: DetectionAugment

    def example(self) -> dict[str, np.ndarray]:
        """A sample without text."""
        image = np.zeros((self.augment.crop, self.augment.crop, 3), np.uint8)
        return {"image": image, **self.targets([], [], image.shape[:2])}

    def __call__(self, record: AnnotatedImage, pixels: np.ndarray, rng: np.random.Generator) -> dict[str, np.ndarray]:
        """{"image": uint8 [crop, crop, 3], and the targets of the text in it}."""
        image, polygons, ignored = self.augment(pixels, record.regions, rng)
        return {"image": image, **self.targets(polygons, ignored, image.shape[:2])}
