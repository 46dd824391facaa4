"""Starting, waiting for each other and ending; part of `tcm_jax.distributed`."""

import multiprocessing
import os
import sys
import threading
import time
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, NoReturn

import jax
from jax.errors import JaxRuntimeError

from tcm_jax.distributed import job as jobs

if TYPE_CHECKING:
    from tcm_jax.distributed.share import Share

LOST = 75  # exit status when other processes are lost: EX_TEMPFAIL of sysexits.h, "try again"
START_SECONDS = 300.0  # that processes may begin apart
# JAX's own heartbeat aborts the process; it must come later than any `lost_seconds`.
_JAX_HEARTBEAT_SECONDS = 3600
_KEYS = "tcm_jax/"


class MissingProcesses(RuntimeError):
    """Some processes did not come; the message names them. Exit status: LOST."""


def initialize(
    coordinator_address: str = "", num_processes: int = 0, process_id: int = -1, timeout_seconds: float = START_SECONDS
) -> None:
    """Joins this process to the others of its job, if it has any; to be called before anything uses a device.

    Args:
        coordinator_address: HOST:PORT where process 0 is to listen; num_processes, process_id: of the job and of this
            process. What is not given comes from the environment: see `tcm_jax.distributed.job.find_job`.
        timeout_seconds: the processes may start so far apart.

    Raises:
        JobError: part of what is needed is missing.
        MissingProcesses: process 0 can't be reached.
    """
    job = jobs.find_job(coordinator_address, num_processes, process_id, os.environ)
    if job is None:
        return
    who = f"process {job.index} of {job.count} on {jobs.host()}"
    # It would take over SIGTERM; `tcm_jax.distributed.interrupt` looks after that.
    jax.config.update("jax_enable_preemption_service", False)
    address = job.address
    if job.index > 0:
        try:
            jobs.wait_until_up(address, timeout_seconds)
        except OSError as error:
            waited = f"after {timeout_seconds:g} s"
            raise MissingProcesses(f"{who}: process 0 can't be reached at {address} {waited}: {error}") from error
        address = jobs.relay(address)
    # Before JAX's own time-out, which aborts the process.
    missing = f"{who}: not all {job.count} processes have come to process 0 ({job.address}) in {timeout_seconds:g} s"
    timer = threading.Timer(timeout_seconds, end, [LOST, missing])
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
    put(f"process/{job.index}", f"host {jobs.host()}, pid {os.getpid()}")
    barrier("the start", timeout_seconds)  # from here on, all know these names


def startup_line(batch_size: int, share: "Share") -> str:
    """Which process this is, where, with which devices and rows of every batch; each process prints its own."""
    size, rows = batch_size // share.count, list[list[int]]()
    for part in share.parts:
        if rows and rows[-1][1] == part * size - 1:
            rows[-1][1] += size
        else:
            rows.append([part * size, (part + 1) * size - 1])
    return (
        f"process {jax.process_index()} of {jax.process_count()} on {jobs.host()} pid {os.getpid()}: "
        f"{jax.local_device_count()} of {jax.device_count()} devices ({jax.local_devices()[0].device_kind}), "
        f"rows {', '.join(f'{first}..{last}' for first, last in rows)} of every batch"
    )


def barrier(name: str, timeout_seconds: float) -> None:
    """Returns when all processes have called it with this name, each for as many times.

    Raises:
        MissingProcesses: some have not, for so long.
    """
    client, index, count = connection()
    if count == 1:
        return
    place = f"barrier/{name}/{_turn(name)}/"
    put(place + str(index), "")
    start = time.monotonic()
    try:
        client.wait_at_barrier(_KEYS + place, int(timeout_seconds * 1000))
    except JaxRuntimeError as error:
        waited = time.monotonic() - start
        missing = sorted(set(range(count)) - {int(i) for i in values(place)})
        if not missing:  # this one came last, and after the others had given up
            raise MissingProcesses(f"{name!r}: {names()[index]} came later than the others waited") from error
        text = ", ".join(names()[i] for i in missing)
        raise MissingProcesses(f"{name!r}: after {waited:.0f} s, still missing: {text}") from error


def leave(status: int) -> NoReturn:
    """Ends the process, also when others go on: an ordinary exit waits for all of them, and then aborts."""
    if connection()[2] > 1:
        end(status)
    sys.exit(status)


def connection() -> tuple[Any, int, int]:
    """JAX's client of the key-value store that process 0 keeps (None without one), this process's number, and how many
    there are. Private: JAX has no public way to the store, which also works while devices hang.
    """
    from jax._src import distributed

    state = distributed.global_state
    return state.client, state.process_id, state.num_processes


def put(key: str, value: str) -> None:
    connection()[0].key_value_set(_KEYS + key, value, allow_overwrite=True)


def values(folder: str) -> dict[str, str]:
    """Name and value of what lies in a folder, which ends in "/"."""
    entries: Sequence[tuple[str, str]] = connection()[0].key_value_dir_get(_KEYS + folder)
    return {key.rpartition("/")[2]: value for key, value in entries}


def names() -> list[str]:
    """ "process 1 of 2 (host H, pid P)" of each process."""
    client, _, count = connection()
    known = values("process/") if client else {}
    details = [f" ({known[str(i)]})" if str(i) in known else "" for i in range(count)]
    return [f"process {i} of {count}{detail}" for i, detail in enumerate(details)]


_turns: dict[str, int] = {}


def _turn(name: str) -> int:
    _turns[name] = _turns.get(name, 0) + 1
    return _turns[name]


def tell(text: str) -> None:
    # Not print(): the thread that hangs may hold the stream.
    os.write(2, f"{text}\n".encode())


def end(status: int, text: str = "") -> NoReturn:
    """Ends the process from any thread, whatever the others do; what has been printed is not lost."""
    for child in multiprocessing.active_children():
        child.kill()
    for stream in (sys.stdout, sys.stderr):
        flush = threading.Thread(target=stream.flush, daemon=True)  # the thread that hangs may hold the stream
        flush.start()
        flush.join(2)
    if text:
        tell(text)
    os._exit(status)
