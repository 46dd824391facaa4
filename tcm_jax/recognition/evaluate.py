"""Evaluation of a recognizer: one pass over the records of a data set."""

from collections.abc import Callable, Iterator
from typing import NamedTuple

import jax
import numpy as np

from tcm_jax.data.pipeline import eval_batches
from tcm_jax.data.words.sources import FilteredSource
from tcm_jax.distributed.multihost import multihost_sum
from tcm_jax.distributed.share import Share
from tcm_jax.metrics.recognition import Result, WordTotals
from tcm_jax.recognition.model import Prediction, RecognitionModel
from tcm_jax.recognition.words import words
from tcm_jax.records import warn_undecodable
from tcm_jax.text.charset import CharsetAdapter

Predict = Callable[[np.ndarray], Prediction]


class ScoredWord(NamedTuple):
    """A word as it was compared: label and prediction in the characters of the test."""

    name: str
    label: str
    prediction: str
    confidence: float


def evaluate(
    predict: Predict,
    source: FilteredSource,
    *,
    network: RecognitionModel,
    batch_size: int,
    workers: int = 0,
    share: Share | None = None,
    on_sample: Callable[[ScoredWord], None] | None = None,
) -> Result:
    """Scores the predictions for every record of `source` once.

    Predictions are mapped to the charset of the source's label filter, as its labels are, before both are
    compared. A record whose image can't be decoded counts as an empty prediction with confidence 0. While the
    device reads a batch, the next one is decoded on the host.

    With several processes all of them call this, each scores its rows of every batch, and all return the same
    result.

    Args:
        predict: reads uint8 images [b, v, H, W, 3], b being the share's part of batch_size; b never changes, as the
            last batch is padded. A jitted function bound to its parameters.
        source: cleaned labels; `name` and `label_filter.charset` are used.
        network: whose views are read, and whose tokenizer and dictionary prior make words of ids.
        batch_size: over all processes. workers: processes that decode images, 0 for a thread.
        share: the rows of this process; default one equal part for each process.
        on_sample: called for every word of this process, in order.

    Raises:
        RuntimeError: the number of scored words isn't that of the source.
        ValueError: the source is empty.
    """
    adapt = CharsetAdapter(source.label_filter.charset)
    totals = WordTotals()
    broken: list[str] = []

    def score(batch: dict, prediction: Prediction) -> None:
        black = set(batch["undecodable"])
        broken.extend(batch["undecodable"])
        read = words(network.tokenizer, prediction, network.dictionary_prior)
        rows = zip(batch["name"], batch["text"], read, batch["valid"], strict=True)
        for name, label, word, valid in rows:
            if not valid:
                continue
            text, confidence = ("", 0.0) if name in black else (adapt(word.text), word.confidence)
            totals.add(text, label, confidence)
            if on_sample is not None:
                on_sample(ScoredWord(name, label, text, confidence))

    batches = eval_batches(
        source,
        prepare=network.views,
        batch_size=batch_size,
        workers=workers,
        share=share or Share.of(jax.process_index(), jax.process_count()),
    )
    for batch, prediction in _one_behind(predict, batches):
        score(batch, prediction)

    totals.undecodable = len(broken)
    warn_undecodable(source.name, broken, "wrong")
    totals = _over_processes(totals)
    if totals.num_samples != len(source):
        raise RuntimeError(f"{source.name}: {totals.num_samples:,} words were scored; expected {len(source):,}")
    return totals.result(source.name)


def _one_behind(predict: Predict, batches: Iterator[dict]) -> Iterator[tuple[dict, Prediction]]:
    """Each batch with its prediction; the device already works on the next one while this one is scored."""
    before = None
    for batch in batches:
        now = batch, predict(batch.pop("image"))
        if before is not None:
            yield before
        before = now
    if before is not None:
        yield before


def _over_processes(totals: WordTotals) -> WordTotals:
    """The sums over all processes."""
    sums = multihost_sum(np.array([float(value) for value in vars(totals).values()]))
    kinds = [type(value) for value in vars(totals).values()]
    return WordTotals(*(kind(value) for kind, value in zip(kinds, sums, strict=True)))
