"""FCENet: every pixel of a text votes for its whole outline, as a Fourier series."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import ClassVar

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from tcm_jax.detection.fce import targets
from tcm_jax.detection.fce.decoding import STRIDES, FCEDecoding
from tcm_jax.detection.fce.loss import fce_losses
from tcm_jax.detection.fce.model import FPN, FCEHead, Level
from tcm_jax.detection.interface import Losses, Targets, TextDetector
from tcm_jax.detection.losses import dice, matching_loss
from tcm_jax.models.layers import Dtype

LEVELS = ("p3_maps", "p4_maps", "p5_maps")  # targets of the three levels, finest first
MATCHING = "matching_maps"  # and of the score map


@dataclass(frozen=True)
class FCENet(TextDetector):
    """Values of a FCENet detector; defaults are those of the released TCM-FCENet for ICDAR2015.

    Args:
        channels: of the feature pyramid.
        fourier_degree: k; an outline has 2 k + 1 complex coefficients.
        loss_points: of an outline that the loss compares. negative_ratio: hard negatives to a positive.
        auxiliary_cross_entropy: loss of the score map, else dice.
        level_ranges: of the three levels (strides 8, 16, 32), limits of a text's longer side in units of the image's
            height. The release has ((0, 0.25), (0.2, 0.65), (0.55, 1.0)) for CTW1500 and Total-Text.
        resample_step: length of the pieces of a text's center region. center_ratio: its height in units of the text's.
        decoding: of the maps of the three levels.
    """

    stages: ClassVar[tuple[int, ...]] = (1, 2, 3)
    mean: ClassVar[tuple[float, float, float]] = (123.675, 116.28, 103.53)

    channels: int = 256
    fourier_degree: int = 5
    loss_points: int = 50
    negative_ratio: float = 3.0
    auxiliary_cross_entropy: bool = True
    level_ranges: tuple[tuple[float, float], ...] = ((0, 0.4), (0.3, 0.7), (0.6, 1.0))
    resample_step: float = 4.0
    center_ratio: float = 0.3
    decoding: FCEDecoding = field(default_factory=FCEDecoding)

    def __post_init__(self) -> None:
        if len(self.level_ranges) != len(STRIDES) or any(len(limits) != 2 for limits in self.level_ranges):
            raise ValueError(f"level_ranges is {self.level_ranges!r}; expected {len(STRIDES)} pairs")
        if self.fourier_degree < 2:
            raise ValueError(f"fourier_degree is {self.fourier_degree}; expected 2 or more")
        if self.decoding.num_points <= 2 * self.fourier_degree:
            raise ValueError(f"num_points is {self.decoding.num_points}; expected more than 2 fourier_degree")

    def neck(self, dtype: Dtype) -> nn.Module:
        """See `TextDetector.neck`."""
        return FPN(self.channels, dtype)

    def head(self, dtype: Dtype) -> nn.Module:
        """See `TextDetector.head`."""
        return FCEHead(self.fourier_degree, dtype)

    def losses(self, outputs: Sequence[Level], targets: Targets) -> Losses:
        """See `TextDetector.losses`."""
        return fce_losses(outputs, [targets[name] for name in LEVELS], self.loss_points, self.negative_ratio)

    def auxiliary_loss(self, logits: jax.Array, targets: Targets, coupled: bool = False) -> jax.Array:
        """See `TextDetector.auxiliary_loss`."""
        text, mask = (targets[MATCHING][..., i].astype(jnp.float32) for i in (0, 2))
        if not self.auxiliary_cross_entropy:
            return dice(jax.nn.sigmoid(logits), text, mask)
        return matching_loss(logits, text * mask, (1 - text) * mask, coupled, self.negative_ratio, text)

    def maps(self, outputs: Sequence[Level]) -> list[tuple[jax.Array, jax.Array]]:
        """Of every level the scores [b, h, w] and the Fourier coefficients [b, h, w, 2 (2 k + 1)]."""
        scores = [
            jax.nn.sigmoid(x.logits[..., 1] - x.logits[..., 0]) ** self.decoding.alpha
            * jax.nn.sigmoid(x.logits[..., 3] - x.logits[..., 2]) ** self.decoding.beta
            for x in outputs
        ]
        return [(score, level.coefficients) for score, level in zip(scores, outputs, strict=True)]

    def targets(
        self, polygons: Sequence[np.ndarray], ignored: Sequence[np.ndarray], size: tuple[int, int]
    ) -> dict[str, np.ndarray]:
        """See `TextDetector.targets`."""
        maps = targets.fce_targets(
            polygons,
            ignored,
            size,
            strides=(*STRIDES, STRIDES[-1]),
            ranges=(*self.level_ranges, (0, 1)),
            degree=self.fourier_degree,
            resample_step=self.resample_step,
            center_ratio=self.center_ratio,
        )
        return dict(zip((*LEVELS, MATCHING), maps, strict=True))
