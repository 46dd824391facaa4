"""Speed of a full-size CLIP4STR with random weights: decoding and a training step, beside what the machine can do.

    python -m benchmarks.decode                       # B/16: decoding at batch 1, 8, 32 and a training step of 16
    python -m benchmarks.decode --config configs/clip4str_large.py --batches 8

The end of a word is suppressed, so that both branches run all 26 steps, the worst case. Every figure is the best of a
few repetitions; the matmul rate is measured between them, so that both are from the same state of the machine. The
floating-point work is what the compiler counts for the image encoder, and for the complete training step.
"""

import argparse
import runpy
import time
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np

from tcm_jax.images.decoding import CLIP_MEAN, CLIP_STD
from tcm_jax.models.clip4str import CLIP4STR
from tcm_jax.models.layers import Dtype
from tcm_jax.recognition.model import RecognitionModel
from tcm_jax.recognition.optimizer import make_optimizer
from tcm_jax.tasks import parse
from tcm_jax.training.state import init_state, make_step

SIDE = 2048  # of the square matrices whose product measures the machine


def best_of(repetitions: int, function: Callable[[], object]) -> float:
    """Seconds of the fastest call; the first call, which compiles, does not count."""
    jax.block_until_ready(function())
    seconds = []
    for _ in range(repetitions):
        start = time.perf_counter()
        jax.block_until_ready(function())
        seconds.append(time.perf_counter() - start)
    return min(seconds)


def matmul_rate(dtype: Dtype) -> float:
    """Floating-point operations per second of a large matrix product."""
    a = jnp.ones((SIDE, SIDE), dtype)
    product = jax.jit(lambda a: a @ a)
    return 2 * SIDE**3 / best_of(10, lambda: product(a))


def work(function: Callable, *arguments) -> float:
    """Floating-point operations of a jitted function, as the compiler counts them."""
    return jax.jit(function).lower(*arguments).cost_analysis()["flops"]


def decoding(task: RecognitionModel, variables, batches: list[int], repetitions: int) -> None:
    """Prints one line per batch size."""
    for branch in ("visual_decoder", "cross_decoder"):
        head = variables["params"][branch]["head"]
        head["bias"] = head["bias"].at[task.tokenizer.eos_id].set(-50.0)
    encode = jax.jit(lambda v, x: task.model.apply(v, task.normalize(x), method=CLIP4STR.encode_image))
    read = jax.jit(task.predict)
    size = task.config.clip.image_size
    print("| batch | images/s | encoder s | decode s | decode / encoder | encoder GFLOP | encoder / matmul rate |")
    print("|---:|---:|---:|---:|---:|---:|---:|")
    for batch in batches:
        images = jnp.asarray(np.random.default_rng(0).integers(0, 256, (batch, *size, 3)), jnp.uint8)
        rate = matmul_rate(task.model.dtype)
        encoder = best_of(repetitions, lambda images=images: encode(variables, images))
        total = best_of(repetitions, lambda images=images: read(variables, images))
        rate = max(rate, matmul_rate(task.model.dtype))
        flops = work(encode, variables, images)
        print(
            f"| {batch} | {batch / total:.2f} | {encoder:.3f} | {total:.3f} | {total / encoder:.2f} "
            f"| {flops / 1e9:.1f} | {flops / encoder / rate:.0%} of {rate / 1e9:.0f} GFLOP/s |"
        )


def training(config, task: RecognitionModel, variables, batch: int, repetitions: int) -> None:
    """Prints the speed of one optimizer step on labels of 10 characters."""
    rng = np.random.default_rng(0)
    characters = list(task.config.charset)
    labels = ["".join(rng.choice(characters, 10)) for _ in range(batch)]
    size = task.config.clip.image_size
    data = {
        "image": jnp.asarray(rng.integers(0, 256, (batch, *size, 3)), jnp.uint8),
        "label": jnp.asarray(task.tokenizer.encode(labels, task.config.max_label_length)),
    }

    optimizer = make_optimizer(config.optim, jax.eval_shape(lambda: variables["params"]), config.batch, 1000)
    state = init_state(variables, optimizer)
    step = jax.jit(make_step(task, optimizer, seed=0))
    flops = work(step, state, data)
    seconds = best_of(repetitions, lambda: step(state, data))
    print(
        f"training step of {batch}: {seconds:.2f} s, {batch / seconds:.2f} images/s, {flops / 1e9:.0f} GFLOP, "
        f"{flops / seconds / matmul_rate(task.model.dtype):.0%} of the matmul rate"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--config", default="configs/clip4str_base.py")
    parser.add_argument("--batches", type=int, nargs="*", default=[1, 8, 32])
    parser.add_argument("--train-batch", type=int, default=16, help="0 leaves the training step out")
    parser.add_argument("--repetitions", type=int, default=5)
    parser.add_argument("--dtype", default="auto")
    options = parser.parse_args()
    values = runpy.run_path(options.config)["get_config"]("real").to_dict() | {"init": "", "dtype": options.dtype}
    config = parse(values).config
    task = RecognitionModel(config.model, CLIP_MEAN, CLIP_STD, config.compute_dtype)
    variables = jax.jit(task.init)(jax.random.key(0))
    count = sum(x.size for x in jax.tree.leaves(variables))
    device = jax.devices()[0]
    print(f"{options.config}: {count:,} parameters, {config.compute_dtype.__name__}, {device.device_kind}")
    decoding(task, variables, options.batches, options.repetitions)
    if options.train_batch:
        training(config, task, variables, options.train_batch, options.repetitions)


if __name__ == "__main__":
    main()
