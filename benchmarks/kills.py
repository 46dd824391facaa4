"""A tiny training run is killed again and again, and must end as one that was never killed.

    python benchmarks/kills.py [--kills 20] [--processes 1|2] [--seed 0]

SIGKILL comes at random moments of every phase: the start, a step, the refill of the data by its worker process, a
save, an evaluation. The victim is suspended first (SIGSTOP), so that its output and its working directory show for sure
what it was doing. With two processes either one of them is killed, and the other must name it and end with status 75 in
the stated time, or both are killed. After every kill the same command resumes. Prints a Markdown table; ends with an
error if a restart does not resume from the newest complete checkpoint, or if parameters, optimizer state or metrics
(with the hash of every batch's records) are in the end not those of the unbroken run.
"""

import argparse
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

sys.path.insert(0, str(Path(__file__).parents[1]))

from tests.training.conftest import CONFIG
from tests.training.runs import (
    ENVIRONMENT,
    LOST_SECONDS,
    NOTICE_SECONDS,
    START_SECONDS,
    Run,
    assert_same,
    checkpoints,
    last,
    metrics,
    saving,
)

START, STEP, REFILL, SAVE, EVALUATION = "start", "step", "data refill", "save", "evaluation"
# Longest wait in seconds between the moment a phase is seen and the kill.
_WAIT = {START: 8.0, STEP: 0.3, REFILL: 0.3, SAVE: 0.2, EVALUATION: 2.0}
WORDS = [{"name": "words", "max_samples": 8, "synthetic": {"seed": 1, "split": "test", "size": 16}}]
_CONFIG: dict[str, Any] = CONFIG | {
    "steps": 36,
    "lost_seconds": LOST_SECONDS,
    "checkpoint": {"every": 3, "keep": 2},
    "eval": {"every": 7, "batch": 8, "sources": WORDS},
    "data": {"train": CONFIG["data"]["train"], "augment": 0, "workers": 1},
}


@dataclass
class Kill:
    """One kill and what followed."""

    victims: list[int]
    after: float  # seconds since the start
    phase: str
    step: int
    complete: int  # newest complete checkpoint afterwards, 0 if there is none
    others: str = "-"
    resumed: int | None = None  # step after which the next start resumed, None if that was killed before it could


def phases(run: Run) -> list[str]:
    """The phases that a run is in."""
    text = run.text()
    if "compiled in" not in text:
        if run.resumed is not None:
            return [START, "compiling"]
        return [START, "restoring" if "parameters:" in text else "before restoring"]
    line = last(run.workdir)
    found = [SAVE] if saving(run.workdir) else []
    every, total = run.config["eval"]["every"], run.config["steps"]
    if line["of"] == "train" and line["step"] in {*range(every, total, every), total}:
        found.append(EVALUATION)
    elif any(_is_running(child) for process in run.processes for child in _children(process.pid)):
        found.append(REFILL)
    return found or [STEP]


def _children(pid: int) -> list[int]:
    return [int(child) for task in Path(f"/proc/{pid}/task").glob("*/children") for child in task.read_text().split()]


def _is_running(pid: int) -> bool:
    """Whether a thread of the process is running or waits only for a processor."""
    try:
        return any(
            stat.read_text().rpartition(")")[2].split()[0] == "R" for stat in Path(f"/proc/{pid}/task").glob("*/stat")
        )
    except OSError:  # it has ended
        return False


