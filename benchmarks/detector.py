"""Speed of a full-size text detector with random weights: forward passes, a training step, and what FastTCM saves.

    python -m benchmarks.detector                                   # TCM-DB at 640x640, batch 1 and 4, and 736x1280
    python -m benchmarks.detector --config configs/tcm_pan.py:ic15

A forward pass gives what the host decodes (of DB the probability map alone). The training step is that of the recipe:
loss, gradient and update with the text encoder frozen. Every figure is the best of a few repetitions; detectors that
are compared take turns.
"""

import argparse
import dataclasses
import runpy
import time

import jax
import jax.numpy as jnp
import numpy as np

from benchmarks.decode import best_of
from benchmarks.detection_host import quadrilaterals
from tcm_jax import pretrained
from tcm_jax.detection.model import DetectionConfig, DetectionModel, detection_config
from tcm_jax.models.layers import compute_dtype
from tcm_jax.tasks import parse
from tcm_jax.training.state import init_state, make_step
from tcm_jax.training.task import Task

SHAPES = ((1, 640, 640), (4, 640, 640), (1, 736, 1280))


class Program:
    """A compiled forward pass with its inputs."""

    def __init__(self, config: DetectionConfig, variables, dtype, shape: tuple[int, int, int]):
        task = DetectionModel(config, dtype=dtype)
        batch, h, w = shape
        rng = np.random.default_rng(0)
        images = jnp.asarray(rng.integers(0, 256, (batch, h, w, 3)), jnp.uint8)
        size = jnp.full((batch, 2), jnp.array([h, w]), jnp.int32)
        arguments = variables, images, size, task.text_embedding(variables)
        compiled = jax.jit(task.predict).lower(*arguments).compile()
        self.run = lambda: jax.block_until_ready(compiled(*arguments))
        self.memory = compiled.memory_analysis()
        self.seconds: list[float] = []

    def time(self) -> None:
        start = time.perf_counter()
        self.run()
        self.seconds.append(time.perf_counter() - start)


def forward(config: DetectionConfig, variables, dtype, repetitions: int) -> None:
    """A row for every shape: the detector as configured, and FastTCM with its text computed before."""
    fast = dataclasses.replace(config, tcm=dataclasses.replace(config.tcm, fast=True))
    fast_variables = jax.jit(DetectionModel(fast).init)(jax.random.key(0))
    print("| batch x h x w | s | s / image | temporary memory, MB | FastTCM s | saved |")
    print("|---|---:|---:|---:|---:|---:|")
    for shape in SHAPES:
        usual, quick = Program(config, variables, dtype, shape), Program(fast, fast_variables, dtype, shape)
        for program in (usual, quick) * (1 + repetitions):
            program.time()
        seconds, quicker = min(usual.seconds), min(quick.seconds)
        memory = usual.memory.temp_size_in_bytes / 1e6 if usual.memory else float("nan")
        print(
            f"| {shape[0]} x {shape[1]} x {shape[2]} | {seconds:.3f} | {seconds / shape[0]:.3f} | {memory:.0f} "
            f"| {quicker:.3f} | {1 - quicker / seconds:.1%} |"
        )


def training(task: Task, variables, side: int, batch: int, repetitions: int) -> None:
    """A training step on `batch` images of `side` pixels with 12 words each."""
    optimizer = task.optimizer(variables["params"], records=1000)
    rng = np.random.default_rng(0)
    detector = task.config.model.detector
    targets = [detector.targets(quadrilaterals(12, side, rng), [], (side, side)) for _ in range(batch)]
    data = {name: jnp.asarray(np.stack([t[name] for t in targets])) for name in targets[0]}
    data["image"] = jnp.asarray(rng.integers(0, 256, (batch, side, side, 3)), jnp.uint8)
    state, step = init_state(variables, optimizer), jax.jit(make_step(task, optimizer, seed=0))
    seconds = best_of(repetitions, lambda: step(state, data))
    count = sum(x.size for x in pretrained.flatten(optimizer.split(variables["params"])[0]).values())
    print(f"training step of {batch} x {side} x {side}: {seconds:.2f} s, {count:,} parameters learn")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--config", default="configs/tcm_db.py:ic15", metavar="FILE:VARIANT")
    parser.add_argument("--train-batch", type=int, default=2, help="0 leaves the training step out")
    parser.add_argument("--train-side", type=int, default=640)
    parser.add_argument("--repetitions", type=int, default=5)
    parser.add_argument("--dtype", default="auto")
    options = parser.parse_args()
    file, _, variant = options.config.partition(":")
    values = runpy.run_path(file)["get_config"](*filter(None, [variant])).to_dict()
    config, dtype = detection_config(values["model"]), compute_dtype(options.dtype)
    variables = jax.jit(DetectionModel(config).init)(jax.random.key(0))
    count = sum(x.size for x in jax.tree.leaves(variables["params"]))
    print(f"{options.config}: {count:,} parameters, {dtype.__name__}, {jax.devices()[0].device_kind}")
    forward(config, variables, dtype, options.repetitions)
    if options.train_batch:
        task = parse({**values, "init": "", "dtype": options.dtype})
        training(task, variables, options.train_side, options.train_batch, options.repetitions)


if __name__ == "__main__":
    main()
