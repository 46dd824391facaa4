"""A checkpoint is read on any mesh, by any number of devices and processes, with the same bits."""

import json
import os
import subprocess
import sys
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from tcm_jax import pretrained
from tcm_jax.training.checkpoint import Checkpoints
from tcm_jax.training.config import CheckpointConfig
from tcm_jax.training.fingerprint import leaves_by_path
from tcm_jax.training.state import TrainState
from tests.conftest import in_two_processes

ROOT = Path(__file__).parents[2]
MESHES = {"1": (1, 1, 1), "fsdp8": (1, 8, 1), "2x4": (2, 4, 1), "mixed": (2, 2, 2)}


def values(step: int = 0) -> TrainState:
    """Arrays of all dtypes; of numbers that float32 does not hold exactly."""
    rng = np.random.default_rng(step)
    params = {"kernel": rng.normal(size=(16, 8)).astype(np.float32), "half": rng.normal(size=16).astype(jnp.bfloat16)}
    others = {"count": np.int32(7), "key": rng.integers(0, 2**32, 2, np.uint32), "mask": rng.random(16) < 0.5}
    return TrainState(np.int32(step), params, {}, others, None)


def make_mesh(data: int, fsdp: int, tensor: int) -> Mesh:
    devices = np.asarray(jax.devices()[: data * fsdp * tensor]).reshape(data, fsdp, tensor)
    return Mesh(devices, ("data", "fsdp", "tensor"))


def sharding(x, mesh: Mesh) -> NamedSharding:
    """Rows over fsdp, columns over tensor."""
    spec = [axis for axis, size in zip(("fsdp", "tensor"), np.shape(x), strict=False) if size % mesh.shape[axis] == 0]
    return NamedSharding(mesh, PartitionSpec(*spec))


def shard(state: TrainState, mesh: Mesh) -> TrainState:
    def put(x):
        return jax.make_array_from_callback(np.shape(x), sharding(x, mesh), lambda index: np.asarray(x)[index])

    return jax.tree.map(put, state)


def save(directory: Path, mesh: Mesh, *steps: int) -> None:
    with Checkpoints(directory, CheckpointConfig()) as checkpoints:
        for step in steps:
            checkpoints.save(step, shard(values(step), mesh))


def restore(directory: Path, mesh: Mesh) -> TrainState | None:
    like = jax.tree.map(lambda x: jax.ShapeDtypeStruct(np.shape(x), x.dtype, sharding=sharding(x, mesh)), values())
    with Checkpoints(directory, CheckpointConfig()) as checkpoints:
        state = checkpoints.restore(like)
    assert jax.tree.all(jax.tree.map(lambda x, y: x.sharding == y.sharding, state, like))
    return state


def same_bits(state: TrainState, expected: TrainState) -> bool:
    """Whether the parts of `state` that are on this process's devices are those of `expected`."""
    wanted = leaves_by_path(expected)
    return all(
        np.asarray(part.data).tobytes() == np.asarray(wanted[path])[part.index].tobytes()
        for path, array in leaves_by_path(state).items()
        for part in array.addressable_shards
    )


_EIGHT_DEVICES = """
import json, sys
from pathlib import Path
import jax
from tests.training.test_checkpoint_sharded import *

folder = Path(sys.argv[1])
assert jax.device_count() == 8
for name in ("fsdp8", "mixed"):
    save(folder / name, make_mesh(*MESHES[name]), 3)
equal = {}
for saved in ("one", "fsdp8", "mixed"):
    for name, shape in MESHES.items():
        equal[f"{saved} -> {name}"] = same_bits(restore(folder / saved, make_mesh(*shape)), values(3))
print(json.dumps(equal))
"""


@pytest.mark.slow
def test_other_meshes_and_numbers_of_devices(tmp_path):
    one = make_mesh(1, 1, 1)
    save(tmp_path / "one", one, 3)
    flags = {"XLA_FLAGS": f"{os.environ['XLA_FLAGS']} --xla_force_host_platform_device_count=8", "JAX_PLATFORMS": "cpu"}
    command = [sys.executable, "-c", _EIGHT_DEVICES, str(tmp_path)]
    done = subprocess.run(command, cwd=ROOT, env=os.environ | flags, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    equal = json.loads(done.stdout.splitlines()[-1])
    assert len(equal) == 12, equal
    assert all(equal.values()), equal
    for name in ("fsdp8", "mixed"):
        assert same_bits(restore(tmp_path / name, one), values(3))
    about = json.loads((tmp_path / "mixed" / "3" / "about" / "metadata").read_text())
    assert about["mesh"] == {"data": 2, "fsdp": 2, "tensor": 2}


_TWO_PROCESSES = """
import json, sys
from pathlib import Path
import jax, numpy as np
import orbax.checkpoint as ocp
from tcm_jax.distributed import initialize
initialize()
from tests.training.test_checkpoint_sharded import *
from tcm_jax.training.checkpoint import CheckpointError, export_model
from tcm_jax.pretrained import Pretrained

folder, me = Path(%r), jax.process_index()
mesh = make_mesh(1, 2, 1)
earlier = same_bits(restore(folder / "one", mesh), values(3))
save(folder / "two", mesh, 1, 2)

read = ocp.StandardCheckpointHandler.restore
def fails(self, directory, *args, **kwargs):
    if me == 1 and directory.parent.name == "2":
        raise OSError("Input/output error")
    return read(self, directory, *args, **kwargs)
ocp.StandardCheckpointHandler.restore = fails
state = restore(folder / "two", mesh)
model = Pretrained("clip", {}, {"params": state.params}, {})
export_model(folder / "model", model)
try:
    export_model(folder / "one/3/about/metadata/model", model)  # process 0 can't write below a file
    raised = False
except CheckpointError:
    raised = True
print(json.dumps([earlier, int(state.step), same_bits(state, values(1)), raised]))
"""


@pytest.mark.slow
def test_two_processes(tmp_path):
    """They read what one has saved, agree on the checkpoint that both can read, and gather a model to write it."""
    one = make_mesh(1, 1, 1)
    save(tmp_path / "one", one, 3)
    assert in_two_processes(_TWO_PROCESSES % str(tmp_path)) == [[True, 1, True, True]] * 2
    assert sorted(path.name for path in (tmp_path / "two").iterdir()) == ["1", "damaged-2"]
    assert same_bits(restore(tmp_path / "two", one), values(1))
    gathered = pretrained.load(tmp_path / "model").variables["params"]
    assert all(gathered[name].tobytes() == array.tobytes() for name, array in values(1).params.items())
