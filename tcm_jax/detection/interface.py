"""What a detector family (DB, PAN, FCE) is to the rest: neck, head and losses on the device, targets and decoding
on the host.
"""

import abc
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, NamedTuple

import flax.linen as nn
import jax
import numpy as np

from tcm_jax.models.layers import Dtype

Losses = dict[str, jax.Array]  # scalars by name; the total is their sum
Targets = Mapping[str, Any]  # arrays by name; a batch on the device, one image on the host


class Instance(NamedTuple):
    """One text instance.

    Args:
        polygon: float32 [n, 2], x and y in pixels; a quadrilateral has four corners.
        score: 0..1.
    """

    polygon: np.ndarray
    score: float


@dataclass(frozen=True)
class Decoding(abc.ABC):
    """How maps become text instances, on the host; other values need no other weights.

    Its subclasses are frozen dataclasses that add the values of a family, each called by its name in the original.

    Args:
        text_representation: "quad", the smallest rectangle around an instance, or "poly".

    Raises:
        ValueError: another text_representation.
    """

    text_representation: str = "quad"

    def __post_init__(self) -> None:
        if self.text_representation not in ("quad", "poly"):
            raise ValueError(f'text_representation is {self.text_representation!r}; expected "quad" or "poly"')

    @abc.abstractmethod
    def __call__(self, maps: Any) -> list[Instance]:
        """Instances of one image in pixels of the network's input.

        Args:
            maps: `TextDetector.maps` of the head's outputs as numpy arrays, without the batch axis.
        """


class TextDetector(abc.ABC):
    """A family. Its subclasses are frozen dataclasses of sizes, loss weights, rules of targets and decoding.

    Attributes:
        stages: the backbone's stages that the neck reads, 0 for stride 4 to 3 for stride 32.
        mean, std: of the images that its released models were trained on, for values in 0..255, RGB.
        decoding: a field of every family.
    """

    stages: ClassVar[tuple[int, ...]]
    mean: ClassVar[tuple[float, float, float]]
    std: ClassVar[tuple[float, float, float]] = (58.395, 57.12, 57.375)

    decoding: Any

    @abc.abstractmethod
    def neck(self, dtype: Dtype) -> nn.Module:
        """Module: (stage maps, a list of [b, h, w, d]; train) -> input of the head. The score map is already
        concatenated to the last stage."""

    @abc.abstractmethod
    def head(self, dtype: Dtype) -> nn.Module:
        """Module: (output of the neck; train) -> outputs, float32."""

    @abc.abstractmethod
    def losses(self, outputs: Any, targets: Targets) -> Losses:
        """Losses of a batch, weighted."""

    @abc.abstractmethod
    def auxiliary_loss(self, logits: jax.Array, targets: Targets, coupled: bool = False) -> jax.Array:
        """Loss of the score map: cosine similarities over the temperature, `logits` [b, h / 32, w / 32].

        `coupled` is the release's form, in which every image meets the masks of all images of the batch.
        """

    @abc.abstractmethod
    def maps(self, outputs: Any) -> Any:
        """Of the head's outputs, what `decoding` needs: a pytree of arrays [b, ...]."""

    @abc.abstractmethod
    def targets(
        self, polygons: Sequence[np.ndarray], ignored: Sequence[np.ndarray], size: tuple[int, int]
    ) -> dict[str, np.ndarray]:
        """Training targets of one image, on the host.

        Args:
            polygons: text instances, float [n, 2] each, x and y in pixels; ignored: regions that don't count.
            size: height and width of the image, multiples of 32.
        """
