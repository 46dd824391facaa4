"""Batches for training, and of crops for evaluation, read by grain.

Batch s of a training run is a pure function of (seed, s): the records [s * B, (s + 1) * B) of an endless
order that the seed fixes. It depends neither on the number of worker processes nor on where a run was
resumed, and every host of a run takes its contiguous rows of each batch.
"""

import gc
import itertools
import logging
import os
import shutil
import sys
from collections.abc import Callable, Generator, Iterator, Sequence
from functools import partial
from typing import Any, NamedTuple, Protocol

import cv2
import grain
import numpy as np
from absl import flags

from tcm_jax.data.sources import check_not_empty
from tcm_jax.data.workers import end_with_parent
from tcm_jax.distributed.share import ALL_ROWS, Rows, Share
from tcm_jax.images.decoding import ImageError, decode
from tcm_jax.records import AnnotatedImage, AnnotatedImageSource, WordCrop, WordSource

AnySource = WordSource | AnnotatedImageSource

_MAX_UNDECODABLE = 100  # in a row: then the source is broken, not a record
_ENDLESS = 2**50  # records; grain's own infinity can't be divided into batches
_BUFFERED_BATCHES = 2  # per worker
_SHARED_MEMORY = "/dev/shm"
_BLACK = np.zeros((1, 1, 3), np.uint8)


class Prepare(Protocol):
    """Makes a training sample of a record; it is pickled to the workers."""

    def example(self) -> dict[str, np.ndarray]:
        """Arrays of the names, shapes and dtypes of all samples."""

    def __call__(self, record: Any, pixels: np.ndarray, rng: np.random.Generator) -> dict[str, np.ndarray]:
        """The sample of a record with these pixels, uint8 RGB [h, w, 3]."""


class _Decoded(NamedTuple):
    record: WordCrop | AnnotatedImage
    pixels: np.ndarray  # uint8 [h, w, 3]
    undecodable: list[str]  # names of the records that this one stands in for


def train_batches(
    sources: Sequence[AnySource],
    prepare: Prepare,
    *,
    batch_size: int,
    seed: int,
    start_step: int = 0,
    weights: Sequence[float] | None = None,
    workers: int = 0,
    share: Share = ALL_ROWS,
) -> Generator[dict, None, None]:
    """An endless iterator of training batches, from batch `start_step` on; close() it to end its workers.

    Each source is shuffled anew in every epoch. A record whose image can't be decoded is replaced by the next
    one of its source that can.

    Args:
        sources: where the records come from.
        prepare: makes the samples.
        batch_size: B, over all processes.
        seed: fixes the order and the random numbers of `prepare`, 0 <= seed < 2**32.
        start_step: number of the first batch; those before it are not computed.
        weights: share of each source in the batches, in any unit; without it every record counts the same.
        workers: processes that prepare batches; 0 prepares them in a thread.
        share: the rows of this process.

    Yields:
        the arrays of `prepare`, stacked to [b, ...], and {"name": b names of the records, "undecodable": names of
        the records that were replaced}; b is the share's part of B.

    Raises:
        ValueError: an argument does not fit the others, a source is empty, or what `prepare` raises.
        ImageError: (while iterating) 100 images in a row can't be decoded.
    """
    rows = Rows(batch_size, share)
    for source in sources:
        check_not_empty(source)
    if weights is not None and (len(weights) != len(sources) or min(weights) <= 0):
        raise ValueError(f"weights {list(weights)} for {len(sources)} sources; expected one positive number each")

    # Each source has its own stream of random numbers: SeedSequence mixes (seed, number) well, seed + number
    # does not.
    seeds = [int(np.random.SeedSequence([seed, i]).generate_state(1)[0]) for i in range(len(sources))]
    records = [grain.MapDataset.source(_Decodable(source)) for source in sources]
    if weights is None:
        order = grain.MapDataset.concatenate(records).shuffle(seed=seeds[0]).repeat()
    else:
        parts = [part.shuffle(seed=s).repeat() for part, s in zip(records, seeds, strict=True)]
        order = grain.MapDataset.mix(parts, weights)
    samples = order[:_ENDLESS].random_map(partial(_training_sample, prepare), seed=seed)
    sample_bytes = sum(array.nbytes for array in prepare.example().values())
    return _iterate(rows.of(samples, start_step, _stack), workers, rows.local * sample_bytes)


