"""Training of a text detector: its values, data, optimizer and validation."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import jax
import numpy as np
from jax.sharding import Mesh

from tcm_jax.config import from_dict
from tcm_jax.data.pipeline import AnySource
from tcm_jax.data.scenes.augment import DetectionAugment
from tcm_jax.data.scenes.build import DetectionEntry, evaluation_scenes, training_scenes
from tcm_jax.data.scenes.samples import DetectionSample
from tcm_jax.data.words.build import parse_entries
from tcm_jax.detection import paramwise
from tcm_jax.detection.evaluate import DetectionResult, ScoredImage, evaluate_scenes
from tcm_jax.detection.initialize import initialize_detector
from tcm_jax.detection.model import DetectionConfig, DetectionModel, detection_config
from tcm_jax.detection.streaming import ImageStream, checked_scale
from tcm_jax.images.canvas import STRIDE
from tcm_jax.pretrained import Pretrained, flatten
from tcm_jax.records import AnnotatedImageSource
from tcm_jax.training.config import RunConfig
from tcm_jax.training.mesh import make_mesh, replicated
from tcm_jax.training.methods import METHODS
from tcm_jax.training.optim import Optimizer, Tree
from tcm_jax.training.partition import TCM_BASELINE_PARTITION, TCM_PARTITION, Rules
from tcm_jax.training.schedules import poly
from tcm_jax.training.task import Scores
from tcm_jax.training.transfer import LoadReport


@dataclass(frozen=True)
class DetectionOptimConfig:
    """Values of the optimizer, named as in the release's mmcv configs.

    Args:
        method: one of `tcm_jax.training.methods.METHODS`.
        lr, weight_decay: for parameters that no key below is part of, whatever the batch.
        power, min_lr: of the poly schedule, which falls once an epoch; with `steps` in place of `epochs`, every step.
        lr_multipliers: by part of a parameter's path; 0 freezes. no_decay: parts of paths without weight decay.
        clip_norm: largest norm of all gradients together, 0 for none. ema: decay of the average of the weights.
    """

    method: str = "adam"
    lr: float = 1e-4
    weight_decay: float = 0.0
    power: float = 0.9
    min_lr: float = 1e-7
    lr_multipliers: Mapping[str, float] = field(default_factory=dict)
    no_decay: tuple[str, ...] = ()
    clip_norm: float = 0.0
    ema: float = 0.0

    def __post_init__(self):
        if self.method not in METHODS:
            raise ValueError(f"config.optim.method is {self.method!r}; expected one of {', '.join(METHODS)}")
        for name in ("weight_decay", "power", "min_lr", "clip_norm"):
            if getattr(self, name) < 0:
                raise ValueError(f"config.optim.{name} is {getattr(self, name)}; expected at least 0")
        if self.lr <= 0 or not 0 <= self.ema < 1:
            raise ValueError(f"config.optim: lr is {self.lr}, ema {self.ema}; expected lr > 0 and 0 <= ema < 1")


@dataclass(frozen=True)
class DetectionDataConfig:
    """Training data.

    Args:
        root: where relative paths of training and evaluation data start.
        train: entries, see `tcm_jax.data.scenes.build`.
        augment: values of `DetectionAugment`; its `crop` is the side of the training images.
        workers: processes that prepare batches, 0 is a thread.
    """

    root: str = "data"
    train: tuple[Mapping[str, Any], ...] = ()
    augment: Mapping[str, Any] = field(default_factory=dict)
    workers: int = 0

    def __post_init__(self):
        self.entries()

    def entries(self) -> list[DetectionEntry]:
        return parse_entries(self.train, "config.data.train", DetectionEntry)


@dataclass(frozen=True)
class DetectionEvalConfig:
    """Validation during training: H-mean at an IoU of 0.5, with the decoding's score threshold.

    Args:
        every: steps between validations; 0 validates at the end only.
        sources: entries; none switches validation off.
    """

    every: int = 0
    sources: tuple[Mapping[str, Any], ...] = ()

    def __post_init__(self):
        self.entries()

    def entries(self) -> list[DetectionEntry]:
        return parse_entries(self.sources, "config.eval.sources", DetectionEntry)


@dataclass(frozen=True)
class Preprocessing:
    """How photos are resized when text is detected.

    Args:
        scale: longest and shorter side.
        coarse_scales: the same of further, smaller copies for large words, see `tcm_jax.detection.multi_scale`.
    """

    scale: tuple[int, int] = (1280, 736)
    coarse_scales: tuple[tuple[int, int], ...] = ()

    def __post_init__(self):
        try:
            for scale in (self.scale, *self.coarse_scales):
                checked_scale(scale)
        except ValueError as error:
            raise ValueError(f"config.preprocessing: {error}") from error


@dataclass(frozen=True, kw_only=True)
class DetectionRunConfig(RunConfig):
    """The run of a detector."""

    model: DetectionConfig
    preprocessing: Preprocessing
    optim: DetectionOptimConfig
    data: DetectionDataConfig
    eval: DetectionEvalConfig = field(default_factory=DetectionEvalConfig)


class DetectionTask:
    """See `tcm_jax.training.task.Task`."""

    def __init__(self, config: Mapping[str, Any]):
        model = detection_config(config["model"], "config.model")
        self.config = c = from_dict(DetectionRunConfig, {**config, "model": model})
        self.task = DetectionModel(c.model, dtype=c.compute_dtype, remat=c.remat)
        fill = tuple(round(value) for value in self.task.mean)  # what is around a photo is 0 after normalization
        self._augment = from_dict(DetectionAugment, {"fill": fill, **c.data.augment}, "config.data.augment")
        self._text = jax.jit(self.task.text_embedding)
        self._predict = jax.jit(self.task.predict)

    def training_sources(self) -> list[AnySource]:
        data = self.config.data
        return [training_scenes(entry, data.root) for entry in data.entries()]

    def validation_sources(self) -> list[AnnotatedImageSource]:
        c = self.config
        return [evaluation_scenes(entry, c.data.root) for entry in c.eval.entries()]

    def describe(self, source: AnySource) -> str:
        return f"{source.name}: {getattr(source, 'report', f'{len(source):,} scenes, rendered on the fly')}"

    def sample(self) -> DetectionSample:
        return DetectionSample(self.task.detector.targets, self._augment)

    def partition_rules(self) -> Rules:
        return TCM_PARTITION if self.config.model.tcm.text_matching else TCM_BASELINE_PARTITION

    def optimizer(self, params: Tree, records: int) -> Optimizer:
        c = self.config
        keys = paramwise.multipliers(c.optim.lr_multipliers, c.optim.no_decay)
        labels = {path: paramwise.group_of(path, keys) for path in flatten(params)}
        total = c.total_steps(records)
        epochs, steps = (total, 1) if c.steps else (max(1, round(c.epochs)), max(1, round(records / c.batch)))

        def schedule(multiplier: float):
            return poly(c.optim.lr * multiplier, epochs, steps, c.optim.power, c.optim.min_lr)

        groups = paramwise.groups(c.optim.weight_decay, keys)
        return Optimizer(METHODS[c.optim.method], groups, labels, schedule, c.optim.clip_norm, c.optim.ema)

    def initialize(self, variables: Tree, pretrained: Pretrained) -> tuple[Tree, LoadReport]:
        return initialize_detector(variables, self.config.model, pretrained)

    def pretrained(self, variables: Tree, **origin: Any) -> Pretrained:
        preprocessing = {
            "mean": list(self.task.mean),
            "std": list(self.task.std),
            "scale": list(self.config.preprocessing.scale),
            "multiple": STRIDE,
        }
        if coarse := self.config.preprocessing.coarse_scales:
            preprocessing["coarse_scales"] = [list(scale) for scale in coarse]
        return Pretrained("detection", asdict(self.config.model), variables, preprocessing, **origin)

    def evaluate(
        self, variables: Tree, sources: Sequence[AnnotatedImageSource], mesh: Mesh, check: Callable[[], None]
    ) -> Scores:
        def predict(canvas: np.ndarray, size: np.ndarray):
            return self._predict(own, canvas, size, text)

        def watch(_: ScoredImage) -> None:
            check()

        gathered = jax.device_put(variables, replicated(mesh))
        # Every process detects in photos of its own, on its first device.
        with jax.set_mesh(make_mesh(devices=jax.local_devices()[:1])):
            own = jax.tree.map(lambda x: x.addressable_data(0), gathered)
            text = self._text(own)
            resizing = self.config.preprocessing
            photos = ImageStream(self.task, predict, resizing.scale, resizing.coarse_scales)
            results = [evaluate_scenes(photos, source, on_image=watch) for source in sources]
        hmean = float(np.mean([result.fixed.hmean for result in results]))
        rows = {result.name: _numbers(result) for result in results}
        each = ", ".join(
            f"{r.name} precision {100 * r.fixed.precision:.1f} recall {100 * r.fixed.recall:.1f} "
            f"h-mean {100 * r.fixed.hmean:.1f}"
            for r in results
        )
        return Scores("hmean", hmean, f"h-mean {100 * hmean:.2f} % ({each})", rows)

    def inference(self, batch: int) -> tuple[Callable[..., Any], dict[str, jax.ShapeDtypeStruct]]:
        def predict(variables: Tree, arrays: Mapping[str, jax.Array]):
            return self.task.predict(variables, arrays["image"], arrays["size"], self.task.text_embedding(variables))

        long, short = (-(-side // STRIDE) * STRIDE for side in self.config.preprocessing.scale)
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
