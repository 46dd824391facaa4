"""Training of a recognizer: its values, data, optimizer and validation.

Source of the optimizer: strhub/models/vl_str/system.py of the original (configure_optimizers).
"""

import functools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh

from tcm_jax.config import from_dict
from tcm_jax.data.pipeline import AnySource
from tcm_jax.data.words.augment import OPERATIONS, RandAugment
from tcm_jax.data.words.build import Entry, evaluation_source, parse_entries, training_source
from tcm_jax.data.words.labels import LabelFilter
from tcm_jax.data.words.samples import RecognitionSample
from tcm_jax.data.words.sources import FilteredSource
from tcm_jax.images.decoding import CLIP_MEAN, CLIP_STD, MEAN_STD_0_5, SINGLE_VIEW, check_margins
from tcm_jax.metrics.recognition import Result, combine
from tcm_jax.models.clip4str import CLIP4STRConfig
from tcm_jax.pretrained import Pretrained, flatten
from tcm_jax.recognition.evaluate import ScoredWord, evaluate
from tcm_jax.recognition.initialize import initialize
from tcm_jax.recognition.model import Prediction, RecognitionModel, parameter_group
from tcm_jax.text.charset import CHARSET_36, CharsetAdapter, load_charset
from tcm_jax.training.config import ConfigError, RunConfig
from tcm_jax.training.mesh import batch_sharding, batch_shards, batch_share, shard_batch
from tcm_jax.training.methods import adamw
from tcm_jax.training.optim import Group, Optimizer, Tree
from tcm_jax.training.partition import CLIP4STR_PARTITION, CLIP4STR_STEM_PARTITION, Rules
from tcm_jax.training.schedules import one_cycle
from tcm_jax.training.task import Scores
from tcm_jax.training.transfer import LoadReport

# Options of the label filter that a config may set; the charset and the length are the model's.
_FILTER = sorted({f.name for f in fields(LabelFilter) if f.init} - {"charset", "max_length"})


@dataclass(frozen=True)
class RecognitionOptimConfig:
    """Values of the optimizer: AdamW in four groups under a one-cycle schedule.

    Args:
        lr: peak learning rate for a batch of `lr_batch` images; it grows in proportion to the batch.
        decoder_lr_multiplier: the decoders learn this much faster than CLIP's towers.
        weight_decay: decoupled, as a share of the learning rate; decoder_weight_decay_multiplier: that of the
            decoders.
        b1, b2, eps: AdamW's.
        warmup_fraction: part of all steps until the peak.
        clip_norm: largest norm of all trainable gradients together.
        text_freeze_layers, image_freeze_layers: see `tcm_jax.recognition.model.parameter_group`.
        ema: decay of the running average of the parameters; 0 keeps none.
    """

    lr: float = 8.4e-5
    lr_batch: int = 512
    decoder_lr_multiplier: float = 19.0
    weight_decay: float = 0.2
    decoder_weight_decay_multiplier: float = 1.0
    b1: float = 0.9
    b2: float = 0.98
    eps: float = 1e-6
    warmup_fraction: float = 0.075
    clip_norm: float = 20.0
    text_freeze_layers: int = -1
    image_freeze_layers: int = -1
    ema: float = 0.0

    def __post_init__(self):
        for name in ("lr", "lr_batch", "clip_norm", "eps"):
            if getattr(self, name) <= 0:
                raise ValueError(f"config.optim.{name} is {getattr(self, name)}; expected a positive number")
        for name in ("b1", "b2", "ema"):
            if not 0 <= getattr(self, name) < 1:
                raise ValueError(f"config.optim.{name} is {getattr(self, name)}; expected 0 <= {name} < 1")
        if not 0 <= self.warmup_fraction <= 1:
            raise ValueError(f"config.optim.warmup_fraction is {self.warmup_fraction}; expected a number of 0 .. 1")

    def peak(self, batch: int) -> float:
        """The peak learning rate of CLIP's towers for a global batch of `batch` images."""
        return self.lr * batch / self.lr_batch

    @property
    def groups(self) -> dict[str, Group]:
        """The groups of trainable parameters by name."""
        decoder_decay = self.weight_decay * self.decoder_weight_decay_multiplier
        return {
            "encoder_no_decay": Group(1.0, 0.0),
            "encoder_decay": Group(1.0, self.weight_decay),
            "decoder_no_decay": Group(self.decoder_lr_multiplier, 0.0),
            "decoder_decay": Group(self.decoder_lr_multiplier, decoder_decay),
        }


