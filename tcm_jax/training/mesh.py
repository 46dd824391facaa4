"""The mesh of a run's devices, and how batches are sharded over it."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import astuple, dataclass
from typing import Any

import jax
import numpy as np
from jax.experimental import mesh_utils
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec

from tcm_jax.distributed.share import Share
from tcm_jax.models.layers import BATCH_AXES

AXES = (*BATCH_AXES, "tensor")


@dataclass(frozen=True)
class MeshConfig:
    """Sizes of the mesh; at most one is -1, which stands for the devices that are left.

    Args:
        data: replicas of the model. Neighbouring devices differ in the last axes, so that what these exchange takes the
            shortest way.
        fsdp: shards of parameters, gradients and optimizer state; each also has rows of the batch.
        tensor: shards of attention heads and hidden units; these share the rows of a batch.
    """

    data: int = -1
    fsdp: int = 1
    tensor: int = 1

    def __post_init__(self) -> None:
        sizes = astuple(self)
        if sizes.count(-1) > 1 or any(size < 1 and size != -1 for size in sizes):
            raise ValueError(f"{self}; expected positive numbers, at most one of them -1")

    def __str__(self) -> str:
        return f"config.mesh is {', '.join(f'{axis} {getattr(self, axis)}' for axis in AXES)}"

    def shape(self, devices: int) -> tuple[int, int, int]:
        """The sizes on that number of devices.

        Raises:
            ValueError: their product is not the number of devices.
        """
        sizes = astuple(self)
        known = math.prod(size for size in sizes if size != -1)
        if devices % known or (-1 not in sizes and known != devices):
            raise ValueError(f"{self}; it does not fit {devices} devices")
        data, fsdp, tensor = (devices // known if size == -1 else size for size in sizes)
        return data, fsdp, tensor


def make_mesh(config: MeshConfig | None = None, devices: Sequence[Any] | None = None) -> Mesh:
    """The mesh with the axes "data", "fsdp" and "tensor".

    Args:
        devices: default all devices of all processes.

    Raises:
        ValueError: the sizes don't fit the number of devices.
    """
    devices = jax.devices() if devices is None else devices
    shape = (config or MeshConfig()).shape(len(devices))
    # jax.make_mesh refuses sizes that are no products of the sides of a TPU's grid.
    grid = mesh_utils.create_device_mesh(shape, devices=devices, allow_split_physical_axes=True)
    return Mesh(grid, AXES, axis_types=(AxisType.Auto,) * len(AXES))


def replicated(mesh: Mesh) -> NamedSharding:
    """Every device holds a full copy."""
    return NamedSharding(mesh, PartitionSpec())


def batch_sharding(mesh: Mesh) -> NamedSharding:
    """Every device holds its rows of a batch."""
    return NamedSharding(mesh, PartitionSpec(BATCH_AXES))


def batch_shards(mesh: Mesh) -> int:
    """Number of shards of a batch."""
    return math.prod(mesh.shape[axis] for axis in BATCH_AXES)


def batch_share(mesh: Mesh) -> Share:
    """The rows of a batch that the devices of this process hold.

    These need be neither neighbours nor this process's alone: a mesh follows the wires of its machine, and devices
    along "tensor" share their rows.
    """
    indices: Mapping[Any, Any] = batch_sharding(mesh).devices_indices_map((batch_shards(mesh),))
    holders: dict[int, set[int]] = {}
    for device, (rows,) in indices.items():
        holders.setdefault(rows.start or 0, set()).add(device.process_index)
    me = jax.process_index()
    parts = tuple(sorted(part for part, processes in holders.items() if me in processes))
    return Share(len(holders), parts, tuple(part for part in parts if min(holders[part]) == me))


def shard_batch(batch: Mapping[str, Any], mesh: Mesh) -> dict[str, jax.Array]:
    """The arrays of a host's batch as rows of the global batch on the devices; strings are left out."""
    arrays = {name: value for name, value in batch.items() if isinstance(value, np.ndarray)}
    sharding = batch_sharding(mesh)
    return {name: jax.make_array_from_process_local_data(sharding, value) for name, value in arrays.items()}


def describe_mesh(mesh: Mesh) -> str:
    """ "8 cpu device(s) (cpu), mesh data 4 x fsdp 2 x tensor 1"."""
    first = mesh.devices.flat[0]
    sizes = " x ".join(f"{name} {size}" for name, size in mesh.shape.items())
    return f"{mesh.size} {first.platform} device(s) ({first.device_kind}), mesh {sizes}"
