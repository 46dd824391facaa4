"""Batches for training, and of word images for evaluation, read by grain.

Batch s of a training run is a pure function of (seed, s): the records [s * B, (s + 1) * B) of an endless
order that the seed fixes. It depends neither on the number of worker processes nor on where a run was
resumed, and every host of a run takes its contiguous rows of each batch.
"""

import gc
import itertools
import logging
import multiprocessing
import os
import shutil
import signal
import sys
import threading
from collections.abc import Callable, Generator, Iterator, Sequence
from typing import Any, NamedTuple, Protocol

import cv2
import grain
import numpy as np
from absl import flags

from tcm_jax.distributed.share import ALL_ROWS, Rows, Share
from tcm_jax.images.decoding import ImageError, decode
from tcm_jax.records import AnnotatedImage, AnnotatedImageSource, WordCrop, WordSource

AnySource = WordSource | AnnotatedImageSource

_MAX_UNDECODABLE = 100  # in a row: then the source is broken, not a record
_ENDLESS = 2**50  # records; grain's own infinity can't be divided into batches
_BUFFERED_BATCHES = 2  # per worker
_SHARED_MEMORY = "/dev/shm"


class Prepare(Protocol):
    """Makes a training sample of a record; it is pickled to the workers.

    Calling it with (record, its pixels uint8 RGB [h, w, 3], random numbers) gives arrays by name, of the same shapes
    for all records.
    """

    def example(self) -> dict[str, np.ndarray]:
        """Arrays of these shapes and dtypes."""

    def __call__(self, record: Any, pixels: np.ndarray, rng: np.random.Generator) -> dict[str, np.ndarray]: ...


class _Row(NamedTuple):
    """One record on its way into a batch."""

    record: WordCrop | AnnotatedImage
    pixels: np.ndarray  # uint8 [h, w, 3]
    undecodable: list[str]  # names of the records that this one stands in for


