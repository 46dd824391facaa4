"""Loss curves over meshes of simulated devices; a program for a process of its own.

    XLA_FLAGS=--xla_force_host_platform_device_count=8 NPROC=32 python -m tests.training.meshes RECIPE [MESH ...]

The last line that it prints is, in JSON, {"MESH": {"loss": [...], "grad_norm": [...], "records": [...], "held": ...}};
"held" is the part of the state that lies on one device.
"""

import itertools
import json
import runpy
import sys
from pathlib import Path
from typing import Any

import jax
import numpy as np

from tcm_jax.data.pipeline import train_batches
from tcm_jax.tasks import parse
from tcm_jax.training.loop import prefetch_to_device
from tcm_jax.training.mesh import make_mesh, shard_batch
from tcm_jax.training.program import sharded_init, train_program

ROOT = Path(__file__).parents[2]
STEPS = 4
MESHES: dict[str, dict[str, Any]] = {
    "one device": {"mesh": {"data": 1}},
    "data 8": {"mesh": {"data": 8}},
    "fsdp 8, everything recomputed": {"mesh": {"data": 1, "fsdp": 8}, "remat": "full"},
    "data 4, tensor 2": {"mesh": {"data": 4, "tensor": 2}, "remat": "dots"},
    "data 2, fsdp 2, tensor 2": {"mesh": {"data": 2, "fsdp": 2, "tensor": 2}},
}


def recipe(name: str) -> dict[str, Any]:
    """A recipe in its `tiny` form, with a learning rate that changes much in a few steps."""
    config = runpy.run_path(str(ROOT / "configs" / f"{name}.py"))["get_config"]("tiny").to_dict()
    config["batch"] = 8
    config["optim"]["lr"] = 1e-3
    if config["task"] == "recognition":
        config["optim"] |= {"lr_batch": 8, "warmup_fraction": 0.0, "text_freeze_layers": 0}
        config["model"]["clip"] |= {"vision_layers": 1, "text_layers": 1}
    return config


def curve(config: dict[str, Any]) -> dict[str, Any]:
    """Metrics of the first steps."""
    task = parse(config)
    devices = jax.devices()[:1] if config["mesh"] == {"data": 1} else jax.devices()
    mesh = make_mesh(task.config.mesh, devices)
    with jax.set_mesh(mesh):
        program = train_program(task, mesh, records=100)
        step = program.lower().compile({"xla_backend_optimization_level": 0})
        state = program.first_state(sharded_init(task, mesh)(jax.random.key(0)))
        batches = train_batches(task.training_sources(), task.sample(), batch_size=8, seed=2)
        stop = shard_batch({"stop": np.zeros(8, np.int32)}, mesh)
        found: dict[str, list[float]] = {"loss": [], "grad_norm": [], "records": []}
        for batch in itertools.islice(prefetch_to_device(batches, mesh), STEPS):
            state, metrics = step(state, batch.arrays | stop)
            for name, values in found.items():
                values.append(float(metrics[name]))
        batches.close()
    leaves = jax.tree.leaves(state)
    held = sum(leaf.addressable_shards[0].data.nbytes for leaf in leaves) / sum(leaf.nbytes for leaf in leaves)
    return found | {"held": held}


if __name__ == "__main__":
    config = recipe(sys.argv[1])
    names = sys.argv[2:] or list(MESHES)
    print(json.dumps({name: curve(config | MESHES[name]) for name in names}))