def eval_batches(
    source: WordSource,
    *,
    prepare: Callable[[np.ndarray], np.ndarray],
    batch_size: int,
    workers: int = 0,
    share: Share = ALL_ROWS,
) -> Iterator[dict]:
    """One pass over `source` in its order; every process yields the same number of batches, the last one
    padded.

    An image that can't be decoded keeps its row, black: a benchmark counts a fixed number of words.

    Args: as of `train_batches`, and
        prepare: of the pixels of a crop, uint8 RGB [h, w, 3], the views [v, H, W, 3] that are read; can be pickled.

    Yields:
        {"image": uint8 [b, v, H, W, 3], "text": b labels as the source gives them, "name": b names, "valid":
        bool [b], False in rows of padding and in those that another process scores, "undecodable": names of the
        records with a black image}; b is the share's part of B.

    Raises:
        ValueError: the arguments don't fit each other or the source is empty.
        RuntimeError: (at the end) not every record of this process came by exactly once.
    """
    rows = Rows(batch_size, share)
    check_not_empty(source)
    length = -(-len(source) // batch_size) * batch_size
    samples = grain.MapDataset.range(length).map(partial(_evaluation_sample, source, prepare, rows))
    expected = sum(rows.scored(row) for row in range(len(source)))
    batch_bytes = rows.local * prepare(_BLACK).nbytes
    return _counted(_iterate(rows.of(samples, 0, _stack), workers, batch_bytes), expected, source.name)


class _Decodable:
    """Random access to decoded records; one that can't be decoded is replaced by the next one that can."""

    def __init__(self, source: AnySource) -> None:
        self.source = source

    def __len__(self) -> int:
        return len(self.source)

    def __getitem__(self, index: int) -> _Decoded:
        undecodable: list[str] = []
        for i in range(index, index + _MAX_UNDECODABLE):
            try:
                record = self.source[i % len(self)]
                return _Decoded(record, decode(record.image, record.name), undecodable)
            except ImageError as error:
                undecodable.append(error.name)
                last = error
        raise ImageError(self.source.name, f"{_MAX_UNDECODABLE} images in a row can't be decoded; the last: {last}")


def _training_sample(prepare: Prepare, decoded: _Decoded, rng: np.random.Generator) -> dict[str, Any]:
    record, pixels, undecodable = decoded
    return {**prepare(record, pixels, rng), "name": record.name, "undecodable": undecodable}


def _evaluation_sample(
    source: WordSource, prepare: Callable[[np.ndarray], np.ndarray], rows: Rows, index: int
) -> dict[str, Any]:
    """Record `index` of `source`, or padding beyond its end."""
    padding = index >= len(source)
    valid = not padding and rows.scored(index)
    record, pixels, undecodable = WordCrop(b"", "", ""), _BLACK, []
    if not padding:
        try:
            record = source[index]
        except ImageError as error:
            record = WordCrop(b"", next(itertools.islice(source.labels(), index, None)), error.name)
        try:
            pixels = decode(record.image, record.name)
        except ImageError:
            undecodable = [record.name] * valid
    image = prepare(pixels)
    return {
        "image": image,
        "text": record.label,
        "valid": np.bool_(valid),
        "name": record.name,
        "undecodable": undecodable,
    }


def _stack(samples: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """A batch of samples: arrays stacked, lists joined, and a list of the values of anything else.

    Strings stay lists: as numpy arrays of fixed-width strings they could be cut on the way through shared memory.
    """
    batch: dict[str, Any] = {}
    for key, first in samples[0].items():
        values = [sample[key] for sample in samples]
        if isinstance(first, np.ndarray | np.generic):
            batch[key] = np.stack(values)
        else:
            batch[key] = list(itertools.chain.from_iterable(values)) if isinstance(first, list) else values
    return batch


def _iterate(batches: grain.MapDataset, workers: int, batch_bytes: int) -> Generator[dict, None, None]:
    """The batches in order, prepared ahead of time by `workers` processes or one thread."""
    if not flags.FLAGS.is_parsed():  # grain reads its own flags, and in a notebook or a test nobody parses them
        flags.FLAGS.mark_as_parsed()
    if workers == 0:
        dataset = batches.to_iter_dataset(grain.ReadOptions(num_threads=1, prefetch_buffer_size=_BUFFERED_BATCHES))
    else:
        _check_shared_memory(workers, batch_bytes)
        dataset = batches.to_iter_dataset(grain.ReadOptions(num_threads=0, prefetch_buffer_size=0)).mp_prefetch(
            grain.MultiprocessingOptions(num_workers=workers, per_worker_buffer_size=_BUFFERED_BATCHES),
            worker_init_fn=_start_worker,
        )

    def generate() -> Generator[dict, None, None]:
        iterator = iter(dataset)
        try:
            for batch in iterator:
                # A copy, so that no shared memory is held for as long as somebody holds the batch.
                yield {k: np.array(v) if isinstance(v, np.ndarray) else v for k, v in batch.items()}
                del batch
        finally:
            iterator.close()
            del iterator
            if workers:
                gc.collect()  # the iterator is part of a cycle and holds batches in shared memory

    return generate()


def _counted(batches: Iterator[dict], expected: int, name: str) -> Iterator[dict]:
    """The same batches, and an error at the end if they held another number of records than expected."""
    count = 0
    for batch in batches:
        count += int(batch["valid"].sum())
        yield batch
    if count != expected:
        raise RuntimeError(f"{name}: {count:,} records were read; expected {expected:,}")


def _start_worker(index: int, count: int) -> None:
    """Runs first in every worker process."""
    end_with_parent()
    # A worker has no use for an accelerator, whose memory it would take from the main process.
    os.environ["JAX_PLATFORMS"] = "cpu"
    if "jax" in sys.modules:
        sys.modules["jax"].config.update("jax_platforms", "cpu")
    cv2.setNumThreads(1)  # the workers share the cores already


def _check_shared_memory(workers: int, batch_bytes: int) -> None:
    """Warns where the batches of the workers may not fit; the system would kill a worker without a message."""
    if not os.path.isdir(_SHARED_MEMORY):
        return
    free = shutil.disk_usage(_SHARED_MEMORY).free
    needed = workers * (2 * _BUFFERED_BATCHES + 1) * batch_bytes
    if free < needed:
        logging.warning(
            f"{workers} workers can need {needed >> 20} MB of shared memory, but {_SHARED_MEMORY} has "
            f"{free >> 20} MB free; use fewer workers or smaller batches, or docker run --shm-size"
        )