@dataclass(frozen=True)
class RecognitionDataConfig:
    """Training data.

    Args:
        root: where relative paths of training and evaluation data start.
        train: entries, {path, weight} or {synthetic: {...}, weight}; see `tcm_jax.data.words.build`.
        augment: operations of RandAugment on every image, each done half of the time; 0 for none.
        workers: processes that prepare batches, 0 is a thread.
        filter: options of `LabelFilter`.
        mean, std: of the image normalization, for values in 0..1.
    """

    root: str = "data"
    train: tuple[Mapping[str, Any], ...] = ()
    augment: int = 3
    workers: int = 0
    filter: Mapping[str, Any] = field(default_factory=dict)
    mean: tuple[float, ...] = CLIP_MEAN
    std: tuple[float, ...] = CLIP_STD

    def __post_init__(self):
        if isinstance(self.augment, bool) or not 0 <= self.augment <= len(OPERATIONS):
            raise ValueError(f"config.data.augment is {self.augment}; expected 0 .. {len(OPERATIONS)} operations")
        for key in self.filter:
            if key not in _FILTER:
                raise ValueError(f"config.data.filter has no field {key!r}; known are {', '.join(_FILTER)}")
        self.entries()

    def entries(self) -> list[Entry]:
        return parse_entries(self.train, "config.data.train", Entry)


@dataclass(frozen=True)
class RecognitionEvalConfig:
    """Validation during training.

    Args:
        every: steps between validations; 0 validates at the end only. batch: images at a time, rounded up to
            what the mesh divides.
        charset: the characters that are compared, "36" for case- and punctuation-blind.
        normalization: "train" (data.mean and data.std) or "half" (0.5 and 0.5, as the original's benchmark
            script).
        sources: entries, {name, path, max_samples} or with synthetic; none switches validation off.
    """

    every: int = 0
    batch: int = 64
    charset: str = CHARSET_36
    normalization: str = "train"
    sources: tuple[Mapping[str, Any], ...] = ()

    def __post_init__(self):
        if self.normalization not in ("train", "half"):
            raise ValueError(f'config.eval.normalization is {self.normalization!r}; expected "train" or "half"')
        self.entries()

    def entries(self) -> list[Entry]:
        return parse_entries(self.sources, "config.eval.sources", Entry)


@dataclass(frozen=True)
class Preprocessing:
    """What is shown to the model when words are read.

    Args:
        margins: of the pictures of each word, of which the likeliest reading counts, see
            `tcm_jax.images.decoding.pictures`; validations read so, and it is stored with the model.
    """

    margins: tuple[float, ...] = SINGLE_VIEW

    def __post_init__(self):
        try:
            check_margins(self.margins)
        except ValueError as error:
            raise ValueError(f"config.preprocessing: {error}") from error


@dataclass(frozen=True, kw_only=True)
class RecognitionRunConfig(RunConfig):
    """The run of a recognizer."""

    model: CLIP4STRConfig
    preprocessing: Preprocessing = Preprocessing()
    optim: RecognitionOptimConfig
    data: RecognitionDataConfig
    eval: RecognitionEvalConfig = field(default_factory=RecognitionEvalConfig)


