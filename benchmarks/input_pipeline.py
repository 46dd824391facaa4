"""Crops per second of the training input pipeline: LMDB -> decode -> augment -> 224 x 224 batches.

    python -m benchmarks.input_pipeline [--lmdb DIR] [--workers 0 1 2] [--device N] [--seconds 8]

Without --lmdb, a temporary LMDB of drawn words in the sizes of real crops is used (JPEG, height 32 .. 64,
width 32 .. 256). With 0 workers one thread prepares the batches. The milliseconds are processor time for an image, of
the training process and of its workers: other programs on the machine make images slower, but change them little. N
cores prepare at most N / their sum images in a millisecond, one training process at most 1 / its own.

With --device the batches go to a simulated device that takes N images per second and costs the host nothing, in the
order of the training loop, and the last column is the share of time in which it had no batch.
"""

import argparse
import io
import os
import tempfile
import time
from pathlib import Path
from typing import NamedTuple

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from benchmarks.processes import descendants, processor_seconds
from tcm_jax.data.pipeline import train_batches
from tcm_jax.data.words.augment import RandAugment
from tcm_jax.data.words.labels import LabelFilter
from tcm_jax.data.words.lmdb import write_lmdb
from tcm_jax.data.words.samples import RecognitionSample
from tcm_jax.data.words.sources import FilteredSource, open_word_crops
from tcm_jax.records import WordCrop
from tcm_jax.text.charset import CHARSET_94, CharsetTokenizer

IMAGE_SIZE = (224, 224)
BATCH_SIZE = 64


def drawn_words(count: int):
    """`count` records with a random word on a noisy background, as JPEG."""
    rng = np.random.default_rng(0)
    letters = list(CHARSET_94[:62])
    for i in range(count):
        label = "".join(rng.choice(letters, rng.integers(2, 13)))
        height = int(rng.integers(32, 65))
        width = int(np.clip(height * len(label) * 0.45, 32, 256))
        noise = rng.normal(rng.integers(60, 200), 12, (height, width, 3))
        image = Image.fromarray(noise.clip(0, 255).astype(np.uint8))
        colour = tuple(rng.integers(0, 256, 3).tolist())
        ImageDraw.Draw(image).text((2, 2), label, colour, ImageFont.load_default(height * 0.7))
        file = io.BytesIO()
        image.save(file, "JPEG", quality=int(rng.integers(75, 96)))
        yield WordCrop(file.getvalue(), label, f"drawn:{i}")


class Speed(NamedTuple):
    """Of batches; the milliseconds of processor time that the process and its workers spend on an image; the share of
    time in which the device had no batch.
    """

    images_per_second: float
    process: float
    workers: float
    idle: float

    def __str__(self) -> str:
        idle = f"{self.idle:7.2%}" if self.idle == self.idle else "      -"
        return f"{self.images_per_second:10.1f}  {self.process:10.3f}  {self.workers:10.3f}  {idle}"


COLUMNS = "  images/s  process ms  workers ms     idle"


def speed(source, sample, batch_size: int, workers: int, seconds: float, device: float = 0.0) -> Speed:
    """Of the batches that a training reads; `device`: images per second that a simulated device takes, 0 for none."""
    batches = train_batches([source], sample, batch_size=batch_size, seed=0, workers=workers)
    for _ in range(2 + 5 * workers):  # start of the workers, and the batches that they had buffered meanwhile
        next(batches)
    pids = [os.getpid(), *descendants(os.getpid())]
    start, before = time.perf_counter(), [processor_seconds(pid) for pid in pids]
    count, idle, free = 0, 0.0, start
    while (elapsed := time.perf_counter() - start) < seconds:
        count += len(next(batches)["image"])
        if device:
            now = time.perf_counter()
            idle += max(0.0, now - free)
            time.sleep(max(0.0, free - now))  # the loop inspects the previous step while this one is computed
            free = max(now, free) + batch_size / device
    process, *rest = (1e3 * (processor_seconds(pid) - b) / count for pid, b in zip(pids, before, strict=True))
    batches.close()
    return Speed(count / elapsed, process, sum(rest), idle / elapsed if device else float("nan"))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--lmdb", type=Path, help="word LMDB to read (default: a temporary one with drawn words)")
    parser.add_argument("--workers", type=int, nargs="+", default=[0, 1, 2], help="(default: 0 1 2)")
    parser.add_argument("--device", type=float, default=0.0, help="images per second that a simulated device takes")
    parser.add_argument("--seconds", type=float, default=8.0, help="time to measure each row (default: 8)")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        path = arguments.lmdb
        if path is None:
            path = Path(folder, "words")
            write_lmdb(drawn_words(4000), path)
        source = FilteredSource(open_word_crops(path), LabelFilter(CHARSET_94))
        print(f"{source.name}: {source.report}")
        print(f"workers  augmented  {COLUMNS}")
        for workers in arguments.workers:
            for augment in (None, RandAugment()):
                sample = RecognitionSample(CharsetTokenizer(CHARSET_94), IMAGE_SIZE, augment=augment)
                row = speed(source, sample, BATCH_SIZE, workers, arguments.seconds, arguments.device)
                print(f"{workers:7}  {'yes' if augment else 'no':>9}  {row}", flush=True)


if __name__ == "__main__":
    main()
