"""Peak rates of accelerators, from their makers' data sheets. A CPU is not in the table: its peak rates say little."""

from dataclasses import dataclass

GIB = 2**30


@dataclass(frozen=True)
class Chip:
    """One accelerator.

    Args:
        name: the maker's short name; kinds: what JAX calls it (`device.device_kind`).
        memory: bytes; memory_bandwidth: bytes per second.
        bf16, f32: peak rate of matrix products, FLOP/s, without sparsity. f32 is in JAX's default precision: one
            bfloat16 pass on a TPU, TF32 on a GPU.
        links: connections to other chips; link_bandwidth: bytes per second of one of them in one direction.
        grid: dimensions of the grid of chips whose neighbours the links join; 0: a switch joins all chips of a host.
        ring_from: minimum length, in chips, of the sides of the grid that are closed to rings.
        chips_per_host: of a full host.
        source: where the numbers come from.
    """

    name: str
    kinds: tuple[str, ...]
    memory: float
    memory_bandwidth: float
    bf16: float
    f32: float
    links: int
    link_bandwidth: float
    grid: int
    ring_from: int
    chips_per_host: int
    source: str


def _tpu(
    name: str,
    kinds: tuple[str, ...],
    gib: float,
    gbps: float,
    tflops: float,
    links: int,
    link_gbps: float,
    grid: int,
    ring_from: int,
    chips_per_host: int,
) -> Chip:
    rates = gib * GIB, gbps * 1e9, tflops * 1e12, tflops * 1e12, links, link_gbps * 1e9
    return Chip(name, kinds, *rates, grid, ring_from, chips_per_host, f"https://cloud.google.com/tpu/docs/{name}")


def _gpu(name: str, kinds: tuple[str, ...], gb: float, gbps: float, tflops: float, links: int, source: str) -> Chip:
    # NVLink 3 and 4: 50 GB/s a link, both directions together; NVSwitch within a host of eight.
    rates = gb * 1e9, gbps * 1e9, tflops * 1e12, tflops / 2 * 1e12, links, 25e9
    return Chip(name, kinds, *rates, 0, 0, 8, f"https://www.nvidia.com/en-us/data-center/{source}/")


# Google states a chip's link bandwidth for all links and both directions together: the 4 links of v5e have 400 GB/s,
# hence 50 GB/s each way. v4's is in https://arxiv.org/abs/2304.01433. A grid of two dimensions has rings along sides
# of 16 chips, one of three dimensions along sides of 4.
CHIPS = (
    _tpu("v4", ("TPU v4",), 32, 1200, 275, 6, 50, 3, 4, 4),
    _tpu("v5e", ("TPU v5 lite", "TPU v5e"), 16, 819, 197, 4, 50, 2, 16, 8),
    _tpu("v5p", ("TPU v5", "TPU v5p"), 95, 2765, 459, 6, 100, 3, 4, 4),
    _tpu("v6e", ("TPU v6 lite", "TPU v6e"), 32, 1638, 918, 4, 100, 2, 16, 8),
    _gpu("A100-40GB", ("NVIDIA A100-SXM4-40GB",), 40, 1555, 312, 12, "a100"),
    _gpu("A100-80GB", ("NVIDIA A100-SXM4-80GB",), 80, 2039, 312, 12, "a100"),
    _gpu("H100", ("NVIDIA H100 80GB HBM3",), 80, 3350, 989.4, 18, "h100"),
    _gpu("H200", ("NVIDIA H200",), 141, 4800, 989.4, 18, "h200"),
)


def find(device_kind: str) -> Chip | None:
    """The chip that JAX calls `device_kind`; None if it is not in the table, such as a CPU."""
    return next((chip for chip in CHIPS if device_kind in chip.kinds), None)
