"""Several real processes: how they find each other, and what the others print and do when one of them is lost."""

import os
import re
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest

from launch import local
from tcm_jax.distributed import EXIT_PEER_LOST, JobError, Watchdog, barrier, exit_process, initialize
from tcm_jax.distributed.job import Job, find_job
from tests.conftest import in_two_processes

ROOT = Path(__file__).parents[2]
LOST_SECONDS = 2.0
MARGIN = 8.0  # seconds; the machine may be busy

_RUN = f"""
import sys, time
import jax, numpy as np
from jax.experimental.multihost_utils import process_allgather
from tcm_jax.distributed import *

def each_step(act):
    with Watchdog(stall_seconds=60, lost_seconds={LOST_SECONDS}) as watchdog:
        barrier("ready", 60)
        print("ready", flush=True)
        print("not flushed", end="")
        for step in range(1, 10_000):
            act(step)
            watchdog.step_done(step)

initialize()
me = jax.process_index()
try:
    %s
except Exception as error:
    print("error:", error, file=sys.stderr)
    exit_process(EXIT_PEER_LOST if isinstance(error, MissingProcessesError) else 1)
"""
ALONE = _RUN % "each_step(lambda step: time.sleep(0.05))"
COLLECTIVE = _RUN % "each_step(lambda step: process_allgather(np.ones(3)))"


@pytest.fixture(autouse=True)
def buffered(monkeypatch):
    """What was printed must reach us although it is in a buffer; the launcher would switch that off."""
    monkeypatch.setenv("PYTHONUNBUFFERED", "")


def begin(program: str) -> list[subprocess.Popen]:
    """Two processes that are in their steps."""
    command = [sys.executable, "-c", program]
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    running = local.start(command, 2, cwd=ROOT, **pipes)
    for process in running:
        assert process.stdout.readline() == "ready\n", process.communicate()
    return running


@pytest.mark.slow
@pytest.mark.parametrize("program", [ALONE, COLLECTIVE], ids=["host", "collective"])
@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGSTOP])
@pytest.mark.parametrize("victim", [0, 1])
def test_lost_process_is_named(victim, number, program):
    """Process 0 keeps the store of all heartbeats; it may itself be the one that is lost."""
    running = begin(program)
    time.sleep(0.3)
    running[victim].send_signal(number)
    start = time.monotonic()
    out, errors = running[1 - victim].communicate(timeout=60)
    seconds = time.monotonic() - start
    running[victim].kill()
    running[victim].communicate()
    assert running[1 - victim].returncode == EXIT_PEER_LOST, errors
    assert 0.5 * LOST_SECONDS < seconds < LOST_SECONDS + MARGIN
    name = rf"process {victim} of 2 \(host \S+, pid {running[victim].pid}\)"
    assert re.search(
        rf"^{name}( at step \d+)? has not been heard from for 2 s; .* ends with exit status 75", errors, re.M
    )
    assert "the same command resumes from the newest checkpoint" in errors
    assert "fatal error" not in errors  # of JAX
    assert "not flushed" in out


@pytest.mark.slow
@pytest.mark.parametrize("victim", [0, 1])
def test_process_that_fails_ends_the_others_at_once(victim):
    running = begin(
        _RUN % f"each_step(lambda step: process_allgather(np.ones(3)) if me != {victim} else 1 // (3 - step))"
    )
    (_, first), (_, second) = (process.communicate(timeout=60) for process in running)
    failed, other = (first, second) if victim == 0 else (second, first)
    assert [process.returncode for process in running] == [1, 1]
    assert failed.endswith("error: integer division or modulo by zero\n")
    assert re.search(rf"process {victim} of 2 .* ended with ZeroDivisionError: integer .* exit status 1\n", other)


@pytest.mark.slow
def test_barrier_names_who_is_missing():
    outputs = begin(_RUN % 'each_step(lambda step: time.sleep(3) if me else barrier("the data is open", 1))')
    (_, errors), _ = (process.communicate(timeout=60) for process in outputs)
    assert re.search(
        r"error: 'the data is open': after \d s, still missing: process 1 of 2 \(host \S+, pid \d+\)\n", errors
    )
    assert [process.returncode for process in outputs] == [EXIT_PEER_LOST] * 2


@pytest.mark.slow
def test_slow_process_is_not_lost():
    """Its heartbeat has a thread of its own; here it takes five times as long as lost processes have."""
    program = """
import json, time
import jax
from tcm_jax.distributed import *
initialize()
with Watchdog(stall_seconds=0.5, lost_seconds=0.5) as watchdog:
    time.sleep(2.5 * jax.process_index())
    barrier("slow", 60)
    watchdog.step_done(1)
print(json.dumps([jax.process_index(), jax.process_count(), jax.device_count()]))
"""
    assert in_two_processes(program) == [[0, 2, 2], [1, 2, 2]]


def test_stall_prints_stacks(capfd):
    with Watchdog(stall_seconds=0.1, lost_seconds=0.5) as watchdog:
        watchdog.step_done(7)
        time.sleep(0.5)
        watchdog.step_done(8)
    errors = capfd.readouterr().err
    assert "process 0 of 1: no step for 0 s, after step 7. All threads:" in errors
    assert "in test_stall_prints_stacks" in errors
    assert errors.count("All threads") == 1
    assert "continues with step 8" in errors


def test_one_process_waits_for_nobody():
    initialize()
    barrier("anything", 0)
    with pytest.raises(SystemExit):
        exit_process(3)


