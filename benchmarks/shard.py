"""Records per second of the conversion to ArrayRecord shards, by number of processes.

    python -m benchmarks.shard [--words 200000] [--photos 5000] [--workers 1 2]

Words are drawn as in `benchmarks.input_pipeline` (1,000 different ones) and read from an LMDB; photos are noise of
640 x 480 pixels, as JPEG, with 8 text instances, read from a folder with labels.jsonl. The time of a row is that of the
whole conversion, with the start of the processes and the checksums; the processor time is what all processes used, so
that a row shows the cost of a record also while other programs use the cores. Files lie in $TMPDIR.
"""

import argparse
import io
import itertools
import os
import resource
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from tcm_jax.data.scenes.sources import open_annotated_images
from tcm_jax.data.scenes.write import write_annotated_folder
from tcm_jax.data.shard_workers import make_shards
from tcm_jax.data.shards import finish, plan_shards, read_manifest, start
from tcm_jax.data.words.lmdb import write_lmdb
from tcm_jax.data.words.sources import open_word_crops
from tcm_jax.records import AnnotatedImage, Source, TextRegion, WordCrop

_DIFFERENT = 1000
_TEXTS = 8
_SHARDS = 16


def repeated_words(count: int) -> Iterator[WordCrop]:
    """`count` drawn words, of which every `_DIFFERENT` are the same."""
    from benchmarks.input_pipeline import drawn_words  # not when the processes import this file

    return itertools.islice(itertools.cycle(list(drawn_words(_DIFFERENT))), count)


def noisy_images(count: int) -> Iterator[AnnotatedImage]:
    """`count` images, of which only the names differ."""
    noise = np.random.default_rng(0).normal(128, 20, (480, 640, 3)).clip(0, 255).astype(np.uint8)
    file = io.BytesIO()
    Image.fromarray(noise).save(file, "JPEG", quality=80)
    box = np.array([[10, 10], [90, 12], [90, 30], [10, 28]], np.float32)
    regions = tuple(TextRegion(box + 40 * i, f"word{i}") for i in range(_TEXTS))
    return (AnnotatedImage(file.getvalue(), regions, f"{i}.jpg") for i in range(count))


def convert(source: Source[Any], workers: int) -> tuple[float, float, float]:
    """Seconds of a conversion, seconds of processor time of its processes, and the size of its shards in MB."""
    with tempfile.TemporaryDirectory() as folder:
        begin, used = time.perf_counter(), _processor_seconds()
        plan = plan_shards(source, Path(folder, "shards"), _SHARDS)
        start(plan)
        finish(plan, make_shards(source, plan, workers, lambda done: None))
        return time.perf_counter() - begin, _processor_seconds() - used, read_manifest(plan)["bytes"] / 1e6


def _processor_seconds() -> float:
    """Of the processes that have ended."""
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return usage.ru_utime + usage.ru_stime


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--words", type=int, default=200000, help="(default: 200000)")
    parser.add_argument("--photos", type=int, default=5000, help="(default: 5000)")
    parser.add_argument("--workers", type=int, nargs="+", default=[1, 2], help="(default: 1 2)")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        write_lmdb(repeated_words(arguments.words), Path(folder, "words"))
        write_annotated_folder(noisy_images(arguments.photos), Path(folder, "photos"))
        sources: dict[str, Source[Any]] = {
            "words": open_word_crops(Path(folder, "words")),
            "photos": open_annotated_images(Path(folder, "photos")),
        }
        print(f"{os.cpu_count()} cores\nrecords  workers  records/s   MB/s  processor us/record")
        for (kind, source), workers in itertools.product(sources.items(), arguments.workers):
            seconds, used, size = convert(source, workers)
            speed, cost = len(source) / seconds, used / len(source) * 1e6
            print(f"{kind:7}  {workers:7}  {speed:9,.0f}  {size / seconds:5,.0f}  {cost:19,.0f}")


if __name__ == "__main__":
    main()