class _Sample(NamedTuple):
    """One row of a training batch."""

    arrays: dict[str, np.ndarray]
    name: str
    undecodable: list[str]


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
        prepare: what a sample is made of.
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
        if len(source) == 0:
            raise ValueError(f"source {source.name} has no records; {getattr(source, 'report', '')}")
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
    samples = order[:_ENDLESS].random_map(_Prepared(prepare), seed=seed)
    sample_bytes = sum(array.nbytes for array in prepare.example().values())
    return _iterate(rows.of(samples, start_step, _stack_training), workers, rows.local * sample_bytes)


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
    if len(source) == 0:
        raise ValueError(f"source {source.name} has no records; {getattr(source, 'report', '')}")
    count = -(-len(source) // batch_size)
    records = grain.MapDataset.source(_Padded(source, count * batch_size, rows)).map(_PrepareEvaluation(prepare))
    batches = rows.of(records, 0, _stack_evaluation)
    expected = sum(rows.scored(row) for row in range(len(source)))
    batch_bytes = rows.local * prepare(np.zeros((1, 1, 3), np.uint8)).nbytes
    return _counted(_iterate(batches, workers, batch_bytes), expected, source.name)


class _Decodable:
    """Random access to decoded records; one that can't be decoded is replaced by the next one that can."""

    def __init__(self, source: AnySource):
        self.source = source

    def __len__(self) -> int:
        return len(self.source)

    def __getitem__(self, index: int) -> _Row:
        undecodable: list[str] = []
        for i in range(index, index + _MAX_UNDECODABLE):
            try:
                record = self.source[i % len(self)]
                return _Row(record, decode(record.image, record.name), undecodable)
            except ImageError as error:
                undecodable.append(error.name)
                last = error
        raise ImageError(self.source.name, f"{_MAX_UNDECODABLE} images in a row can't be decoded; the last: {last}")


class _Padded:
    """The decoded records of `source` and then rows without an image up to `length`."""

    def __init__(self, source: WordSource, length: int, rows: Rows):
        self.source = source
        self.length = length
        self.rows = rows

    def __len__(self) -> int:
        return self.length

    def __getitem__(self, index: int) -> tuple[_Row, bool]:
        black = np.zeros((1, 1, 3), np.uint8)
        if index >= len(self.source):
            return _Row(WordCrop(black, "", ""), black, []), False
        scored = self.rows.scored(index)
        try:
            record = self.source[index]
        except ImageError as error:
            label = next(itertools.islice(self.source.labels(), index, None))
            return _Row(WordCrop(black, label, error.name), black, [error.name] * scored), scored
        try:
            return _Row(record, decode(record.image, record.name), []), scored
        except ImageError:
            return _Row(record, black, [record.name] * scored), scored


class _Prepared:
    """Rows as samples."""

    def __init__(self, prepare: Prepare):
        self.prepare = prepare

    def __call__(self, row: _Row, rng: np.random.Generator) -> _Sample:
        return _Sample(self.prepare(row.record, row.pixels, rng), row.record.name, row.undecodable)


class _PrepareEvaluation:
    """A row with the views [v, H, W, 3] of its crop."""

    def __init__(self, prepare: Callable[[np.ndarray], np.ndarray]):
        self.prepare = prepare

    def __call__(self, element: tuple[_Row, bool]) -> tuple[_Row, bool]:
        row, valid = element
        return row._replace(pixels=self.prepare(row.pixels)), valid


# The strings of a batch stay lists: as numpy arrays of fixed-width strings they could be cut on the way
# through shared memory.
def _stack_training(samples: Sequence[_Sample]) -> dict:
    arrays = {name: np.stack([sample.arrays[name] for sample in samples]) for name in samples[0].arrays}
    undecodable = [name for sample in samples for name in sample.undecodable]
    return {**arrays, "name": [sample.name for sample in samples], "undecodable": undecodable}


def _stack_evaluation(elements: Sequence[tuple[_Row, bool]]) -> dict:
    rows, valid = zip(*elements, strict=True)
    return {
        "image": np.stack([row.pixels for row in rows]),  # [b, v, H, W, 3]
        "text": [row.record.label for row in rows],
        "valid": np.array(valid),
        "name": [row.record.name for row in rows],
        "undecodable": [name for row in rows for name in row.undecodable],
    }


def _iterate(batches: grain.MapDataset, workers: int, batch_bytes: int) -> Generator[dict, None, None]:
    """The batches in order, prepared ahead of time by `workers` processes or one thread."""
    if not flags.FLAGS.is_parsed():  # grain reads its own flags, and in a notebook or a test nobody parses them
        flags.FLAGS.mark_as_parsed()
    if workers == 0:
        options = grain.ReadOptions(num_threads=1, prefetch_buffer_size=_BUFFERED_BATCHES)
        dataset = batches.to_iter_dataset(options)
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
    # Ctrl-C reaches the whole process group; the main process ends its workers, they need not also complain.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    # A worker has no use for an accelerator, whose memory it would take from the main process.
    os.environ["JAX_PLATFORMS"] = "cpu"
    if "jax" in sys.modules:
        sys.modules["jax"].config.update("jax_platforms", "cpu")
    cv2.setNumThreads(1)  # the workers share the cores already
    # A main process that is killed can't end its workers.
    threading.Thread(target=_follow_parent, daemon=True).start()


def _follow_parent() -> None:
    parent = multiprocessing.parent_process()
    assert parent is not None, "only workers follow"
    parent.join()
    os._exit(1)


def _check_shared_memory(workers: int, batch_bytes: int) -> None:
    """Warns where the batches of the workers may not fit; the system would kill a worker without a word."""
    if not os.path.isdir(_SHARED_MEMORY):
        return
    free = shutil.disk_usage(_SHARED_MEMORY).free
    needed = workers * (2 * _BUFFERED_BATCHES + 1) * batch_bytes
    if free < needed:
        logging.warning(
            f"{workers} workers can need {needed >> 20} MB of shared memory, but {_SHARED_MEMORY} has "
            f"{free >> 20} MB free; use fewer workers or smaller batches, or docker run --shm-size"
        )
