"""The package's recognizer beside Tesseract and PP-OCRv4 mobile, on the same crops of words.

    python -m benchmarks.peers DATA/icdar2015-train DATA/svt-train --hold-out 10

Needs the program tesseract (Debian's package tesseract-ocr) and, for PP-OCRv4, what no package of this project needs:

    pip install --no-deps rapidocr-onnxruntime onnxruntime tqdm pyyaml six

Letters and digits are compared, without case. Tesseract reads one word (--psm 8), enlarged to 64 pixels with a
border of 10, which improves its accuracy; its time includes the start of a process.
PP-OCRv4's recognizer is the one of RapidOCR's package, which reads Chinese and English.
"""

import argparse
import subprocess
import time
from collections.abc import Callable, Iterable

import cv2
import numpy as np

from tcm_jax import Recognizer
from tcm_jax.data.words.benchmarks import benchmark_sets
from tcm_jax.data.words.labels import LabelFilter
from tcm_jax.data.words.sources import FilteredSource
from tcm_jax.images.decoding import decode, encode_png
from tcm_jax.records import WordCrop
from tcm_jax.text.charset import CHARSET_36, CharsetAdapter

Read = Callable[[np.ndarray], str]


def ours() -> Read:
    recognizer = Recognizer()
    return lambda image: recognizer.read(image).text


def tesseract() -> Read:
    def read(image: np.ndarray) -> str:
        scale = max(1, 64 / len(image))
        image = cv2.resize(image, None, fx=scale, fy=scale, interpolation=cv2.INTER_CUBIC)
        image = cv2.copyMakeBorder(image, 10, 10, 10, 10, cv2.BORDER_REPLICATE)
        command = ["tesseract", "stdin", "stdout", "--psm", "8", "-l", "eng"]
        return subprocess.run(command, input=encode_png(image), capture_output=True, check=True).stdout.decode()

    return read


def paddle() -> Read:
    from rapidocr_onnxruntime import RapidOCR

    engine = RapidOCR()

    def read(image: np.ndarray) -> str:
        found, _ = engine(np.ascontiguousarray(image[..., ::-1]), use_det=False, use_cls=False, use_rec=True)
        return "".join(text for text, *_ in found or ())

    return read


READERS = {"tcm_jax": ours, "Tesseract": tesseract, "PP-OCRv4 mobile": paddle}


def compare(records: Iterable[WordCrop], readers: dict[str, Read]) -> dict[str, tuple[list[bool], list[float]]]:
    """For each reader which words are right, and the seconds that each took."""
    adapt = CharsetAdapter(CHARSET_36)
    results: dict[str, tuple[list[bool], list[float]]] = {name: ([], []) for name in readers}
    for record in records:
        image = decode(record.image)
        for name, read in readers.items():
            start = time.perf_counter()
            text = read(image)
            results[name][1].append(time.perf_counter() - start)
            results[name][0].append(adapt(text) == record.label)
    return results


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("paths", nargs="+", help="crops with labels, as of `tcm-jax evaluate`")
    parser.add_argument("--hold-out", type=int, default=0, metavar="K", help="every K-th record only")
    parser.add_argument("--readers", nargs="+", choices=READERS, default=list(READERS))
    options = parser.parse_args()
    readers = {name: READERS[name]() for name in options.readers}
    print(f"| set | words | {' | '.join(readers)} |\n|---|---:|{'---:|' * len(readers)}")
    seconds: dict[str, list[float]] = {name: [] for name in readers}
    for path in options.paths:
        for found in benchmark_sets(path):
            source = FilteredSource(found, LabelFilter(CHARSET_36, 25))
            if options.hold_out:
                source.hold_out(options.hold_out, held_out=True)
            results = compare((source[i] for i in range(len(source))), readers)
            cells = [f"{100 * np.mean(right):.1f} % ({sum(right)})" for right, _ in results.values()]
            print(f"| {source.name} | {len(source)} | {' | '.join(cells)} |", flush=True)
            for name, (_, taken) in results.items():
                seconds[name] += taken
    print(f"| median ms a word | | {' | '.join(f'{1000 * np.median(taken):.0f}' for taken in seconds.values())} |")


if __name__ == "__main__":
    main()
