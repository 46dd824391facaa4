"""Training runs as processes of their own, to be killed and started again, and the files that they leave."""

import contextlib
import json
import re
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, TextIO

from launch import local

ROOT = Path(__file__).parents[2]
ENVIRONMENT = {  # of the processes: to be set in os.environ
    "JAX_PLATFORMS": "cpu",
    "NPROC": "32",  # threads of XLA's pool; some collectives need more than a small machine has
    "JAX_DISABLE_MOST_OPTIMIZATIONS": "1",  # of the compiler: processes but the first never use its cache
}
LOST_SECONDS = 10.0  # a loaded machine may keep a process waiting for less
NOTICE_SECONDS = LOST_SECONDS + 20.0  # within which the other processes end; see `tcm_jax.distributed.Watchdog`
START_SECONDS = 300.0  # a loaded machine is slow
_TIMINGS = ("time", "step_time", "images_per_second", "images_per_second_per_device", "data_wait")


class Run:
    """`python -m tcm_jax.train` as processes on this machine; a context manager that leaves none of them.

    Attributes:
        processes: subprocess.Popen of each.
        lines: that each has printed.
        started: when, by time.monotonic().
    """

    def __init__(self, config: Mapping[str, Any], workdir: Path, processes: int = 1):
        self.config, self.workdir = config, workdir
        self.started = time.monotonic()
        path = workdir.with_suffix(".py")
        path.write_text(
            f"from ml_collections import ConfigDict\n\ndef get_config():\n    return ConfigDict({config!r})\n"
        )
        command = [sys.executable, "-m", "tcm_jax.train", f"--config={path}", f"--workdir={workdir}"]
        self.processes = local.start(
            command, processes, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, errors="replace"
        )
        self.lines: list[list[str]] = [[] for _ in self.processes]
        outputs = [process.stdout for process in self.processes]
        self._readers = [threading.Thread(target=_read, args=x) for x in zip(outputs, self.lines, strict=True)]
        for reader in self._readers:
            reader.start()

    def __enter__(self) -> "Run":
        return self

    def __exit__(self, *_) -> None:
        for process in self.processes:
            process.kill()
        self.wait(START_SECONDS)

    def text(self, process: int = 0) -> str:
        """What a process has printed so far."""
        return "".join(self.lines[process])

    def wait(self, seconds: float) -> list[int]:
        """The exit status of each process, -N if signal N ended it; subprocess.TimeoutExpired if one still runs."""
        deadline = time.monotonic() + seconds
        statuses = [process.wait(max(deadline - time.monotonic(), 0)) for process in self.processes]
        for reader in self._readers:
            reader.join()
        return statuses

    def finish(self) -> None:
        """Waits for the end; raises AssertionError if it is not a good one."""
        statuses = self.wait(START_SECONDS)
        assert not any(statuses), f"exit status {statuses}:\n" + "".join(map(self.text, range(len(statuses))))

    def until(self, condition: Callable[[], Any]) -> None:
        """Waits for `condition`; raises AssertionError if a process ends before."""
        while not condition():
            ended = [process.poll() is not None for process in self.processes]
            assert not any(ended), f"ended too early: {ended}\n" + "".join(map(self.text, range(len(ended))))
            time.sleep(0.003)

    @property
    def resumed(self) -> int | None:
        """The step after which it resumed, 0 for a new run, None if that is not known yet."""
        found = re.search(r"^(?:resuming after step ([\d,]+)|starting)$", self.text(), re.MULTILINE)
        return int((found[1] or "0").replace(",", "")) if found else None

    @property
    def step(self) -> int:
        """The last step in the metrics; 0 before this start has written any."""
        return last(self.workdir)["step"] if "compiled in" in self.text() else 0


def _read(stream: TextIO, lines: list[str]) -> None:
    with stream:
        lines.extend(stream)


def last(workdir: Path) -> dict[str, Any]:
    """The last complete line of the metrics, of step 0 if there is none."""
    return ([{"step": 0, "of": "train"}, *list(_metrics(workdir))])[-1]


def metrics(workdir: Path) -> list[dict[str, Any]]:
    """Every line of the metrics, without what depends on the clock."""
    return [{k: v for k, v in line.items() if k not in _TIMINGS} for line in _metrics(workdir)]


def _metrics(workdir: Path) -> Iterator[dict[str, Any]]:
    with contextlib.suppress(FileNotFoundError), open(workdir / "metrics.jsonl") as file:
        for line in file:
            if line.endswith("\n"):  # the last one may be incomplete
                yield json.loads(line)


def records(workdir: Path) -> dict[int, int]:
    """For each step the number that stands for the records of its batch in their order."""
    return {line["step"]: line["records"] for line in metrics(workdir) if line["of"] == "train"}


def checkpoints(workdir: Path) -> list[int]:
    """Steps with a complete checkpoint, ascending."""
    return sorted(int(path.name) for path in (workdir / "checkpoints").glob("*") if path.name.isdigit())


def saving(workdir: Path) -> bool:
    """Whether a checkpoint is being written."""
    return any((workdir / "checkpoints").glob("*.orbax-checkpoint-tmp*"))


def assert_same(workdir: Path, unbroken: Path) -> None:
    """Both runs ended with the same state and the same model, bit for bit, and wrote the same metrics."""
    assert metrics(workdir) == metrics(unbroken)
    weights = Path("last", "weights.safetensors")
    assert (workdir / weights).read_bytes() == (unbroken / weights).read_bytes()
    assert fingerprints(workdir, checkpoints(workdir)[-1]) == fingerprints(unbroken, checkpoints(unbroken)[-1])


def fingerprints(workdir: Path, step: int) -> dict[str, int]:
    """Of every array in a checkpoint."""
    about = json.loads((workdir / "checkpoints" / str(step) / "about" / "metadata").read_text())
    return {path: entry["fingerprint"] for path, entry in about["arrays"].items()}
