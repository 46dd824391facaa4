"""Memory of a long training: a tiny recognizer for 10,000 steps, with validations and checkpoints in between.

    python -m benchmarks.soak [--steps 10000] [--workers 1] [--limit 1]

Trains as a user does, in a process of its own, on JPEG crops in ArrayRecord shards, with augmentation. Every few
seconds it measures the memory of the training process and of its workers: `benchmarks.processes.memory`, in which
pages that processes share count once. So that this is memory in use, the C library is set to have two heaps, not one
for each of a hundred threads, and to return free memory every second: by itself it keeps hundreds of MB after a
compilation, and returns them at unpredictable times.

The slope is the median of those of all pairs of samples (Theil-Sen), as the copies that a checkpoint makes come and go,
and the workers of a validation; the first fifth of the steps is left out. Exit status 1 above --limit. What is known to
grow: tensorstore 0.1.86 keeps about 1 kB for every array of every checkpoint.
"""

import argparse
import itertools
import json
import os
import runpy
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.input_pipeline import drawn_words
from benchmarks.processes import descendants, memory
from tcm_jax.data.array_record import shard_name
from tcm_jax.data.words.array_record import write_array_record

ROOT = Path(__file__).parents[1]
WORDS, SHARDS = 4000, 4
INTERVAL = 2.0  # seconds between samples
WARM_UP = 0.2  # share of the steps
ROWS = 20
TRAIN = """
import ctypes, threading, time
from tcm_jax.commands.train import main

def trim():
    while True:
        ctypes.CDLL(None).malloc_trim(0)
        time.sleep(1)

threading.Thread(target=trim, daemon=True).start()
main()
"""


@dataclass(frozen=True)
class Sample:
    """Steps done, and the memory of the training process and its workers then; sizes in MB."""

    step: int
    main: float
    workers: float
    processes: int
    threads: int
    files: int


def small_config(words: Path, steps: int, workers: int) -> dict[str, Any]:
    """The recipe of CLIP4STR-B with a model whose step takes milliseconds."""
    config = runpy.run_path(str(ROOT / "configs" / "clip4str_base.py"))["get_config"]("tiny").to_dict()
    config["model"]["clip"] |= {"image_size": (32, 32), "vision_layers": 1, "text_layers": 1}
    config["model"] |= {"max_label_length": 12, "perm_num": 2}
    config["data"] |= {"train": [{"path": str(words), "hold_out": 40}], "workers": workers}
    config["eval"] |= {"every": steps // 10, "sources": [{"path": str(words), "hold_out": 40}]}
    config["checkpoint"]["every"] = steps // 10
    return config | {"steps": steps, "log_every": 20}


def samples_of_training(folder: Path, steps: int, workers: int) -> Iterator[Sample]:
    """Samples of a training in `folder`, while it runs."""
    words, config, workdir = folder / "words", folder / "config.py", folder / "run"
    records = drawn_words(WORDS)
    for number in range(SHARDS):
        part = itertools.islice(records, WORDS // SHARDS)
        write_array_record(part, words / shard_name("words", number, SHARDS))
    values = small_config(words, steps, workers)
    config.write_text(
        f"from ml_collections import ConfigDict\n\n\ndef get_config():\n    return ConfigDict({values!r})\n"
    )
    command = [sys.executable, "-c", TRAIN, f"--config={config}", f"--workdir={workdir}"]
    with open(folder / "log", "w") as log:
        environment = {**os.environ, "MALLOC_ARENA_MAX": "2"}
        process = subprocess.Popen(command, cwd=ROOT, env=environment, stdout=log, stderr=subprocess.STDOUT)
    try:
        while process.poll() is None:
            time.sleep(INTERVAL)
            step = steps_done(workdir / "metrics.jsonl")
            if step and (sample := measure(process.pid, step)):
                yield sample
    finally:
        process.kill()
        process.wait()
    if process.returncode:
        sys.exit((folder / "log").read_text() + f"the training ended with status {process.returncode}")


def steps_done(metrics: Path) -> int:
    """The step of the last line."""
    lines = metrics.read_text().splitlines() if metrics.exists() else []
    return json.loads(lines[-1])["step"] if lines else 0


def measure(pid: int, step: int) -> Sample | None:
    """A sample of process `pid` and all below it; None if one has just ended."""
    try:
        pids = [pid, *descendants(pid)]
        sizes = [memory(p) for p in pids]
        threads, files = (sum(len(list(Path(f"/proc/{p}/{d}").iterdir())) for p in pids) for d in ("task", "fd"))
    except (FileNotFoundError, ProcessLookupError):
        return None
    return Sample(step, sizes[0], sum(sizes[1:]), len(pids), threads, files)


def slope(steps: np.ndarray, sizes: np.ndarray) -> float:
    """The Theil-Sen slope per 1,000 steps."""
    first, second = np.triu_indices(len(steps), 1)
    apart = steps[second] - steps[first]
    return float(np.median((sizes[second] - sizes[first])[apart > 0] / apart[apart > 0] * 1000))


def main() -> int:
    """The command line; returns the exit status."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=10000, help="(default: 10000)")
    parser.add_argument("--workers", type=int, default=1, help="data.workers (default: 1)")
    parser.add_argument("--limit", type=float, default=1.0, help="MB per 1,000 steps (default: 1)")
    arguments = parser.parse_args()
    samples: list[Sample] = []
    print(" step  main MB  workers MB  processes  threads  open files", flush=True)
    with tempfile.TemporaryDirectory() as folder:
        shown = 0
        for s in samples_of_training(Path(folder), arguments.steps, arguments.workers):
            samples.append(s)
            if s.step >= shown:
                shown += arguments.steps // ROWS
                print(
                    f"{s.step:5}  {s.main:7.1f}  {s.workers:10.1f}  {s.processes:9}  {s.threads:7}  {s.files:10}",
                    flush=True,
                )
    warm = [s for s in samples if s.step >= WARM_UP * arguments.steps]
    steps = np.array([s.step for s in warm])
    slopes = [slope(steps, np.array(sizes)) for sizes in ([s.main for s in warm], [s.workers for s in warm])]
    print(
        f"from step {steps[0]:,} on, {len(warm)} samples: main {slopes[0]:+.2f}, workers {slopes[1]:+.2f} MB per "
        f"1,000 steps (limit {arguments.limit:g})"
    )
    return int(max(slopes) > arguments.limit)


if __name__ == "__main__":
    sys.exit(main())
