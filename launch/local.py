"""Runs a command as several processes of one run, on the CPU of one machine.

    python launch/local.py -n 4 -- python -m tcm_jax.train --config configs/clip4str_base.py:tiny --workdir runs/four
    python launch/local.py -n 2 --devices-per-process 4 -- COMMAND

It is for trying out what a cluster will do: GPUs and TPUs of one machine need one process only. The processes find
each other through JAX_COORDINATOR_ADDRESS, JAX_NUM_PROCESSES and JAX_PROCESS_ID and exchange arrays with Gloo, which
is part of JAX. Their lines start with the process's number. Ctrl-C and SIGTERM are passed on to all. When one fails,
the others have --grace seconds to end by themselves, then they are killed. The exit status is that of the first that
failed (128 + the signal's number for one that was killed).
"""

import argparse
import contextlib
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Sequence
from types import FrameType
from typing import Any, TextIO

GRACE_SECONDS = 90.0  # more than a run needs to notice that a process is lost


def start(command: Sequence[str], processes: int, devices: int = 1, **options: Any) -> list[subprocess.Popen]:
    """Starts the processes, each with `devices` simulated CPU devices; `options` are those of subprocess.Popen."""
    with socket.socket() as free:
        free.bind(("localhost", 0))
        port = free.getsockname()[1]
    environment = {
        "JAX_PLATFORMS": "cpu",
        "PYTHONUNBUFFERED": "1",
        **os.environ,
        "JAX_COORDINATOR_ADDRESS": f"localhost:{port}",
        "JAX_NUM_PROCESSES": str(processes),
        "JAX_NUM_CPU_DEVICES": str(devices),
    }
    return [
        subprocess.Popen(command, env={**environment, "JAX_PROCESS_ID": str(i)}, **options) for i in range(processes)
    ]


def run(command: Sequence[str], processes: int, devices: int = 1, grace: float = GRACE_SECONDS) -> int:
    """Runs the processes to their end and returns the exit status; see above."""
    # In sessions of their own: a terminal's Ctrl-C would reach them twice.
    pipe = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "text": True, "errors": "replace"}
    running = start(command, processes, devices, start_new_session=True, **pipe)

    def pass_on(number: int, _: FrameType | None) -> None:
        for process in running:
            with contextlib.suppress(ProcessLookupError):
                process.send_signal(number)

    before = {number: signal.signal(number, pass_on) for number in (signal.SIGINT, signal.SIGTERM)}
    printers = [threading.Thread(target=_print_lines, args=(i, p.stdout)) for i, p in enumerate(running)]
    for printer in printers:
        printer.start()
    try:
        return _wait(running, grace)
    finally:
        for process in running:
            process.kill()
        for printer in printers:
            printer.join()
        for number, handler in before.items():
            signal.signal(number, handler)


def _wait(running: list[subprocess.Popen], grace: float) -> int:
    first, deadline = 0, float("inf")
    while any(process.poll() is None for process in running) and time.monotonic() < deadline:
        time.sleep(0.05)
        failed = [i for i, process in enumerate(running) if process.poll()]
        if failed and not first:
            status = running[failed[0]].returncode
            first = status if status > 0 else 128 - status
            deadline = time.monotonic() + grace
            print(f"process {failed[0]} ended with exit status {first}; {grace:g} s for the others", file=sys.stderr)
    late = [i for i, process in enumerate(running) if process.poll() is None]
    if late:
        print(f"killed after {grace:g} s: process {', '.join(map(str, late))}", file=sys.stderr)
    return first


def _print_lines(number: int, stream: TextIO) -> None:
    for line in stream:
        print(f"[{number}] {line.rstrip()}", flush=True)


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("-n", "--processes", type=int, default=2, help="default 2")
    parser.add_argument("--devices-per-process", type=int, default=1, metavar="N", help="default 1")
    parser.add_argument("--grace", type=float, default=GRACE_SECONDS, metavar="SECONDS", help="default %(default)g")
    parser.add_argument("command", nargs="+", help="after --")
    arguments = parser.parse_args()
    sys.exit(run(arguments.command, arguments.processes, arguments.devices_per_process, arguments.grace))


if __name__ == "__main__":
    main()
