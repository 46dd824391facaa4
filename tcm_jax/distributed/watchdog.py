"""Finding and reporting processes that hang or are lost; part of `tcm_jax.distributed`."""

import contextlib
import faulthandler
import itertools
import json
import re
import threading
import time
from types import TracebackType
from typing import Self

from jax.errors import JaxRuntimeError

from tcm_jax.distributed.interrupt import Interrupted
from tcm_jax.distributed.processes import (
    EXIT_PEER_LOST,
    START_SECONDS,
    MissingProcessesError,
    barrier,
    end_process,
    kv_client,
    kv_items,
    kv_set,
    print_unlocked,
    process_names,
)

_EXIT_FAILED = 1
_XLA_STATUS = re.compile("(UNKNOWN|UNAVAILABLE|INTERNAL|DEADLINE_EXCEEDED|ABORTED|CANCELLED|FAILED_PRECONDITION): ")
_FIRST_INTERVAL = 0.5  # seconds between heartbeats until all were heard once
_JOIN_SECONDS = 5.0  # for the threads
_END_SECONDS = 3600.0  # that processes may end apart


class Watchdog:
    """Watches a run: prints where it hangs, and ends it when one of its processes is lost. A context manager.

    Enter it right after `initialize`, before anything that may take long. Every process publishes a heartbeat from a
    thread, so one that compiles or loads for an hour is not lost. Process 0 watches all, the others watch process 0:
    - A process was not heard from for `lost_seconds` (killed, suspended, its machine gone): all others print which one
      and end with status 75, at most 20 s later, wherever they hang. The same when it was process 0.
    - A process left the context with an exception: it can print its message, all others end with status 1 and print it
      too. Not so for `Interrupted`, which comes to all at the same step.
    - An exception of XLA may be the trace of a lost process (a collective that lost its peer): the process first waits
      for the verdict, and only then, if nobody is lost, counts as failed itself.

    Args:
        stall_seconds: after that long without a step, the stacks of all threads are printed, once, and who is behind.
        lost_seconds: see above.
    """

    def __init__(self, stall_seconds: float = 600.0, lost_seconds: float = 60.0) -> None:
        self.stall_seconds, self.lost_seconds = stall_seconds, lost_seconds
        self._interval = min(lost_seconds / 12, 5.0)  # between heartbeats
        _, self._index, self._count = kv_client()
        self._clock = 0.0  # seconds that this process was awake
        self._step, self._step_at, self._stalled = 0, 0.0, False
        self._steps: dict[int, int] = {}  # of each process, known to process 0
        self._behind = ""
        self._verdict: tuple[int, str] | None = None  # exit status and reason
        self._left = threading.Event()

    def __enter__(self) -> Self:
        self._names = process_names()
        watched = range(1, self._count) if self._index == 0 else range(1)
        self._heard = dict.fromkeys(watched, ("", 0.0))  # last heartbeat, and when
        self._threads = [threading.Thread(target=self._watch, name="watchdog", daemon=True)]
        if self._count > 1:
            self._threads.append(threading.Thread(target=self._exchange_heartbeats, name="heartbeat", daemon=True))
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, _: type | None, error: BaseException | None, __: TracebackType | None) -> None:
        if self._count > 1:
            if error is None or isinstance(error, Interrupted):
                barrier("the end of the run", _END_SECONDS)
            else:
                self._report_failure(error)
        self._left.set()
        for thread in self._threads:
            thread.join(_JOIN_SECONDS)

    def step_done(self, step: int) -> None:
        """To be called after every step."""
        if self._stalled:
            waited = self._clock - self._step_at
            print_unlocked(f"{self._names[self._index]} continues with step {step} after {waited:.0f} s")
        self._step, self._step_at, self._stalled = step, self._clock, False

    def _exchange_heartbeats(self) -> None:
        """Has a thread of its own: without process 0 a call does not return."""
        for number in itertools.count():
            with contextlib.suppress(JaxRuntimeError):  # process 0 is unreachable: the clock runs
                if self._index == 0:
                    self._publish_first(number)
                else:
                    kv_set(f"beat/{self._index}", f"{number} {self._step}")
                    first = kv_items("first/")
                    self._hear(0, first.get("beat", ""))
                    self._behind = first.get("behind", "")
                    if "verdict" in first:
                        self._verdict = tuple(json.loads(first["verdict"]))
            all_heard = all(beat for beat, _ in self._heard.values())
            if self._left.wait(self._interval if all_heard else min(self._interval, _FIRST_INTERVAL)):
                return

    def _publish_first(self, number: int) -> None:
        """Process 0 hears the others and publishes its heartbeat, who is behind, and who has failed."""
        for i, beat in kv_items("beat/").items():
            self._hear(int(i), beat)
            self._steps[int(i)] = int(beat.split()[1])
        self._steps[0] = self._step
        slowest = min(self._steps.values())
        behind = [self._names[i] for i, step in self._steps.items() if step == slowest < max(self._steps.values())]
        self._behind = f"; behind, at step {slowest}: {', '.join(behind)}" if behind else ""
        kv_set("first/behind", self._behind)
        kv_set("first/beat", str(number))
        for i, failure in kv_items("failed/").items():
            status, text = json.loads(failure)
            self._verdict = self._verdict or (status, f"{self._names[int(i)]} ended with {text}")

    def _hear(self, index: int, beat: str) -> None:
        if beat != self._heard[index][0]:
            self._heard[index] = beat, self._clock

    def _watch(self) -> None:
        """Ends the process if it must."""
        before = time.monotonic()
        while not self._left.wait(self._interval / 2):
            now = time.monotonic()
            # One that was suspended itself has not listened in the meantime.
            self._clock += min(now - before, self._interval)
            before = now
            self._report_stall()
            verdict = self._verdict or self._lost()
            if verdict and not self._left.is_set():
                self._publish_verdict(verdict)
                status, reason = verdict
                again = "; the same command resumes from the newest checkpoint" if status == EXIT_PEER_LOST else ""
                end_process(status, f"{reason}; {self._names[self._index]} ends with exit status {status}{again}")

    def _report_stall(self) -> None:
        waited = self._clock - self._step_at
        if waited > self.stall_seconds and not self._stalled:
            self._stalled = True
            name, after = self._names[self._index], f"after step {self._step}" if self._step else "before the first one"
            print_unlocked(f"{name}: no step for {waited:.0f} s, {after}{self._behind}. All threads:")
            faulthandler.dump_traceback(2)

    def _lost(self) -> tuple[int, str] | None:
        """The verdict if processes have been silent for too long."""
        ages = {i: self._clock - at for i, (_, at) in self._heard.items()}
        # Until its first heartbeat, a process may still be on its way from `initialize`.
        first = max(self.lost_seconds, START_SECONDS)
        lost = [i for i, (beat, _) in self._heard.items() if ages[i] > (self.lost_seconds if beat else first)]
        if not lost:
            return None
        who = ", ".join(self._names[i] + (f" at step {self._steps[i]}" if i in self._steps else "") for i in lost)
        has, seconds = "has" if len(lost) == 1 else "have", max(ages[i] for i in lost)
        return EXIT_PEER_LOST, f"{who} {has} not been heard from for {seconds:.0f} s"

    def _publish_verdict(self, verdict: tuple[int, str]) -> None:
        """Process 0 must not end before the others know."""
        with contextlib.suppress(JaxRuntimeError):
            if self._index > 0:
                if self._verdict:
                    kv_set(f"knows/{self._index}", "")
                return
            kv_set("first/verdict", json.dumps(verdict))
            alive = {i for i, (_, at) in self._heard.items() if self._clock - at <= self.lost_seconds}
            deadline = time.monotonic() + 2 * self._interval + 2
            while alive - {int(i) for i in [*kv_items("knows/"), *kv_items("failed/")]} and time.monotonic() < deadline:
                time.sleep(self._interval / 10)

    def _report_failure(self, error: BaseException) -> None:
        text = f"{type(error).__name__}: {str(error).partition(chr(10))[0]}"
        missing = isinstance(error, MissingProcessesError)
        if _from_xla(error) and not missing:
            print_unlocked(f"{self._names[self._index]}: {text}. Checking whether all processes are alive")
            time.sleep(self.lost_seconds + 4 * self._interval)  # with a verdict, this is where the process ends
        status = EXIT_PEER_LOST if missing else _EXIT_FAILED
        if self._index == 0:
            self._left.set()
            self._publish_verdict((status, f"{self._names[0]} ended with {text}"))
        else:
            with contextlib.suppress(JaxRuntimeError):
                kv_set(f"failed/{self._index}", json.dumps([status, text]))


def _from_xla(error: BaseException) -> bool:
    """Whether it is, or was caused by, one of XLA's errors, which come as JaxRuntimeError and as ValueError."""
    xla = isinstance(error, JaxRuntimeError) or _XLA_STATUS.match(str(error)) is not None
    return xla or (error.__cause__ is not None and _from_xla(error.__cause__))
