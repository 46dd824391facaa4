"""Milliseconds of the host's work in text detection: training targets, and decoding of maps, one image in one thread.

    python -m benchmarks.detection_host [--repeats 15]

Rows are medians of process time. Layouts: 10 and 20 quadrilaterals and 10 arches of 14 points in an image of the
family's training size; a 736 x 1280 input with 40 instances, whose maps are drawn.
"""

import argparse
import time
from collections.abc import Callable
from functools import partial
from typing import Any

import cv2
import numpy as np

from tcm_jax.detection.db import DBNet
from tcm_jax.detection.fce import FCENet
from tcm_jax.detection.interface import TextDetector
from tcm_jax.detection.pan import PAN

TRAINING_SIDES = {"DB": 640, "PAN": 736, "FCE": 800}  # of the released models for ICDAR2015


def quadrilaterals(count: int, side: int, rng: np.random.Generator) -> list[np.ndarray]:
    """Rotated rectangles, 0.2 to 0.35 sides long, [4, 2] each."""
    polygons = []
    for _ in range(count):
        center, width = rng.uniform(0.2, 0.8, 2) * side, rng.uniform(0.2, 0.35) * side
        box = center.tolist(), (width, width * rng.uniform(0.2, 0.35)), rng.uniform(-30, 30)
        polygons.append(cv2.boxPoints(box))
    return polygons


def arches(count: int, side: int, rng: np.random.Generator) -> list[np.ndarray]:
    """Parts of rings, [14, 2] each."""
    polygons = []
    for _ in range(count):
        center, radius = rng.uniform(0.3, 0.7, 2) * side, rng.uniform(0.15, 0.25) * side
        angles = np.linspace(0, rng.uniform(1.5, 3), 7) + rng.uniform(0, 2 * np.pi)
        outer = np.stack([np.cos(angles), np.sin(angles)], axis=1) * radius
        polygons.append((center + np.concatenate([outer, outer[::-1] * 0.7])).astype(np.float32))
    return polygons


def layouts(side: int) -> dict[str, list[np.ndarray]]:
    rng = np.random.default_rng(0)
    return {
        "10 quads": quadrilaterals(10, side, rng),
        "20 quads": quadrilaterals(20, side, rng),
        "10 curved": arches(10, side, rng),
    }


def probability_map(height: int, width: int) -> np.ndarray:
    """40 blurred text lines in a grid of 8 rows, float32 [h, w]."""
    rng = np.random.default_rng(0)
    drawn = np.zeros((height, width), np.float32)
    cell = width / 5, height / 8
    for i in range(40):
        center = (i % 5 + 0.5) * cell[0], (i // 5 + 0.5) * cell[1]
        box = center, (cell[0] * 0.75, cell[1] * rng.uniform(0.2, 0.35)), rng.uniform(-8, 8)
        cv2.fillPoly(drawn, [cv2.boxPoints(box).astype(np.int32)], rng.uniform(0.7, 1))
    return cv2.GaussianBlur(drawn, (0, 0), 2)


def pan_maps(probabilities: np.ndarray) -> np.ndarray:
    """Logits of text and kernels, and an embedding that is near to its kernel's everywhere, [h / 4, w / 4, 6]."""
    text = cv2.resize(probabilities, None, fx=0.25, fy=0.25, interpolation=cv2.INTER_AREA)
    kernel = cv2.erode(text, np.ones((3, 3), np.uint8))
    noise = np.random.default_rng(0).normal(0, 0.1, (*text.shape, 4))
    return np.concatenate([20 * np.stack([text, kernel], axis=-1) - 8, noise], axis=-1).astype(np.float32)


def fce_maps(height: int, width: int, fce: FCENet) -> list[tuple[np.ndarray, np.ndarray]]:
    """Scores and Fourier coefficients of every level, as the targets have them, of 40 rectangles in a grid."""
    cell = width / 5, height / 8
    boxes = [
        cv2.boxPoints((((i % 5 + 0.5) * cell[0], (i // 5 + 0.5) * cell[1]), (cell[0] * 0.75, cell[1] * 0.3), 0))
        for i in range(40)
    ]
    levels = list(fce.targets(boxes, [], (height, width)).values())[: len(fce.strides)]
    noise = np.random.default_rng(0)
    maps = []
    for level in levels:
        scores = level[..., 1] * noise.uniform(0.5, 0.9, level.shape[:2])
        coefficients = level[..., 3:] + noise.normal(0, 0.05, level[..., 3:].shape)
        maps.append((scores.astype(np.float32), coefficients.astype(np.float32)))
    return maps


def milliseconds(work: Callable[[], object], repeats: int) -> float:
    work()
    times = []
    for _ in range(repeats):
        start = time.process_time()
        work()
        times.append(time.process_time() - start)
    return 1e3 * float(np.median(times))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=15, help="runs of which the median is shown (default: 15)")
    repeats = parser.parse_args().repeats
    cv2.setNumThreads(1)
    db, pan, fce = DBNet(), PAN(), FCENet()

    names = list(layouts(1))
    print("targets, ms".ljust(24) + "".join(name.rjust(12) for name in names))
    families: dict[str, TextDetector] = {"DB": db, "PAN": pan, "FCE": fce}
    for family, detector in families.items():
        side = TRAINING_SIDES[family]
        times = [milliseconds(partial(detector.targets, p, [], (side, side)), repeats) for p in layouts(side).values()]
        print(f"{family} {side} x {side}".ljust(24) + "".join(f"{t:12.2f}" for t in times))

    probabilities = probability_map(736, 1280)
    decoders: dict[str, tuple[TextDetector, Any]] = {
        "DB quad, coarse outlines": (DBNet(mask_threshold=0.3, unclip_ratio=1.5, arc_length_ratio=0.01), probabilities),
        "DB quad, fine outlines": (db, probabilities),
        "DB quad, raw outlines": (DBNet(mask_threshold=0.3, approximate=False), probabilities),
        "DB poly": (DBNet(mask_threshold=0.347, arc_length_ratio=0.004, text_representation="poly"), probabilities),
        "PAN quad": (pan, pan_maps(probabilities)),
        "PAN poly": (PAN(text_representation="poly"), pan_maps(probabilities)),
        "FCE poly": (fce, fce_maps(736, 1280, fce)),
    }
    print("\n" + "decoding 736 x 1280".ljust(28) + "instances".rjust(12) + "ms".rjust(8))
    for name, (detector, maps) in decoders.items():
        count = len(detector.decode(maps))
        print(name.ljust(28) + f"{count:12d}{milliseconds(partial(detector.decode, maps), repeats):8.2f}")


if __name__ == "__main__":
    main()
