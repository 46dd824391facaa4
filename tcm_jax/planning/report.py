"""The result of a plan, as numbers and as text."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from tcm_jax.planning.chips import GIB
from tcm_jax.planning.work import COLLECTIVES

PROGRAMS = {"train": "training step", "decode": "inference"}


@dataclass(frozen=True)
class Memory:
    """Bytes of each device.

    Args:
        arguments: of the program; for a training step the state and the batch.
        outputs: new arrays; not those that reuse the memory of an argument.
        temporary: intermediate results; code: the program itself.
        peak: the maximum at any time.
    """

    arguments: int
    outputs: int
    temporary: int
    code: int
    peak: int


@dataclass(frozen=True)
class Plan:
    """One program for one machine. Seconds, FLOP and bytes are of one step and of each device, unless they say images.

    Args:
        config, topology: their names; program: one of `PROGRAMS`; mesh: sizes of the axes; batch: images of a step.
        devices, hosts: numbers of them; chip: its name; capacity: bytes of its memory (None: unknown).
        fits: whether it fits the memory; problem: the compiler's message if not; all that follows is then empty.
        memory: see `Memory`.
        flops: of matrix products, with what rematerialisation repeats and what several devices compute alike.
        bytes: to and from the memory; collectives: number and bytes sent by kind.
        image_flops: of an image, as the model is written; image_flops_run: with what rematerialisation repeats.
        compute, memory_time, network: seconds at the chip's peak rates; best: all of them overlap; serial: one after
            the other; None without a chip; bound: what the best time waits for.
        loops: number of those whose trip count depends on the data; they count once.
        library: whether products are library calls, so that `flops` is an even share of the uncompiled program's.
        compile_seconds: how long it took to plan.
    """

    config: str
    topology: str
    program: str
    mesh: Mapping[str, int]
    batch: int
    accumulate: int
    remat: str
    dtype: str
    devices: int
    hosts: int
    chip: str | None
    capacity: float | None
    image_flops: float
    image_flops_run: float
    fits: bool = False
    problem: str = ""
    memory: Memory | None = None
    flops: float = 0
    bytes: float = 0
    collectives: Mapping[str, tuple[float, float]] = field(default_factory=dict)
    compute: float | None = None
    memory_time: float | None = None
    network: float | None = None
    best: float | None = None
    serial: float | None = None
    bound: str | None = None
    loops: int = 0
    library: bool = False
    compile_seconds: float = 0

    def json(self) -> dict[str, Any]:
        """JSON values, with images per second of all devices."""
        rates = {f"images_per_second_{name}": self.batch / t if t else None for name, t in self._times().items()}
        return asdict(self) | rates

    def text(self) -> str:
        """The report for the user."""
        sizes = " x ".join(f"{name} {size}" for name, size in self.mesh.items())
        where = f"{self.devices} x {self.chip or 'device of unknown rates'}, {self.hosts} host(s)"
        parts = f", {self.accumulate} micro-batches" if self.accumulate > 1 and self.program == "train" else ""
        lines = [
            f"{self.config}: {PROGRAMS[self.program]} on {self.topology} ({where})",
            f"mesh {sizes}; batch {self.batch:,} ({self.batch / self.devices:g} per device{parts}), {self.dtype}, "
            f"remat {self.remat}",
            "",
        ]
        if self.memory is None:
            return "\n".join([*lines, f"DOES NOT FIT: {self.problem}"])
        rows = [*self._memory_rows(), *self._work_rows(), *self._time_rows()]
        width = max(len(name) for name, _ in rows)
        lines += ["each device:", *(f"  {name:{width}}  {value}" for name, value in rows)]
        return "\n".join([*lines, *self._notes()])

    def _times(self) -> dict[str, float | None]:
        return {"best": self.best, "serial": self.serial}

    def _memory_rows(self) -> list[tuple[str, str]]:
        m = self.memory
        assert m is not None
        room = ""
        if self.capacity:
            verdict = "fits" if self.fits else "DOES NOT FIT"
            room = f" of {self.capacity / GIB:.2f} ({m.peak / self.capacity:.0%}): {verdict}"
        return [
            ("arguments", f"{m.arguments / GIB:8.2f} GiB"),
            ("new outputs", f"{m.outputs / GIB:8.2f} GiB"),
            ("temporary", f"{m.temporary / GIB:8.2f} GiB"),
            ("program", f"{m.code / GIB:8.2f} GiB"),
            ("peak memory", f"{m.peak / GIB:8.2f} GiB{room}"),
        ]

    def _work_rows(self) -> list[tuple[str, str]]:
        again = self.flops * self.devices / (self.image_flops * self.batch) - 1
        rows = [
            ("matrix products", f"{self.flops / 1e12:8.3f} TFLOP ({again:+.1%} to the model's own)"),
            ("memory traffic", f"{self.bytes / 1e9:8.2f} GB"),
        ]
        for kind in COLLECTIVES:
            count, size = self.collectives.get(kind, (0, 0))
            if count:
                rows.append((kind, f"{size / 1e9:8.3f} GB sent in {count:,.0f}"))
        return rows

    def _time_rows(self) -> list[tuple[str, str]]:
        model = ("model, an image", f"{self.image_flops / 1e9:8.2f} GFLOP")
        if self.best is None or self.serial is None:
            return [model]
        each = {"compute": self.compute, "memory": self.memory_time, "network": self.network}
        times = ", ".join(f"{name} {1e3 * (seconds or 0):.2f}" for name, seconds in each.items())
        best, serial = (f"{self.batch / t:,.0f} images/s" for t in (self.best, self.serial))
        return [
            ("at peak rates", f"{times} ms"),
            model,
            ("step at best", f"{1e3 * self.best:8.2f} ms, bound by {self.bound}: {best}"),
            ("one by one", f"{1e3 * self.serial:8.2f} ms, nothing overlaps: {serial}"),
        ]

    def _notes(self) -> list[str]:
        notes = []
        if self.loops:
            notes.append(f"the trip count of {self.loops} loop(s) depends on the data; they count once")
        if self.library:
            notes.append("products are library calls here: an even share of the uncompiled program's is counted")
        return ["", *notes] if notes else []
