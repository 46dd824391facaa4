"""Processes of a run start, wait for each other and end; part of `tcm_jax.distributed`."""

import multiprocessing
import os
import sys
import threading
import time
from collections import Counter
from typing import Any, NoReturn

import jax
from jax.errors import JaxRuntimeError

from tcm_jax.distributed import job as jobs

EXIT_PEER_LOST = 75  # exit status when other processes are lost: EX_TEMPFAIL of sysexits.h, "try again"
START_SECONDS = 300.0  # that processes may begin apart
# JAX's own heartbeat aborts the process; it must come later than any `lost_seconds`.
_JAX_HEARTBEAT_SECONDS = 3600
_KEYS = "tcm_jax/"


class MissingProcessesError(RuntimeError):
    """Some processes did not come; the message names them. Exit status: EXIT_PEER_LOST."""


def initialize(
    coordinator_address: str = "", num_processes: int = 0, process_id: int = -1, timeout_seconds: float = START_SECONDS
) -> None:
    """Joins this process to the others of its job, if it has any; to be called before anything uses a device.

    Args:
        coordinator_address: HOST:PORT where process 0 is to listen; num_processes, process_id: of the job and of this
            process. What is not given comes from the environment: see `tcm_jax.distributed.job.find_job`.
        timeout_seconds: the processes may start that far apart.

    Raises:
        JobError: part of what is needed is missing.
        MissingProcessesError: process 0 is unreachable.
    """
    job = jobs.find_job(coordinator_address, num_processes, process_id, os.environ)
    if job is None:
        return
    who = f"process {job.index} of {job.count} on {jobs.hostname()}"
    # It would take over SIGTERM; `tcm_jax.distributed.interrupt` handles that.
    jax.config.update("jax_enable_preemption_service", False)
    address = job.address
    if job.index > 0:
        try:
            jobs.wait_until_up(address, timeout_seconds)
        except OSError as error:
            waited = f"after {timeout_seconds:g} s"
            raise MissingProcessesError(f"{who}: process 0 can't be reached at {address} {waited}: {error}") from error
        address = jobs.start_relay(address)
    # Before JAX's own time-out, which aborts the process.
    missing = f"{who}: not all {job.count} processes have come to process 0 ({job.address}) in {timeout_seconds:g} s"
    timer = threading.Timer(timeout_seconds, end_process, [EXIT_PEER_LOST, missing])
    timer.daemon = True
    timer.start()
    jax.distributed.initialize(
        address,
        job.count,
        job.index,
        local_device_ids=job.devices,
        cluster_detection_method="deactivate",
        initialization_timeout=int(timeout_seconds) + 60,
        heartbeat_timeout_seconds=_JAX_HEARTBEAT_SECONDS,
        shutdown_timeout_seconds=60,
    )
    timer.cancel()
    kv_set(f"process/{job.index}", f"host {jobs.hostname()}, pid {os.getpid()}")
    barrier("the start", timeout_seconds)  # from here on, all know these names


_barrier_calls: Counter[str] = Counter()


def barrier(name: str, timeout_seconds: float) -> None:
    """Returns when all processes have called it with this name, each for as many times.

    Raises:
        MissingProcessesError: some have not, within the time-out.
    """
    client, index, count = kv_client()
    if count == 1:
        return
    _barrier_calls[name] += 1
    folder = f"barrier/{name}/{_barrier_calls[name]}/"
    kv_set(folder + str(index), "")
    start = time.monotonic()
    try:
        client.wait_at_barrier(_KEYS + folder, int(timeout_seconds * 1000))
    except JaxRuntimeError as error:
        missing = sorted(set(range(count)) - {int(i) for i in kv_items(folder)})
        text = (
            f"after {time.monotonic() - start:.0f} s, still missing: {', '.join(process_names()[i] for i in missing)}"
        )
        late = f"{process_names()[index]} came later than the others waited"
        raise MissingProcessesError(f"{name!r}: {text if missing else late}") from error


def kv_client() -> tuple[Any, int, int]:
    """JAX's client of the key-value store that process 0 keeps (None without one), this process's number, and the
    number of processes. Private: JAX has no public way to the store, which also works while devices hang.
    """
    from jax._src import distributed

    state = distributed.global_state
    return state.client, state.process_id, state.num_processes


def kv_set(key: str, value: str) -> None:
    """Sets a key of the store, over an older value."""
    kv_client()[0].key_value_set(_KEYS + key, value, allow_overwrite=True)


def kv_items(folder: str) -> dict[str, str]:
    """Name and value of the keys in a folder, which ends in "/"."""
    return {key.rpartition("/")[2]: value for key, value in kv_client()[0].key_value_dir_get(_KEYS + folder)}


def process_names() -> list[str]:
    """ "process 1 of 2 (host H, pid P)" of each process."""
    client, _, count = kv_client()
    known = kv_items("process/") if client else {}
    details = [f" ({known[str(i)]})" if str(i) in known else "" for i in range(count)]
    return [f"process {i} of {count}{detail}" for i, detail in enumerate(details)]


def print_unlocked(text: str) -> None:
    """A line on stderr, past Python's stream, which a thread that hangs may hold."""
    os.write(2, f"{text}\n".encode())


def exit_process(status: int) -> NoReturn:
    """Ends the process, also when others run on: an ordinary exit waits for all of them, and then aborts."""
    if kv_client()[2] > 1:
        end_process(status)
    sys.exit(status)


def end_process(status: int, text: str = "") -> NoReturn:
    """Ends the process from any thread, whatever the others do; what has been printed is not lost."""
    for child in multiprocessing.active_children():
        child.kill()
    for stream in (sys.stdout, sys.stderr):
        flush = threading.Thread(target=stream.flush, daemon=True)  # the thread that hangs may hold the stream
        flush.start()
        flush.join(2)
    if text:
        print_unlocked(text)
    os._exit(status)
