"""The detection objective: TCM with a DB, PAN or FCE detector, its losses and its prediction."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import jax
import jax.numpy as jnp

from tcm_jax.config import from_dict
from tcm_jax.detection.db import DBNet
from tcm_jax.detection.fce import FCENet
from tcm_jax.detection.interface import Losses, Targets, TextDetector
from tcm_jax.detection.options import DetectionOptions
from tcm_jax.detection.padding import hide_padding
from tcm_jax.detection.pan import PAN
from tcm_jax.models.layers import Dtype
from tcm_jax.models.resnet import STRIDE
from tcm_jax.models.tcm import TCM, TCMConfig, TCMOutput

Variables = Mapping[str, Any]

_DEFAULTS = DetectionOptions()

DETECTORS: dict[str, type[TextDetector]] = {"db": DBNet, "pan": PAN, "fce": FCENet}


@dataclass(frozen=True)
class DetectionConfig:
    """A detector and what it is trained for.

    Args:
        family: of the detector, one of `DETECTORS`; detector: its values.
        tcm: what stands before it.
        auxiliary_weight: lambda, of the loss of the score map; 0 leaves it out.
        auxiliary_coupled: the release's form of that loss, in which images of a batch meet each other's masks. The
            published models were trained with it. Not defined for PAN, which never had it.
    """

    family: str = "db"
    tcm: TCMConfig = field(default_factory=TCMConfig)
    detector: TextDetector = field(default_factory=DBNet)
    auxiliary_weight: float = 1.0
    auxiliary_coupled: bool = False


def detection_config(values: Mapping[str, Any], name: str = "model") -> DetectionConfig:
    """The typed form of a config's or a model directory's values; `dataclasses.asdict` goes back.

    Raises:
        ValueError: an unknown family, field or value; the message names it.
    """
    family = values.get("family", "db")
    if family not in DETECTORS:
        raise ValueError(f"{name}.family is {family!r}; expected one of {', '.join(DETECTORS)}")
    detector = from_dict(DETECTORS[family], values.get("detector", {}), f"{name}.detector")
    return from_dict(DetectionConfig, {**values, "family": family, "detector": detector}, name)


class DetectionModel:
    """What the trainer, the evaluation and the Python API ask of a detector.

    Args:
        config: components, sizes and weights.
        mean, std: of the image normalization, for values in 0..255, RGB; default: the family's.
        dtype: of the computation; parameters are float32.
        remat: what blocks keep for the backward pass, one of `tcm_jax.models.layers.REMAT_POLICIES`.
        options: how images are resized before it detects.
    """

    def __init__(
        self,
        config: DetectionConfig,
        mean: Sequence[float] | None = None,
        std: Sequence[float] | None = None,
        dtype: Dtype = jnp.float32,
        remat: str = "none",
        options: DetectionOptions = _DEFAULTS,
    ) -> None:
        self.config, self.options = config, options
        self.detector = detector = config.detector
        self.mean, self.std = tuple(mean or detector.mean), tuple(std or detector.std)
        self.model = TCM(config.tcm, detector.neck(dtype), detector.head(dtype), detector.stages, dtype, remat)

    def init(self, key: jax.Array) -> Variables:
        """Random parameters and fresh running statistics, {"params": tree, "batch_stats": tree}."""
        variables = self.model.init(key, jnp.zeros((1, 64, 64, 3)))
        return {name: variables[name] for name in ("params", "batch_stats")}

    def normalize(self, images: jax.Array, size: jax.Array | None = None) -> jax.Array:
        """uint8 [b, h, w, 3] -> float32, zero mean and unit variance; zeros outside `size`, int [b, 2] (h, w)."""
        x = (images - jnp.asarray(self.mean, jnp.float32)) / jnp.asarray(self.std, jnp.float32)
        if size is None:
            return x
        rows, columns = (jnp.arange(n) < size[:, i, None] for i, n in enumerate(images.shape[1:3]))
        return jnp.where((rows[:, :, None] & columns[:, None, :])[..., None], x, 0.0)

    def loss(
        self, variables: Variables, batch: Mapping[str, Any], key: jax.Array
    ) -> tuple[jax.Array, dict[str, jax.Array], Any]:
        """Loss of a training batch.

        Args:
            batch: "image" uint8 [b, h, w, 3] and the family's targets by name, [b, ...] each.
            key: of the dropout.

        Returns:
            (loss, metrics, batch_stats): the metrics are the parts of the loss; the running statistics are new.
        """
        targets = {name: value for name, value in batch.items() if name != "image"}
        output, state = self.model.apply(
            variables,
            self.normalize(batch["image"]),
            train=True,
            rngs={"dropout": key},
            mutable=["batch_stats"],
        )
        losses = self.losses(output, targets)
        total: Any = sum(losses.values())
        return total, {"loss": total, **losses}, state["batch_stats"]

    def losses(self, output: TCMOutput, targets: Targets) -> Losses:
        """The parts of the loss: those of the detector, and "loss_score_map" weighted by lambda."""
        losses = self.detector.losses(output.outputs, targets)
        if output.logits is not None and self.config.auxiliary_weight:
            auxiliary = self.detector.auxiliary_loss(output.logits, targets, self.config.auxiliary_coupled)
            losses["loss_score_map"] = self.config.auxiliary_weight * auxiliary
        return losses

    def text_embedding(self, variables: Variables) -> jax.Array | None:
        """The text embedding [1, embed_dim] of a model for which it is the same for all images, else None."""
        if not self.config.tcm.constant_text:
            return None
        text: Any = self.model.apply(variables, method="text_embedding")
        return text

    def predict(
        self, variables: Variables, images: jax.Array, size: jax.Array, text: jax.Array | None = None
    ) -> tuple[Any, jax.Array | None]:
        """Maps of uint8 images on a padded canvas, the same on every canvas that is large enough.

        Args:
            images: [b, h, w, 3], sides multiples of 32.
            size: height and width of the images on the canvas, int [b, 2].
            text: `text_embedding`, if it is not None.

        Returns:
            (what the detector's `decode` takes, with the batch axis; score map [b, h / 32, w / 32] or None).
        """
        whole = -(-size // STRIDE) * STRIDE
        with hide_padding(whole, images.shape[1:3]):
            output: Any = self.model.apply(variables, self.normalize(images, size), size=whole, text=text)
        return self.detector.maps(output.outputs), output.score_map
