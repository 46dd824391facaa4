"""Training of a recognizer: its data, optimizer and validation."""

import functools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh

from tcm_jax.config import from_dict
from tcm_jax.data.pipeline import AnySource
from tcm_jax.data.words.augment import RandAugment
from tcm_jax.data.words.build import evaluation_crops, training_crops
from tcm_jax.data.words.labels import LabelFilter
from tcm_jax.data.words.samples import RecognitionSample
from tcm_jax.data.words.sources import FilteredSource
from tcm_jax.images.decoding import MEAN_STD_0_5
from tcm_jax.metrics.recognition import Result, combine
from tcm_jax.models.clip4str import CLIP4STR_PARTITION, CLIP4STR_STEM_PARTITION
from tcm_jax.options import stored
from tcm_jax.pretrained import Pretrained
from tcm_jax.recognition.config import RecognitionRunConfig
from tcm_jax.recognition.evaluate import ScoredWord, evaluate
from tcm_jax.recognition.initialize import initialize
from tcm_jax.recognition.model import Prediction, RecognitionModel
from tcm_jax.recognition.optimizer import make_optimizer
from tcm_jax.text.charset import CharsetAdapter
from tcm_jax.text.charset_spec import load_charset
from tcm_jax.training.config import ConfigError
from tcm_jax.training.mesh import batch_sharding, batch_shards, batch_share, shard_batch
from tcm_jax.training.optim import Optimizer, Tree
from tcm_jax.training.partition import Rules
from tcm_jax.training.task import Batch, Scores
from tcm_jax.training.transfer import LoadReport


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
        self.model = RecognitionModel(c.model, c.data.mean, c.data.std, c.compute_dtype, c.remat, c.inference)
        half = c.eval.normalization == "half"
        mean, std = (MEAN_STD_0_5, MEAN_STD_0_5) if half else (c.data.mean, c.data.std)
        self._reader = RecognitionModel(c.model, mean, std, c.compute_dtype, options=c.inference)
        # One function for all validations, as each jitted one is compiled anew.
        self._read = functools.cache(lambda mesh: jax.jit(self._reader.predict, out_shardings=batch_sharding(mesh)))

    def init(self, key: jax.Array) -> Mapping[str, Any]:
        """Random variables, {"params": tree} and, of a model with BatchNorm, {"batch_stats": tree}."""
        return self.model.init(key)

    def loss(self, variables: Mapping[str, Any], batch: Batch, key: jax.Array) -> tuple[jax.Array, dict, Tree]:
        """(loss, metrics, batch_stats) of a training batch."""
        return self.model.loss(variables, batch, key)

    def training_sources(self) -> list[AnySource]:
        """The data of `config.data.train`; raises SourceError or ConfigError."""
        c, length = self.config, self.config.model.max_label_length
        try:
            label_filter = LabelFilter(c.model.charset, length, **c.data.filter)
        except (TypeError, ValueError) as error:
            raise ConfigError(f"config.data.filter: {error}") from error
        return [training_crops(entry, label_filter, c.data.root) for entry in c.data.entries()]

    def validation_sources(self) -> list[FilteredSource]:
        """The data of `config.eval.sources`; raises SourceError."""
        c = self.config
        label_filter = LabelFilter(c.eval.charset, c.model.max_label_length)
        return [evaluation_crops(entry, label_filter, c.model.charset, c.data.root) for entry in c.eval.entries()]

    def describe(self, source: AnySource) -> str:
        """A line about a source."""
        return f"{source.name}: {len(source):,} words; {getattr(source, 'report', 'rendered on the fly')}"

    def sample(self) -> RecognitionSample:
        """Makes a training sample of a record."""
        c = self.config
        augment = RandAugment(c.data.augment) if c.data.augment else None
        return RecognitionSample(self.model.tokenizer, c.model.clip.image_size, c.model.max_label_length, augment)

    def partition_rules(self) -> Rules:
        """PartitionSpecs by patterns of parameter paths."""
        return CLIP4STR_STEM_PARTITION if self.config.model.clip.vision_stem else CLIP4STR_PARTITION

    def optimizer(self, params: Tree, records: int) -> Optimizer:
        """The optimizer of a run over `records` training records."""
        c = self.config
        return make_optimizer(c.optim, params, c.batch, c.total_steps(records))

    def initialize(self, variables: Tree, pretrained: Pretrained) -> tuple[Tree, LoadReport]:
        """Random variables with everything replaced that a model directory holds, and what became of each."""
        params, report = initialize(variables["params"], self.config.model, pretrained)
        return {"params": params}, report

    def pretrained(self, variables: Tree, **origin: Any) -> Pretrained:
        """The model as a directory stores it."""
        preprocessing = {"mean": list(self.model.mean), "std": list(self.model.std)}
        inference = stored(self.config.inference)
        return Pretrained("recognition", asdict(self.config.model), variables, preprocessing, inference, **origin)

    def evaluate(
        self, variables: Tree, sources: Sequence[FilteredSource], mesh: Mesh, check: Callable[[], None]
    ) -> Scores:
        """Scores of the sources; `check` is called for every image and may raise."""

        def predict(images: np.ndarray) -> Prediction:
            return self._read(mesh)(variables, shard_batch({"image": images}, mesh)["image"])

        def watch(_: ScoredWord) -> None:
            check()

        shards = batch_shards(mesh)
        results = [
            evaluate(
                predict,
                source,
                network=self._reader,
                batch_size=-(-self.config.eval.batch // shards) * shards,  # the last batch is padded anyway
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
        """The function (variables, arrays) of inference, and the shapes of its arrays."""

        def predict(variables: Tree, arrays: Mapping[str, jax.Array]) -> Prediction:
            return self._reader.predict(variables, arrays["image"])

        return predict, {"image": jax.ShapeDtypeStruct((batch, *self.config.model.clip.image_size, 3), jnp.uint8)}


def _numbers(result: Result) -> dict[str, float]:
    return {key: value for key, value in asdict(result).items() if key != "name"}
