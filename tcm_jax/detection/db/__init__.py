"""DBNet: probability and threshold maps at full resolution; instances are the widened contours of the first."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from tcm_jax.detection.db import targets
from tcm_jax.detection.db.decoding import DBDecoding
from tcm_jax.detection.db.loss import db_losses
from tcm_jax.detection.db.model import FPNC, DBHead
from tcm_jax.detection.interface import Losses, Targets, TextDetector
from tcm_jax.detection.losses import dice, matching_loss
from tcm_jax.models.convolution import resize_bilinear
from tcm_jax.models.layers import Dtype


@dataclass(frozen=True)
class DBNet(TextDetector):
    """Values of a DB detector; defaults are those of the released TCM-DB for ICDAR2015.

    Args:
        lateral_channels, out_channels: of the neck's levels; the head reads four times out_channels.
        steepness: k of the differentiable binarization.
        alpha, beta: weights of the probability and of the threshold map's loss.
        negative_ratio: hard negatives to a positive. cross_entropy: loss of the probability map, else dice.
        auxiliary_cross_entropy: loss of the score map, else dice.
        shrink_ratio: r of the shrunk region; threshold_min, threshold_max: range of the threshold map.
        min_short_size: instances with a shorter side, in pixels, are ignored in training.
        decoding: of its probability map.
    """

    stages: ClassVar[tuple[int, ...]] = (0, 1, 2, 3)
    mean: ClassVar[tuple[float, float, float]] = (122.67891434, 116.66876762, 104.00698793)

    lateral_channels: int = 256
    out_channels: int = 64
    steepness: float = 50.0
    alpha: float = 5.0
    beta: float = 10.0
    negative_ratio: float = 3.0
    cross_entropy: bool = True
    auxiliary_cross_entropy: bool = True
    shrink_ratio: float = 0.4
    threshold_min: float = 0.3
    threshold_max: float = 0.7
    min_short_size: int = 8
    decoding: DBDecoding = field(default_factory=DBDecoding)

    def neck(self, dtype: Dtype) -> nn.Module:
        """See `TextDetector.neck`."""
        return FPNC(self.lateral_channels, self.out_channels, dtype)

    def head(self, dtype: Dtype) -> nn.Module:
        """See `TextDetector.head`."""
        return DBHead(self.steepness, dtype)

    def losses(self, outputs: Any, targets: Targets) -> Losses:
        """See `TextDetector.losses`."""
        return db_losses(
            outputs,
            targets["gt_shrink"],
            targets["gt_shrink_mask"],
            targets["gt_thr"],
            targets["gt_thr_mask"],
            alpha=self.alpha,
            beta=self.beta,
            negative_ratio=self.negative_ratio,
            cross_entropy=self.cross_entropy,
        )

    def auxiliary_loss(self, logits: jax.Array, targets: Targets, coupled: bool = False) -> jax.Array:
        """See `TextDetector.auxiliary_loss`."""
        text = (targets["gt_shrink"] > 0).astype(jnp.float32)
        mask = targets["gt_shrink_mask"].astype(jnp.float32)
        logits = resize_bilinear(logits[..., None], text.shape[1:])[..., 0]
        if not self.auxiliary_cross_entropy:
            return dice(jax.nn.sigmoid(logits), text, mask)
        return matching_loss(logits, text * mask, (1 - text) * mask, coupled, self.negative_ratio, text)

    def maps(self, outputs: Any) -> jax.Array:
        """The probability map, [b, h, w]; the others are not computed if nothing else asks for them."""
        return outputs[..., 0]

    def targets(
        self, polygons: Sequence[np.ndarray], ignored: Sequence[np.ndarray], size: tuple[int, int]
    ) -> dict[str, np.ndarray]:
        """See `TextDetector.targets`."""
        return targets.db_targets(
            polygons,
            ignored,
            size,
            shrink_ratio=self.shrink_ratio,
            threshold_min=self.threshold_min,
            threshold_max=self.threshold_max,
            min_short_size=self.min_short_size,
        )
