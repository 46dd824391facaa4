"""Ctrl-C and SIGTERM: a request to stop after the running step."""

import os
import signal
import threading
from typing import Any


class Interrupted(Exception):
    """A run was asked to stop and has saved its state; `status` is the exit status that shells expect."""

    def __init__(self, number: int, message: str):
        super().__init__(message)
        self.status = 128 + number


class Terminated(KeyboardInterrupt):
    """SIGTERM came where there is nothing to save yet."""


def end_on_sigterm() -> None:
    """SIGTERM from now on raises `Terminated`. (The first process of a container would not even notice it.)"""

    def handle(number: int, _) -> None:
        raise Terminated

    signal.signal(signal.SIGTERM, handle)


class StopSignal:
    """While entered, SIGINT and SIGTERM only set `number`. A second Ctrl-C ends the process at once.

    Attributes:
        number: of the signal that came, None before.
    """

    def __init__(self):
        self.number: int | None = None
        self._before: dict[int, Any] = {}

    def __enter__(self) -> "StopSignal":
        if threading.current_thread() is threading.main_thread():  # Python allows handlers nowhere else
            self._before = {n: signal.signal(n, self._handle) for n in (signal.SIGINT, signal.SIGTERM)}
        return self

    def __exit__(self, *_) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def _handle(self, number: int, _) -> None:
        self.number = number
        # The system's own handler ends the process also while it is inside compiled code, where Python's
        # don't run.
        signal.signal(signal.SIGINT, signal.SIG_DFL)
        # Not print(): the signal may come in the middle of one.
        os.write(2, b"\nstopping after this step and saving; Ctrl-C again stops at once without saving\n")