def free_port() -> int:
    with socket.socket() as free:
        free.bind(("localhost", 0))
        return free.getsockname()[1]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("index", "message"),
    [(0, "not all 2 processes have come to process 0"), (1, "process 0 can't be reached at localhost")],
)
def test_start_without_the_other(index, message):
    program = f"""
import sys
from tcm_jax.distributed import *
try:
    initialize("localhost:{free_port()}", 2, {index}, timeout_seconds=1)
except MissingProcessesError as error:
    print(error, file=sys.stderr)
    exit_process(EXIT_PEER_LOST)
"""
    done = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, timeout=60)
    assert done.returncode == EXIT_PEER_LOST
    assert message in done.stderr
    assert re.search("(after|in) 1 s", done.stderr)


LAPTOP = {"TPU_SKIP_MDS_QUERY": "1"}  # as jax sets it
SLURM = {
    **LAPTOP,
    "SLURM_JOB_ID": "70000",
    "SLURM_STEP_NODELIST": "gpu[07-08]",
    "SLURM_NTASKS": "16",
    "SLURM_STEP_NUM_TASKS": "16",
    "SLURM_STEP_NUM_NODES": "2",
    "SLURM_PROCID": "9",
    "SLURM_LOCALID": "1",
    "CUDA_VISIBLE_DEVICES": "0,1,2,3,4,5,6,7",
}
ONE_EACH = {**SLURM, "SLURM_STEP_NUM_TASKS": "2", "SLURM_NTASKS": "2", "SLURM_PROCID": "1", "SLURM_LOCALID": "0"}
KUBERNETES = {**LAPTOP, "KUBERNETES_SERVICE_HOST": "10.0.0.1", "JOB_COMPLETION_INDEX": "3"}
EXPLICIT = {"JAX_COORDINATOR_ADDRESS": "a:1", "JAX_NUM_PROCESSES": "8"}


@pytest.mark.parametrize(
    ("environment", "job"),
    [
        (LAPTOP, None),
        ({**LAPTOP, **EXPLICIT, "JAX_PROCESS_ID": "2"}, Job("a:1", 8, 2)),
        ({**KUBERNETES, **EXPLICIT}, Job("a:1", 8, 3)),
        ({**KUBERNETES, "JAX_NUM_PROCESSES": "1"}, None),
        (SLURM, Job("gpu07:61808", 16, 9, [1])),
        ({**SLURM, "CUDA_VISIBLE_DEVICES": "0"}, Job("gpu07:61808", 16, 9)),
        (ONE_EACH, Job("gpu07:61808", 2, 1)),
        ({**SLURM, "SLURM_STEP_NUM_TASKS": "1"}, None),  # a shell in an allocation
        ({**LAPTOP, "TPU_WORKER_HOSTNAMES": "localhost", "TPU_WORKER_ID": "0"}, None),
    ],
)
def test_job_is_found_in_the_environment(environment, job, monkeypatch):
    for name in [name for name in os.environ if name.startswith(("JAX_", "SLURM_"))]:
        monkeypatch.delenv(name)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    assert find_job("", 0, -1, os.environ) == job


def test_tpu_slice_on_gke(monkeypatch):
    slices = {"MEGASCALE_COORDINATOR_ADDRESS": "", "MEGASCALE_NUM_SLICES": "1", "MEGASCALE_SLICE_ID": "0"}
    for name, value in {"TPU_WORKER_HOSTNAMES": "localhost,b,c,d", "TPU_WORKER_ID": "2", **slices}.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr("jax._src.clusters.cloud_tpu_cluster.running_in_cloud_tpu_vm", True)
    assert find_job("", 0, -1, os.environ) == Job("localhost:8482", 4, 2)


@pytest.mark.parametrize(
    ("environment", "message"),
    [
        (KUBERNETES, "JAX_NUM_PROCESSES are not; set them in the manifest"),
        ({"JAX_NUM_PROCESSES": "2"}, "expected HOST:PORT"),
        ({"JAX_COORDINATOR_ADDRESS": "a:1"}, "expected --num_processes or JAX_NUM_PROCESSES"),
        (EXPLICIT, "process -1 of 8; expected 0 to 7"),
        ({"JAX_NUM_PROCESSES": "two"}, "JAX_NUM_PROCESSES is 'two'; expected a number"),
    ],
)
def test_incomplete_job(environment, message):
    with pytest.raises(JobError, match=re.escape(message)):
        find_job("", 0, -1, environment)


def launch(*arguments: str, program: str) -> list[str]:
    return [sys.executable, str(ROOT / "launch/local.py"), *arguments, "--", sys.executable, "-c", program]


def test_launcher_numbers_lines_and_returns_the_first_failure():
    program = """
import os, sys, time
print("task", os.environ["JAX_PROCESS_ID"], "of", os.environ["JAX_NUM_PROCESSES"], flush=True)
time.sleep(1 if os.environ["JAX_PROCESS_ID"] == "1" else 60)
sys.exit(7)
"""
    start = time.monotonic()
    done = subprocess.run(launch("-n", "3", "--grace", "0.5", program=program), capture_output=True, text=True)
    assert time.monotonic() - start < 30
    assert done.returncode == 7
    assert sorted(done.stdout.splitlines()) == [f"[{i}] task {i} of 3" for i in range(3)]
    assert "process 1 ended with exit status 7; 0.5 s for the others\nkilled after 0.5 s: process 0, 2" in done.stderr


@pytest.mark.parametrize(("number", "status"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
def test_launcher_passes_signals_on(number, status):
    program = """
import signal, sys, time
for number in (signal.SIGINT, signal.SIGTERM):
    signal.signal(number, lambda number, _: sys.exit(128 + number))
print("ready", flush=True)
time.sleep(60)
"""
    process = subprocess.Popen(launch("-n", "2", program=program), stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    for _ in range(2):
        assert process.stdout.readline().endswith(b"ready\n")
    process.send_signal(number)
    process.communicate(timeout=30)
    assert process.returncode == status
