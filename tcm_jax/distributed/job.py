"""Which process of which job this is, and how it reaches the first one; part of `tcm_jax.distributed`."""

import contextlib
import socket
import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass, replace

_RETRY_SECONDS = 0.5


class JobError(ValueError):
    """What is known of the job is incomplete or contradicts itself; the message says what is missing."""


@dataclass(frozen=True)
class Job:
    """A run of several processes.

    Args:
        address: HOST:PORT where process 0 listens.
        count: number of processes; index: of this one.
        devices: numbers of this process's GPUs among those it sees, None for all.
    """

    address: str
    count: int
    index: int
    devices: list[int] | None = None


def find_job(address: str, count: int, index: int, environment: Mapping[str, str]) -> Job | None:
    """The job this process belongs to, None if it runs alone; never waits on a machine that belongs to none.

    The arguments come first, then JAX_COORDINATOR_ADDRESS, JAX_NUM_PROCESSES and JAX_PROCESS_ID (or Kubernetes'
    JOB_COMPLETION_INDEX), then Slurm's job step, then the TPU slice on GKE, then that of a Cloud TPU VM.

    Args:
        address, count, index: as of `Job`; "", 0 and -1 if not given.

    Raises:
        JobError: part of what is needed is missing or does not fit; the message names it.
    """
    explicit = address or count or index >= 0
    address = address or environment.get("JAX_COORDINATOR_ADDRESS", "")
    count = count or _number(environment, "JAX_NUM_PROCESSES", 0)
    if explicit or address or count or "JAX_PROCESS_ID" in environment:
        indexed = _number(environment, "JOB_COMPLETION_INDEX", -1)
        index = index if index >= 0 else _number(environment, "JAX_PROCESS_ID", indexed)
        return None if count == 1 else _checked(Job(address, count, index))
    # Not SLURM_NTASKS: a shell in an allocation has it too, without being a step of that many tasks.
    if _number(environment, "SLURM_STEP_NUM_TASKS", 1) > 1:
        job = _detect("slurm")
        alone = environment.get("SLURM_STEP_NUM_TASKS") == environment.get("SLURM_STEP_NUM_NODES")
        bound = environment.get("CUDA_VISIBLE_DEVICES", "").isdigit()
        # JAX gives a task the GPU with the number that the task has on its node, also to one that has the node to
        # itself or sees one GPU only.
        return job and (replace(job, devices=None) if alone or bound else job)
    hosts = environment.get("TPU_PROCESS_ADDRESSES") or environment.get("TPU_WORKER_HOSTNAMES") or ""
    if "," in hosts or (hosts and _number(environment, "MEGASCALE_NUM_SLICES", 1) > 1):
        return _detect("gketpu")
    if not hosts and "KUBERNETES_SERVICE_HOST" in environment and "JOB_COMPLETION_INDEX" in environment:
        raise JobError(
            "JOB_COMPLETION_INDEX is set, so this is one process of a Kubernetes job, but JAX_COORDINATOR_ADDRESS "
            "(HOST:PORT of process 0) and JAX_NUM_PROCESSES are not; set them in the manifest, or JAX_NUM_PROCESSES=1 "
            "if every process is to run alone"
        )
    if not hosts and "TPU_SKIP_MDS_QUERY" not in environment:  # importing jax sets it where there is no TPU
        with contextlib.suppress(OSError):  # no metadata server: a machine with TPUs, but not one of Google Cloud
            return _detect("gcetpu")
    return None


def _number(environment: Mapping[str, str], name: str, default: int) -> int:
    text = environment.get(name, "")
    if text and not text.isdigit():
        raise JobError(f"environment variable {name} is {text!r}; expected a number")
    return int(text or default)


def _checked(job: Job) -> Job:
    if not job.address.rpartition(":")[2].isdigit():
        raise JobError(
            f"address of process 0 is {job.address!r}; expected HOST:PORT (--coordinator_address or "
            "JAX_COORDINATOR_ADDRESS)"
        )
    if job.count < 1:
        raise JobError("number of processes is missing; expected --num_processes or JAX_NUM_PROCESSES")
    if not 0 <= job.index < job.count:
        raise JobError(
            f"process {job.index} of {job.count}; expected 0 to {job.count - 1} (--process_id or JAX_PROCESS_ID)"
        )
    return job


def _detect(method: str) -> Job | None:
    """What JAX itself finds out about a cluster. Private: `jax.distributed.initialize` detects and connects in one."""
    from jax._src import clusters

    found = clusters.ClusterEnv.auto_detect_unset_distributed_params(None, None, None, None, method, 300)
    address, count, index, devices = found
    if address is None or count is None or index is None or count == 1:
        return None
    return Job(address, count, index, None if devices is None else list(devices))


def wait_until_up(address: str, seconds: float) -> None:
    """Returns as soon as something listens at HOST:PORT.

    Raises:
        OSError: nothing did for that many seconds.
    """
    deadline = time.monotonic() + seconds
    while True:
        try:
            return _connect(address).close()
        except OSError:
            if time.monotonic() > deadline:
                raise
            time.sleep(_RETRY_SECONDS)


def start_relay(address: str) -> str:
    """Starts a relay to HOST:PORT that lasts as long as the program, and returns its own address.

    What it is for: JAX aborts a process at the very moment its connection to process 0 closes, before anybody could
    say or do something. Through the relay, the connection just falls silent when process 0 is gone.
    """
    server = socket.create_server(("127.0.0.1", 0))
    accepted = []  # kept here, as an unreferenced connection would be closed

    def serve() -> None:
        while True:
            near, _ = server.accept()
            accepted.append(near)
            with contextlib.suppress(OSError):
                far = _connect(address)
                threading.Thread(target=_copy, args=(far, near), daemon=True).start()
                threading.Thread(target=_copy, args=(near, far, True), daemon=True).start()

    threading.Thread(target=serve, name="relay", daemon=True).start()
    return f"127.0.0.1:{server.getsockname()[1]}"


def _connect(address: str) -> socket.socket:
    host, _, port = address.rpartition(":")
    connection = socket.create_connection((host.strip("[]"), int(port)), timeout=10)
    connection.settimeout(None)
    return connection


def _copy(source: socket.socket, target: socket.socket, close_target: bool = False) -> None:
    with contextlib.suppress(OSError):
        while data := source.recv(1 << 16):
            target.sendall(data)
    if close_target:
        target.close()


def hostname() -> str:
    """This machine's name, without the domain."""
    return socket.gethostname().partition(".")[0]
