"""Words per second of the synthetic renderer, and microseconds per image of the augmentation, on one core.

python -m benchmarks.synthetic_words
"""

import io
import time
from collections.abc import Callable

import cv2
import numpy as np
from PIL import Image

from tcm_jax.data.words.augment import OPERATIONS, RandAugment
from tcm_jax.render.words import SyntheticWords
from tcm_jax.text.charset import CHARSET_94

WARM_UP, RECORDS, CALLS = 300, 1500, 400


def microseconds(call: Callable[[int], object], count: int) -> float:
    """CPU time of one call."""
    start = time.process_time()
    for i in range(count):
        call(i)
    return (time.process_time() - start) / count * 1e6


def prepare(code: bytes, augment: RandAugment, rng: np.random.Generator) -> np.ndarray:
    """What training does to an encoded image on the host."""
    image = Image.fromarray(augment(np.asarray(Image.open(io.BytesIO(code)).convert("RGB")), rng))
    bicubic = Image.Resampling.BICUBIC
    return np.asarray(image.resize((224, image.height), bicubic).resize((224, 224), bicubic))


def main() -> None:
    cv2.setNumThreads(1)
    for difficulty in (0.0, 0.25, 0.5, 0.75, 1.0):
        words = SyntheticWords(CHARSET_94, difficulty=difficulty)
        for i in range(WARM_UP):
            words[i]
        cost = microseconds(lambda i, words=words: words[WARM_UP + i], RECORDS)
        print(f"synthetic words, difficulty {difficulty:4}: {cost:6.0f} us/word, {1e6 / cost:6.0f} words/s")

    rng = np.random.default_rng(0)
    augment = RandAugment()
    for h, w in ((32, 100), (48, 160), (64, 256)):
        image = rng.integers(0, 256, (h, w, 3), np.uint8)
        cost = microseconds(lambda i, image=image: augment(image, rng), 5 * CALLS)
        print(f"RandAugment {h}x{w}: {cost:6.0f} us/image")
        code = cv2.imencode(".jpg", image)[1].tobytes()
        cost = microseconds(lambda i, code=code: prepare(code, augment, rng), CALLS)
        print(f"JPEG, RandAugment, 224x224 {h}x{w}: {cost:6.0f} us/image, {1e6 / cost:6.0f} images/s")
    last = Image.fromarray(image)
    for name, operation in OPERATIONS.items():
        cost = microseconds(lambda i, operation=operation: operation(last, 0.5, rng), CALLS)
        print(f"  {name:14} {h}x{w}: {cost:6.0f} us")


if __name__ == "__main__":
    main()
