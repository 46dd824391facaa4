"""Training of a text detector: its data, optimizer and validation."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from typing import Any

import jax
import numpy as np
from jax.sharding import Mesh

from tcm_jax.config import from_dict
from tcm_jax.data.pipeline import AnySource
from tcm_jax.data.scenes.augment import DetectionAugment
from tcm_jax.data.scenes.build import evaluation_images, training_images
from tcm_jax.data.scenes.samples import DetectionSample
from tcm_jax.detection.config import DetectionRunConfig
from tcm_jax.detection.evaluate import DetectionResult, ScoredImage, evaluate_scenes
from tcm_jax.detection.initialize import initialize_detector
from tcm_jax.detection.model import DetectionModel, detection_config
from tcm_jax.detection.optimizer import make_optimizer
from tcm_jax.detection.streaming import ImageStream
from tcm_jax.images.canvas import STRIDE
from tcm_jax.models.tcm import TCM_BASELINE_PARTITION, TCM_PARTITION
from tcm_jax.options import stored
from tcm_jax.pretrained import Pretrained
from tcm_jax.records import AnnotatedImageSource
from tcm_jax.training.mesh import make_mesh, replicated
from tcm_jax.training.optim import Optimizer, Tree
from tcm_jax.training.partition import Rules
from tcm_jax.training.task import Batch, Scores
from tcm_jax.training.transfer import LoadReport


class DetectionTask:
    """See `tcm_jax.training.task.Task`."""

    def __init__(self, config: Mapping[str, Any]):
        model = detection_config(config["model"], "config.model")
        self.config = c = from_dict(DetectionRunConfig, {**config, "model": model})
        self.model = DetectionModel(c.model, dtype=c.compute_dtype, remat=c.remat, options=c.inference)
        fill = tuple(round(value) for value in self.model.mean)  # what is around an image is 0 after normalization
        self._augment = from_dict(DetectionAugment, {"fill": fill, **c.data.augment}, "config.data.augment")
        self._text = jax.jit(self.model.text_embedding)
        self._predict = jax.jit(self.model.predict)

    def init(self, key: jax.Array) -> Mapping[str, Any]:
        """Random variables, {"params": tree} and, of a model with BatchNorm, {"batch_stats": tree}."""
        return self.model.init(key)

    def loss(self, variables: Mapping[str, Any], batch: Batch, key: jax.Array) -> tuple[jax.Array, dict, Tree]:
        """(loss, metrics, batch_stats) of a training batch."""
        return self.model.loss(variables, batch, key)

    def training_sources(self) -> list[AnySource]:
        """The data of `config.data.train`; raises SourceError or ConfigError."""
        data = self.config.data
        return [training_images(entry, data.root) for entry in data.entries()]

    def validation_sources(self) -> list[AnnotatedImageSource]:
        """The data of `config.eval.sources`; raises SourceError."""
        c = self.config
        return [evaluation_images(entry, c.data.root) for entry in c.eval.entries()]

    def describe(self, source: AnySource) -> str:
        """A line about a source."""
        return f"{source.name}: {getattr(source, 'report', f'{len(source):,} scenes, rendered on the fly')}"

    def sample(self) -> DetectionSample:
        """Makes a training sample of a record."""
        return DetectionSample(self.model.detector.targets, self._augment)

    def partition_rules(self) -> Rules:
        """PartitionSpecs by patterns of parameter paths."""
        return TCM_PARTITION if self.config.model.tcm.text_matching else TCM_BASELINE_PARTITION

    def optimizer(self, params: Tree, records: int) -> Optimizer:
        """The optimizer of a run over `records` training records."""
        return make_optimizer(self.config, params, records)

    def initialize(self, variables: Tree, pretrained: Pretrained) -> tuple[Tree, LoadReport]:
        """Random variables with everything replaced that a model directory holds, and what became of each."""
        return initialize_detector(variables, self.config.model, pretrained)

    def pretrained(self, variables: Tree, **origin: Any) -> Pretrained:
        """The model as a directory stores it."""
        preprocessing = {"mean": list(self.model.mean), "std": list(self.model.std), "multiple": STRIDE}
        inference = stored(self.config.inference)
        return Pretrained("detection", asdict(self.config.model), variables, preprocessing, inference, **origin)

    def evaluate(
        self, variables: Tree, sources: Sequence[AnnotatedImageSource], mesh: Mesh, check: Callable[[], None]
    ) -> Scores:
        """Scores of the sources; `check` is called for every image and may raise."""

        def predict(canvas: np.ndarray, size: np.ndarray) -> Any:
            return self._predict(own, canvas, size, text)

        def watch(_: ScoredImage) -> None:
            check()

        gathered = jax.device_put(variables, replicated(mesh))
        # Every process detects in images of its own, on its first device.
        with jax.set_mesh(make_mesh(devices=jax.local_devices()[:1])):
            own = jax.tree.map(lambda x: x.addressable_data(0), gathered)
            text = self._text(own)
            stream = ImageStream(self.model, predict)
            results = [evaluate_scenes(stream, source, on_image=watch) for source in sources]
        hmean = float(np.mean([result.fixed.hmean for result in results]))
        rows = {result.name: _numbers(result) for result in results}
        each = ", ".join(
            f"{r.name} precision {100 * r.fixed.precision:.1f} recall {100 * r.fixed.recall:.1f} "
            f"h-mean {100 * r.fixed.hmean:.1f}"
            for r in results
        )
        return Scores("hmean", hmean, f"h-mean {100 * hmean:.2f} % ({each})", rows)

    def inference(self, batch: int) -> tuple[Callable[..., Any], dict[str, jax.ShapeDtypeStruct]]:
        """The function (variables, arrays) of inference, and the shapes of its arrays."""

        def predict(variables: Tree, arrays: Mapping[str, jax.Array]) -> Any:
            return self.model.predict(variables, arrays["image"], arrays["size"], self.model.text_embedding(variables))

        long, short = (-(-side // STRIDE) * STRIDE for side in self.model.options.scales[0])
        image = jax.ShapeDtypeStruct((batch, short, long, 3), np.uint8)
        return predict, {"image": image, "size": jax.ShapeDtypeStruct((batch, 2), np.int32)}


def _numbers(result: DetectionResult) -> dict[str, float]:
    fixed, best = result.fixed, result.best
    return {
        "num_photos": result.num_photos,
        "num_truth": result.num_truth,
        "precision": fixed.precision,
        "recall": fixed.recall,
        "hmean": fixed.hmean,
        "best_hmean": best.hmean,
        "best_threshold": result.best_threshold,
        "undecodable": result.undecodable,
    }
