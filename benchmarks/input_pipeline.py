"""Word images per second of the training input pipeline: LMDB -> decode -> augment -> 224 x 224 batches.

    python -m benchmarks.input_pipeline [--lmdb DIR] [--seconds 8]

Without --lmdb, a temporary LMDB of drawn words in the sizes of real crops is used (JPEG, height 32 .. 64,
width 32 .. 256). With 0 workers one thread prepares the batches: that row is the speed of one core.
"""

import argparse
import io
import tempfile
import time
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from tcm_jax.data.augment import RandAugment
from tcm_jax.data.labels import LabelFilter
from tcm_jax.data.lmdb_source import write_lmdb
from tcm_jax.data.pipeline import train_batches
from tcm_jax.data.records import Record
from tcm_jax.data.samples import WordSample
from tcm_jax.data.sources import FilteredSource, open_source
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
        picture = Image.fromarray(noise.clip(0, 255).astype(np.uint8))
        colour = tuple(rng.integers(0, 256, 3).tolist())
        ImageDraw.Draw(picture).text((2, 2), label, colour, ImageFont.load_default(height * 0.7))
        file = io.BytesIO()
        picture.save(file, "JPEG", quality=int(rng.integers(75, 96)))
        yield Record(file.getvalue(), label, f"drawn:{i}")


def images_per_second(source, sample, batch_size: int, workers: int, seconds: float) -> float:
    """Of the batches that a training reads."""
    batches = train_batches([source], sample, batch_size=batch_size, seed=0, workers=workers)
    for _ in range(2 + 5 * workers):  # start of the workers, and the batches that they had buffered meanwhile
        next(batches)
    start = time.perf_counter()
    count = 0
    while (elapsed := time.perf_counter() - start) < seconds:
        count += len(next(batches)["image"])
    batches.close()
    return count / elapsed


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--lmdb", type=Path, help="word LMDB to read (default: a temporary one with drawn words)")
    parser.add_argument("--seconds", type=float, default=8.0, help="time to measure each row (default: 8)")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        path = arguments.lmdb
        if path is None:
            path = Path(folder, "words")
            write_lmdb(drawn_words(4000), path)
        source = FilteredSource(open_source(path), LabelFilter(CHARSET_94))
        print(f"{source.name}: {source.report}")
        print("workers  augmented  images/s")
        for workers in (0, 1, 2):
            for augment in (None, RandAugment(num_ops=3, magnitude=5)):
                sample = WordSample(CharsetTokenizer(CHARSET_94), IMAGE_SIZE, augment=augment)
                speed = images_per_second(source, sample, BATCH_SIZE, workers, arguments.seconds)
                print(f"{workers:7}  {'yes' if augment else 'no':>9}  {speed:8.0f}")


if __name__ == "__main__":
    main()