class RecognitionTask:
    """See `tcm_jax.training.task.Task`."""

    def __init__(self, config: Mapping[str, Any]):
        """Charsets by name become their characters."""
        sections = {name: dict(config.get(name, {})) for name in ("model", "eval")}
        for section, key in (("model", "charset"), ("model", "caption_charset"), ("eval", "charset")):
            if key in sections[section]:
                sections[section][key] = load_charset(sections[section][key])
        self.config = c = from_dict(RecognitionRunConfig, {**config, **sections})
        adapt = CharsetAdapter(c.model.caption_charset)
        if lost := "".join(x for x in c.model.charset if x.isalpha() and not adapt(x)):
            raise ConfigError(
                f"config.model.caption_charset lacks {lost!r}, which would never reach the text encoder; "
                "set it to config.model.charset"
            )
        self.task = RecognitionModel(c.model, c.data.mean, c.data.std, c.compute_dtype, c.remat)
        half = c.eval.normalization == "half"
        self._reader = RecognitionModel(c.model, MEAN_STD_0_5, MEAN_STD_0_5, c.compute_dtype) if half else self.task
        # One function for all validations, as each jitted one is compiled anew.
        self._read = functools.cache(lambda mesh: jax.jit(self._reader.predict, out_shardings=batch_sharding(mesh)))

    def training_sources(self) -> list[AnySource]:
        c, length = self.config, self.config.model.max_label_length
        try:
            label_filter = LabelFilter(c.model.charset, length, **c.data.filter)
        except (TypeError, ValueError) as error:
            raise ConfigError(f"config.data.filter: {error}") from error
        return [training_source(entry, label_filter, c.data.root) for entry in c.data.entries()]

    def validation_sources(self) -> list[FilteredSource]:
        c = self.config
        label_filter = LabelFilter(c.eval.charset, c.model.max_label_length)
        return [evaluation_source(entry, label_filter, c.model.charset, c.data.root) for entry in c.eval.entries()]

    def describe(self, source: AnySource) -> str:
        return f"{source.name}: {len(source):,} words; {getattr(source, 'report', 'rendered on the fly')}"

    def sample(self) -> RecognitionSample:
        c = self.config
        augment = RandAugment(c.data.augment) if c.data.augment else None
        return RecognitionSample(self.task.tokenizer, c.model.clip.image_size, c.model.max_label_length, augment)

    def partition_rules(self) -> Rules:
        return CLIP4STR_STEM_PARTITION if self.config.model.clip.vision_stem else CLIP4STR_PARTITION

    def optimizer(self, params: Tree, records: int) -> Optimizer:
        c = self.config
        return make_optimizer(c.optim, params, c.batch, c.total_steps(records))

    def initialize(self, variables: Tree, pretrained: Pretrained) -> tuple[Tree, LoadReport]:
        params, report = initialize(variables["params"], self.config.model, pretrained)
        return {"params": params}, report

    def pretrained(self, variables: Tree, **origin: Any) -> Pretrained:
        preprocessing: dict[str, Any] = {"mean": list(self.task.mean), "std": list(self.task.std)}
        if (margins := self.config.preprocessing.margins) != SINGLE_VIEW:
            preprocessing["margins"] = list(margins)
        return Pretrained("recognition", asdict(self.config.model), variables, preprocessing, **origin)

    def evaluate(
        self, variables: Tree, sources: Sequence[FilteredSource], mesh: Mesh, check: Callable[[], None]
    ) -> Scores:
        def predict(images: np.ndarray) -> Prediction:
            return self._read(mesh)(variables, shard_batch({"image": images}, mesh)["image"])

        def watch(_: ScoredWord) -> None:
            check()

        shards = batch_shards(mesh)
        results = [
            evaluate(
                predict,
                source,
                tokenizer=self.task.tokenizer,
                image_size=self.config.model.clip.image_size,
                batch_size=-(-self.config.eval.batch // shards) * shards,  # the last batch is padded anyway
                margins=self.config.preprocessing.margins,
                vocabulary=self._reader.vocabulary,
                share=batch_share(mesh),
                workers=self.config.data.workers,
                on_sample=watch,
            )
            for source in sources
        ]
        total = combine(results)
        each = ", ".join(f"{r.name} {r.accuracy:.2f}" for r in results)
        text = f"accuracy {total.accuracy:.2f} % of {total.num_samples:,} words ({each})"
        return Scores("accuracy", total.accuracy, text, {result.name: _numbers(result) for result in results})

    def inference(self, batch: int) -> tuple[Callable[..., Any], dict[str, jax.ShapeDtypeStruct]]:
        def predict(variables: Tree, arrays: Mapping[str, jax.Array]) -> Prediction:
            return self._reader.predict(variables, arrays["image"])

        return predict, {"image": jax.ShapeDtypeStruct((batch, *self.config.model.clip.image_size, 3), jnp.uint8)}


def torch_ndim(path: str, shape: tuple[int, ...]) -> int:
    """Number of dimensions that a parameter has in PyTorch, where heads are not a dimension of their own.

    Attention kernels [d, k, e] and [k, e, d] are matrices there, head biases [k, e] are vectors.
    """
    match path.rsplit("/", 1)[-1], len(shape):
        case "bias", 2:
            return 1
        case "kernel", 3:
            return 2
        case _, ndim:
            return ndim


def make_optimizer(config: RecognitionOptimConfig, params: Tree, batch: int, total_steps: int) -> Optimizer:
    """The optimizer of a run.

    Args:
        params: the parameters of CLIP4STR or their shapes.
        batch: images of an optimizer step, over all devices and micro-batches.
        total_steps: optimizer steps of the whole run.
    """
    layers = config.text_freeze_layers, config.image_freeze_layers
    labels = {path: parameter_group(path, torch_ndim(path, x.shape), *layers) for path, x in flatten(params).items()}
    method = functools.partial(adamw, b1=config.b1, b2=config.b2, eps=config.eps)

    def schedule(multiplier: float):
        return one_cycle(multiplier * config.peak(batch), total_steps, config.warmup_fraction)

    return Optimizer(method, config.groups, labels, schedule, config.clip_norm, config.ema)


def _numbers(result: Result) -> dict[str, float]:
    return {key: value for key, value in asdict(result).items() if key != "name"}
