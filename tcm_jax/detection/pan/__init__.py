"""PAN: text, kernels and an embedding at stride 4; instances are kernels grown by pixel aggregation."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar

import flax.linen as nn
import jax
import numpy as np

from tcm_jax.detection.interface import Losses, Targets, TextDetector
from tcm_jax.detection.pan import targets
from tcm_jax.detection.pan.decoding import PANDecoding
from tcm_jax.detection.pan.loss import REDUCTIONS, pan_losses, score_map_loss
from tcm_jax.detection.pan.model import FPEM_FFM, PANHead
from tcm_jax.models.layers import Dtype


@dataclass(frozen=True)
class PAN(TextDetector):
    """Values of a PAN detector; defaults are those of the released TCM-PAN for ICDAR2015.

    CTW1500 differs in shrink_ratios (1.0, 0.7) and text_representation "poly".

    Args:
        channels: width of the neck's maps; repeats: of its feature pyramid enhancement.
        alpha: weight of the kernels' loss; beta: of the aggregation's and the discrimination's.
        aggregation_margin: distance of embeddings within an instance that costs nothing; discrimination_margin:
            between instances, beyond which nothing is gained.
        negative_ratio: hard negatives to a positive.
        reduction: "mean" or "sum" of the losses over the images.
        max_instances: of an image whose embeddings are trained; the text and kernels of all are.
        shrink_ratios: of whole instances and of kernels; max_shrink: most pixels an outline moves inwards.
        decoding: of its maps.
    """

    stages: ClassVar[tuple[int, ...]] = (0, 1, 2, 3)
    mean: ClassVar[tuple[float, float, float]] = (123.675, 116.28, 103.53)

    channels: int = 128
    repeats: int = 2
    alpha: float = 0.5
    beta: float = 0.25
    aggregation_margin: float = 0.5
    discrimination_margin: float = 3.0
    negative_ratio: float = 3.0
    reduction: str = "mean"
    max_instances: int = 254
    shrink_ratios: tuple[float, ...] = (1.0, 0.5)
    max_shrink: int = 20
    decoding: PANDecoding = field(default_factory=PANDecoding)

    def __post_init__(self) -> None:
        if self.reduction not in REDUCTIONS:
            raise ValueError(f"reduction is {self.reduction!r}; expected one of {', '.join(REDUCTIONS)}")
        if len(self.shrink_ratios) != 2 or not all(0 < ratio <= 1 for ratio in self.shrink_ratios):
            raise ValueError(f"shrink_ratios is {self.shrink_ratios!r}; expected two of 0..1")
        if not 1 <= self.max_instances < 2**16 - 1:
            raise ValueError(f"max_instances is {self.max_instances!r}; expected 1 to 65534")

    def neck(self, dtype: Dtype) -> nn.Module:
        """See `TextDetector.neck`."""
        return FPEM_FFM(self.channels, self.repeats, dtype)

    def head(self, dtype: Dtype) -> nn.Module:
        """See `TextDetector.head`."""
        return PANHead(dtype)

    def losses(self, outputs: Any, targets: Targets) -> Losses:
        """See `TextDetector.losses`."""
        return pan_losses(
            outputs,
            targets["gt_kernels"],
            targets["gt_mask"],
            alpha=self.alpha,
            beta=self.beta,
            aggregation_margin=self.aggregation_margin,
            discrimination_margin=self.discrimination_margin,
            negative_ratio=self.negative_ratio,
            max_instances=self.max_instances,
            reduction=self.reduction,
        )

    def auxiliary_loss(self, logits: jax.Array, targets: Targets, coupled: bool = False) -> jax.Array:
        """Dice per image, also in the release: `coupled` changes nothing."""
        kernels, mask = targets["gt_kernels"], targets["gt_mask"]
        return score_map_loss(logits, kernels, mask, self.negative_ratio, self.reduction)

    def maps(self, outputs: Any) -> jax.Array:
        """All: logits of text and kernels, embedding; [b, h / 4, w / 4, 6]."""
        return outputs

    def targets(
        self, polygons: Sequence[np.ndarray], ignored: Sequence[np.ndarray], size: tuple[int, int]
    ) -> dict[str, np.ndarray]:
        """See `TextDetector.targets`."""
        return targets.pan_targets(
            polygons,
            ignored,
            size,
            shrink_ratios=self.shrink_ratios,
            max_shrink=self.max_shrink,
            max_instances=self.max_instances,
        )