def kill(run: Run, victims: Sequence[int], aim: str, goal: int, wait: float) -> Kill:
    """Kills the processes `victims` of a run in the phase `aim`, `wait` seconds after it was seen past step `goal`.

    The others must end with status 75 and name the one that is missing; AssertionError if they don't.
    """
    if aim == START:
        run.until(lambda: time.monotonic() > run.started + wait or START not in phases(run))
        if len(victims) < len(run.processes):  # the others wait much longer for one that never joined them
            run.until(lambda: all(" of every batch" in run.text(i) for i in range(len(run.processes))))
    else:
        run.until(lambda: run.step >= goal and aim in phases(run))
        time.sleep(wait)
    while True:
        if aim != START:
            run.until(lambda: aim in phases(run))
        for i in victims:
            run.processes[i].send_signal(signal.SIGSTOP)
        seen, step = phases(run), last(run.workdir)["step"]
        if aim == START or aim in seen:
            break
        for i in victims:
            run.processes[i].send_signal(signal.SIGCONT)
    after = time.monotonic() - run.started
    children = [child for i in victims for child in _children(run.processes[i].pid)]
    for i in victims:
        run.processes[i].kill()
    clock = time.monotonic()
    try:
        statuses = run.wait(NOTICE_SECONDS)
    except subprocess.TimeoutExpired as error:
        raise AssertionError(f"not ended {NOTICE_SECONDS:g} s after the kill:\n{run.text()}") from error
    others = "-"
    for i in set(range(len(statuses))) - set(victims):
        lost = f"process {victims[0]} of {len(statuses)} ("
        named = statuses[i] == 75 and lost in run.text(i)
        assert named, f"{statuses}; expected 75 and {lost!r}:\n{run.text(i)}"
        others = f"{statuses[i]} after {time.monotonic() - clock:.1f} s"
    while any(Path(f"/proc/{child}").exists() for child in children):  # workers end by themselves, once they have begun
        assert time.monotonic() < clock + START_SECONDS, f"worker processes still run: {children}"
        time.sleep(0.1)
    return Kill(list(victims), after, ", ".join(seen), step, max(checkpoints(run.workdir), default=0), others)


def survive(folder: Path, kills: int, processes: int, seed: int) -> list[Kill]:
    """Trains once without a break and once with kills, and compares the two."""
    rng = np.random.default_rng(seed)
    with Run(_CONFIG, folder / "unbroken", processes) as run:
        run.finish()
    print(f"the unbroken run took {time.monotonic() - run.started:.0f} s\n", flush=True)
    print("| kill | process | s after start | phase | after step | newest complete | resumed after | others end with |")
    print("|---:|---|---:|---|---:|---:|---:|---|", flush=True)
    aims = rng.permutation(np.resize([START, STEP, REFILL, SAVE, EVALUATION], kills)).tolist()
    goals = np.sort(rng.integers(0, _CONFIG["steps"] - _CONFIG["eval"]["every"] - 2, kills)).tolist()
    workdir, done = folder / "killed", list[Kill]()
    for i in range(kills + 1):
        with Run(_CONFIG, workdir, processes) as run:
            if i < kills:
                victims = [[0], [1], [0, 1]][rng.integers(3)] if processes > 1 else [0]
                wait = float(rng.uniform(0, _WAIT[aims[i]]))
                done.append(kill(run, victims, aims[i], goals[i], wait))
            else:
                run.finish()
            if i > 0:
                before = done[i - 1]
                before.resumed = run.resumed
                assert before.resumed in (None, before.complete), f"{before}:\n{run.text()}"
                _print_row(i, before)
    assert not list(workdir.glob("checkpoints/damaged-*")), "a complete checkpoint was damaged"
    assert_same(workdir, folder / "unbroken")
    return done


def _print_row(number: int, kill: Kill) -> None:
    victims = " and ".join(map(str, kill.victims))
    resumed = "killed before" if kill.resumed is None else kill.resumed
    cells = (number, victims, f"{kill.after:.1f}", kill.phase, kill.step, kill.complete, resumed, kill.others)
    print("| " + " | ".join(map(str, cells)) + " |", flush=True)


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=20, help="default 20")
    parser.add_argument("--processes", type=int, default=1, choices=(1, 2), help="default 1")
    parser.add_argument("--seed", type=int, default=0, help="of the moments; default 0")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="kills-") as name:
        folder = Path(name)
        os.environ.update(ENVIRONMENT)
        os.environ["JAX_COMPILATION_CACHE_DIR"] = str(folder / "cache")
        done = survive(folder, arguments.kills, arguments.processes, arguments.seed)
        lines = len(metrics(folder / "unbroken"))
    count = {phase: sum(phase in kill.phase for kill in done) for phase in (START, STEP, REFILL, SAVE, EVALUATION)}
    print(f"\n{len(done)} kills of {arguments.processes} process(es), by phase (some in two at once): {count}.")
    print(
        "Every start resumed from the newest complete checkpoint. In the end parameters and optimizer state are bit "
        f"for bit those of the unbroken run, and so are the {lines} lines of metrics with the hash of each batch's "
        "records."
    )


if __name__ == "__main__":
    main()
