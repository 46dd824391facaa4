"""Training samples per second of text detection: 1280 x 720 JPEG images -> decode -> view -> targets -> batches.

    python -m benchmarks.scene_pipeline [--photos PATH] [--families DB PAN FCE] [--workers 0 1 2] [--device N]

Without --photos (a data set that `data check` reads), rendered scenes of up to 16 words are stored as JPEG with quality
90. The stages are milliseconds of process time per sample in one thread, and what they make per second of a core; then
follow the columns of `benchmarks.input_pipeline`, of the batches that a training reads from one thread (0) and from
processes.
"""

import argparse
import io
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from PIL import Image

from benchmarks.detection_host import TRAINING_SIDES
from benchmarks.input_pipeline import COLUMNS, speed
from tcm_jax.data.scenes.augment import DetectionAugment
from tcm_jax.data.scenes.samples import DetectionSample
from tcm_jax.data.scenes.sources import open_annotated_images
from tcm_jax.detection.db import DBNet
from tcm_jax.detection.fce import FCENet
from tcm_jax.detection.interface import TextDetector
from tcm_jax.detection.pan import PAN
from tcm_jax.images.decoding import decode
from tcm_jax.records import AnnotatedImage, AnnotatedImageSource, TextRegion
from tcm_jax.render.scenes import SyntheticScenes

BATCH_SIZE = 8
FAMILIES: dict[str, TextDetector] = {"DB": DBNet(), "PAN": PAN(), "FCE": FCENet()}


@dataclass
class MemoryImages:
    """Annotated images in memory."""

    images: Sequence[AnnotatedImage]
    name: str = "rendered images"

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, index: int) -> AnnotatedImage:
        return self.images[index]

    def regions(self, index: int) -> tuple[TextRegion, ...]:
        return self.images[index].regions

    def image_name(self, index: int) -> str:
        return self.images[index].name


def rendered_images(count: int) -> MemoryImages:
    rendered, images = SyntheticScenes(size=count, image_size=(720, 1280)), []
    for image in map(rendered.__getitem__, range(count)):
        file = io.BytesIO()
        Image.fromarray(decode(image.image)).save(file, "JPEG", quality=90)
        images.append(AnnotatedImage(file.getvalue(), image.regions, image.name))
    return MemoryImages(images)


def stages(source: AnnotatedImageSource, sample: DetectionSample, seconds: float) -> list[float]:
    """Milliseconds of a sample's decoding, view and targets."""
    rng = np.random.default_rng(0)
    totals, count = np.zeros(3), 0
    while totals.sum() < seconds:
        image = source[count % len(source)]
        times = [time.process_time()]
        pixels = decode(image.image, image.name)
        times.append(time.process_time())
        view, polygons, ignored = sample.augment(pixels, image.regions, rng)
        times.append(time.process_time())
        sample.targets(polygons, ignored, view.shape[:2])
        times.append(time.process_time())
        totals += np.diff(times)
        count += 1
    return (1e3 * totals / count).tolist()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--photos",
        dest="images",
        metavar="PATH",
        type=Path,
        help="data set to read (default: rendered images)",
    )
    parser.add_argument("--families", nargs="+", choices=FAMILIES, default=[*FAMILIES], help="(default: all)")
    parser.add_argument("--workers", type=int, nargs="+", default=[0, 1, 2], help="(default: 0 1 2)")
    parser.add_argument("--device", type=float, default=0.0, help="images per second that a simulated device takes")
    parser.add_argument("--seconds", type=float, default=8.0, help="time to measure each number (default: 8)")
    arguments = parser.parse_args()
    cv2.setNumThreads(1)
    source = open_annotated_images(arguments.images) if arguments.images else rendered_images(64)
    texts = np.mean([len(source.regions(i)) for i in range(len(source))])
    print(f"{source.name}: {len(source):,} with {texts:.1f} texts each")
    heads = ["decode ms", "view ms", "targets ms", "a core/s", "workers"]
    print("family, view".ljust(18) + "".join(head.rjust(12) for head in heads) + f"  {COLUMNS}")
    for family in arguments.families:
        side = TRAINING_SIDES[family]
        sample = DetectionSample(FAMILIES[family].targets, DetectionAugment(crop=side))
        numbers = stages(source, sample, arguments.seconds)
        print(f"{family} {side} x {side}".ljust(18) + "".join(f"{t:12.2f}" for t in (*numbers, 1e3 / sum(numbers))))
        for workers in arguments.workers:
            row = speed(source, sample, BATCH_SIZE, workers, arguments.seconds, arguments.device)
            print(" " * (18 + 4 * 12) + f"{workers:12}  {row}", flush=True)


if __name__ == "__main__":
    main()
