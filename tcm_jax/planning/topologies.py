"""Machines to compile for: a TPU slice that is elsewhere, or devices of this machine."""

import importlib.util
import os
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import jax
from jax.experimental import topologies

from tcm_jax.planning.chips import Chip, find


class TopologyError(ValueError):
    """A topology is unavailable; the message says why, and what is available."""


@dataclass(frozen=True)
class Topology:
    """Devices to compile for.

    Args:
        name: such as "v5e:16x16"; devices: for a mesh.
        chip: peak rates of each device; None if unknown.
        sides: of the grid of chips; () if their links form none.
    """

    name: str
    devices: Sequence[Any]
    chip: Chip | None
    sides: tuple[int, ...]

    @property
    def platform(self) -> str:
        """ "tpu", "gpu" or "cpu"."""
        return self.devices[0].platform

    @property
    def kind(self) -> str:
        """What JAX calls a device."""
        return self.devices[0].device_kind

    @property
    def hosts(self) -> int:
        """Number of hosts; of TPUs, machines of the size that is rented as a part of a slice."""
        return len({device.process_index for device in self.devices})


def topology(name: str) -> Topology:
    """The machine of a name; to be called before any other use of JAX in the process.

    Args:
        name: "v5e:16x16", "v4:2x2x1" and so on; "cpu:8" for simulated devices; "gpu:8" for those of this machine.

    Raises:
        TopologyError: there is no such machine, or its compiler is not installed.
    """
    if here := re.fullmatch(r"(cpu|gpu):(\d+)", name):
        return _here(name, here[1], int(here[2]))
    if slice_ := re.fullmatch(r"(v\d\w*):(\d+(?:x\d+)+)", name):
        return _slice(name, slice_[1], tuple(int(n) for n in slice_[2].split("x")))
    raise TopologyError(f"topology {name!r} is unknown; expected one like v5e:4x4, v5p:2x2x4, cpu:8 or gpu:8")


def _slice(name: str, chip: str, sides: tuple[int, ...]) -> Topology:
    if importlib.util.find_spec("libtpu") is None:
        raise TopologyError(f"{name}: TPU's compiler is missing; install it with: pip install 'tcm_jax[plan]'")
    # libtpu would look for the TPU of this machine, and complain at length that there is none.
    settings = {
        "TPU_SKIP_MDS_QUERY": "1",
        "ALLOW_MULTIPLE_LIBTPU_LOAD": "1",  # two plans at a time, or beside a run; the compiler alone claims no TPU
        "TPU_ACCELERATOR_TYPE": "v5litepod-1",
        "TPU_WORKER_HOSTNAMES": "localhost",
        "TPU_MIN_LOG_LEVEL": "3",
        "TPU_STDERR_LOG_LEVEL": "3",
    }
    for key, value in settings.items():
        os.environ.setdefault(key, value)
    jax.config.update("jax_platforms", "cpu")  # what is computed while tracing needs no accelerator
    options: dict[str, Any] = {}
    if chip == "v4":
        options["chip_config_name"] = "megacore"  # both cores of a chip are one device, as on a TPU VM
    if max(sides) == 1:
        options["chips_per_host_bounds"] = (1, 1, 1)
    try:
        found = topologies.get_topology_desc(name, platform="tpu", **options)
    except Exception as error:
        raise TopologyError(f"{name}: the TPU's compiler does not know it: {str(error).splitlines()[0]}") from error
    first: Any = found.devices[0]
    return Topology(name, found.devices, find(first.device_kind), sides)


def _here(name: str, platform: str, count: int) -> Topology:
    if platform == "cpu":
        jax.config.update("jax_platforms", "cpu")
        jax.config.update("jax_num_cpu_devices", count)
    try:
        devices = jax.devices(platform)
    except RuntimeError as error:
        raise TopologyError(
            f"{name}: this machine has no {platform}, and only a machine with one can compile for it"
        ) from error
    if len(devices) < count:
        raise TopologyError(f"{name}: this machine has {len(devices)} of them")
    first: Any = devices[0]
    return Topology(name, devices[:count], find(first.device_kind), ())
