"""Ctrl-C and SIGTERM: a request to stop after the running step."""

import os
import signal
import threading
from types import FrameType
from typing import Any, Self


class Interrupted(Exception):  # noqa: N818 - no more an error than KeyboardInterrupt
    """A run was asked to stop and has saved its state; `status` is the exit status that shells expect."""

    def __init__(self, number: int, message: str) -> None:
        super().__init__(message)
        self.status = 128 + number


class Terminated(KeyboardInterrupt):
    """SIGTERM came where there is nothing to save yet."""


def end_on_sigterm() -> None:
    """SIGTERM from now on raises `Terminated`. (The first process of a container would ignore it otherwise.)"""

    def handle(number: int, _: FrameType | None) -> None:
        raise Terminated

    signal.signal(signal.SIGTERM, handle)


class SignalHandler:
    """While entered, SIGINT and SIGTERM call `handle`. Outside of the main thread it does nothing.

    Attributes:
        received: number of the signal that came, None before.
    """

    received: int | None = None

    def __enter__(self) -> Self:
        in_main = threading.current_thread() is threading.main_thread()  # Python allows handlers nowhere else
        self._before = {n: signal.signal(n, self.handle) for n in (signal.SIGINT, signal.SIGTERM) if in_main}
        return self

    def __exit__(self, *_: Any) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def handle(self, number: int, _: FrameType | None) -> None:
        """Notes the signal."""
        self.received = number


class StopSignal(SignalHandler):
    """While entered, SIGINT and SIGTERM are noted only. A second Ctrl-C ends the process at once."""

    def handle(self, number: int, frame: FrameType | None) -> None:
        """Notes the signal and says what happens next."""
        super().handle(number, frame)
        # The system's own handler ends the process also inside compiled code, where Python's handlers don't run.
        signal.signal(signal.SIGINT, signal.SIG_DFL)
        # Not print(): the signal may come in the middle of one.
        os.write(2, b"\nstopping after this step and saving; Ctrl-C again stops at once without saving\n")
