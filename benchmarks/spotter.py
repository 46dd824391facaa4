"""Latency, throughput, start-up and memory of reading images.

    python -m benchmarks.spotter [--photos FOLDER] [--detector MODEL --recognizer MODEL] [--calls 1000]

Without images, a hundred scenes of 1280 x 720 pixels with about ten words each are rendered. Start-up is measured in
processes of their own, first with an empty folder of compiled programs, then again.
"""

import argparse
import itertools
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import jax.numpy as jnp
import numpy as np

from benchmarks.decode import matmul_rate
from benchmarks.processes import memory
from tcm_jax import Spotter
from tcm_jax.images.decoding import encode_png
from tcm_jax.images.inputs import image_files
from tcm_jax.render.scenes import SyntheticScenes

_START = """
import sys, time
begin = time.perf_counter()
from tcm_jax import Spotter
spotter = Spotter.load(*[name or None for name in sys.argv[2:]])
loaded = time.perf_counter()
spotter(sys.argv[1])
print(loaded - begin, time.perf_counter() - loaded)
"""


def rendered(folder: Path, number: int) -> list[Path]:
    scenes = SyntheticScenes(image_size=(720, 1280), words=(8, 12), split="test", size=number)
    for index in range(number):
        (folder / f"{index:03}.png").write_bytes(encode_png(scenes[index].image))
    return image_files(folder)


def starts(image: Path, models: list[str]) -> None:
    with tempfile.TemporaryDirectory() as cache:
        environment = os.environ | {"XDG_CACHE_HOME": cache}
        environment.pop("JAX_COMPILATION_CACHE_DIR", None)
        for name in ("cold", "again"):
            command = [sys.executable, "-c", _START, str(image), *models]
            done = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
            loaded, first = map(float, done.stdout.split())
            print(f"start {name}: {loaded:.1f} s until loaded, {first:.1f} s for the first image")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--photos", dest="images", type=Path, help="folder; default: rendered scenes")
    parser.add_argument("--detector", default="")
    parser.add_argument("--recognizer", default="")
    parser.add_argument("--calls", type=int, default=0, help="further calls, with the memory after each tenth of them")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        images = image_files(options.images) if options.images else rendered(Path(folder), 100)
        images = images[:100]
        starts(images[0], [options.detector, options.recognizer])
        spotter = Spotter.load(options.detector or None, options.recognizer or None)
        read = spotter(images)  # compiles all programs that they need
        words = np.array([len(image.words) for image in read])
        seconds = []
        for image in images:
            begin = time.perf_counter()
            spotter(image)
            seconds.append(time.perf_counter() - begin)
        begin = time.perf_counter()
        spotter(images)
        total = time.perf_counter() - begin
        middle, slow = np.percentile(seconds, [50, 95])
        print(f"{len(images)} images, {words.mean():.1f} words each")
        print(f"one by one: median {middle:.3f} s, 95 % within {slow:.3f} s")
        print(f"all at once: {total / len(images):.3f} s each")
        for call, image in enumerate(itertools.islice(itertools.cycle(images), options.calls), start=1):
            spotter(image)
            if call % max(1, options.calls // 10) == 0:
                print(f"after {call:,} calls: {memory(os.getpid()):,.0f} MB")
        print(f"memory: {memory(os.getpid()):,.0f} MB")
        print(f"machine: {matmul_rate(jnp.float32) / 1e9:.0f} GFLOP/s in products of large matrices")


if __name__ == "__main__":
    main()
