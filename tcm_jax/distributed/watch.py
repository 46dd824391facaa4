"""Finding and telling what hangs or is lost; part of `tcm_jax.distributed`."""

import faulthandler
import itertools
import json
import re
import threading
import time

from jax.errors import JaxRuntimeError

from tcm_jax.distributed.interrupt import Interrupted
from tcm_jax.distributed.processes import (
    LOST,
    START_SECONDS,
    MissingProcesses,
    barrier,
    connection,
    end,
    names,
    put,
    tell,
    values,
)

_FAILED = 1  # exit status
_XLA_STATUS = re.compile("(UNKNOWN|UNAVAILABLE|INTERNAL|DEADLINE_EXCEEDED|ABORTED|CANCELLED|FAILED_PRECONDITION): ")
_FIRST_INTERVAL = 0.5  # seconds between heartbeats until all were heard once
_JOIN_SECONDS = 5.0  # for the threads
_END_SECONDS = 3600.0  # that processes may end apart


class Watch:
    """Looks after a run: prints where it hangs, and ends it when one of its processes is lost. A context manager.

    Enter it right after `initialize`, before anything that may take long. Every process publishes a heartbeat from a
    thread, so one that compiles or loads for an hour is not lost. Process 0 looks at all, the others look at process 0:
    - A process was not heard from for `lost_seconds` (killed, suspended, its machine gone): all others print which one
      and end with status 75, at most 20 s later, wherever they hang. The same when it was process 0.
    - A process left the context with an exception: it can print its message, all others end with status 1 and print it
      too. Not so for `Interrupted`, which comes to all at the same step.
    - An exception of XLA may be the trace of a lost process (a collective that lost its peer): the process first waits
      for the verdict, and only then, if nobody is lost, counts as failed itself.

    Args:
        stall_seconds: without a step for so long, the stacks of all threads are printed, once, and who is behind.
        lost_seconds: see above.
    """

    def __init__(self, stall_seconds: float = 600.0, lost_seconds: float = 60.0):
        self.stall_seconds, self.lost_seconds = stall_seconds, lost_seconds
        self._interval = min(lost_seconds / 12, 5.0)  # between heartbeats
        _, self._index, self._count = connection()
        self._step = 0
        self._clock = 0.0  # seconds that this process was awake
        self._beat_at = 0.0
        self._stalled = False
        self._steps: dict[int, int] = {}  # of each process, known to process 0
        self._behind = ""
        self._verdict: tuple[int, str] | None = None  # exit status and reason
        self._left = threading.Event()

    def __enter__(self) -> "Watch":
        self._names = names()
        looked_at = range(1, self._count) if self._index == 0 else range(1)
        self._heard = dict.fromkeys(looked_at, ("", 0.0))  # last heartbeat, and when
        self._threads = [threading.Thread(target=self._look, name="watch", daemon=True)]
        if self._count > 1:
            self._threads.append(threading.Thread(target=self._talk, name="heartbeat", daemon=True))
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, _, error: BaseException | None, __) -> None:
        if self._count > 1:
            if error is None or isinstance(error, Interrupted):
                barrier("the end of the run", _END_SECONDS)
            else:
                self._give_up(error)
        self._left.set()
        for thread in self._threads:
            thread.join(_JOIN_SECONDS)

    def beat(self, step: int) -> None:
        """To be called after every step."""
        if self._stalled:
            tell(f"{self._names[self._index]} goes on with step {step} after {self._clock - self._beat_at:.0f} s")
        self._step, self._beat_at, self._stalled = step, self._clock, False

    def _talk(self) -> None:
        """Exchanges heartbeats. Has a thread of its own: without process 0 a call does not return."""
        for number in itertools.count():
            try:
                if self._index == 0:
                    self._talk_to_all(number)
                else:
                    put(f"beat/{self._index}", f"{number} {self._step}")
                    first = values("first/")
                    self._hear(0, first.get("beat", ""))
                    self._behind = first.get("behind", "")
                    if "verdict" in first:
                        self._verdict = tuple(json.loads(first["verdict"]))
            except JaxRuntimeError:
                pass  # process 0 can't be reached: the clock runs
            all_here = all(beat for beat, _ in self._heard.values())
            if self._left.wait(self._interval if all_here else min(self._interval, _FIRST_INTERVAL)):
                return

    def _talk_to_all(self, number: int) -> None:
        for i, beat in values("beat/").items():
            self._hear(int(i), beat)
            self._steps[int(i)] = int(beat.split()[1])
        self._steps[0] = self._step
        slowest = min(self._steps.values())
        behind = [self._names[i] for i, step in self._steps.items() if step == slowest < max(self._steps.values())]
        self._behind = f"; behind, at step {slowest}: {', '.join(behind)}" if behind else ""
        put("first/behind", self._behind)
        put("first/beat", str(number))
        for i, failure in values("failed/").items():
            status, text = json.loads(failure)
            self._verdict = self._verdict or (status, f"{self._names[int(i)]} ended with {text}")

    def _hear(self, index: int, beat: str) -> None:
        if beat != self._heard[index][0]:
            self._heard[index] = beat, self._clock

    def _look(self) -> None:
        """Ends the process if it must."""
        before = time.monotonic()
        while not self._left.wait(self._interval / 2):
            now = time.monotonic()
            # One that was suspended itself has not listened in the meantime.
            self._clock += min(now - before, self._interval)
            before = now
            self._look_for_stall()
            verdict = self._verdict or self._lost()
            if verdict and not self._left.is_set():
                self._pass_on(verdict)
                status, reason = verdict
                again = "; the same command resumes from the newest checkpoint" if status == LOST else ""
                end(status, f"{reason}; {self._names[self._index]} ends with exit status {status}{again}")

    def _look_for_stall(self) -> None:
        waited = self._clock - self._beat_at
        if waited > self.stall_seconds and not self._stalled:
            self._stalled = True
            name, after = self._names[self._index], f"after step {self._step}" if self._step else "before the first one"
            tell(f"{name}: no step for {waited:.0f} s, {after}{self._behind}. All threads:")
            faulthandler.dump_traceback(2)

    def _lost(self) -> tuple[int, str] | None:
        ages = {i: self._clock - at for i, (_, at) in self._heard.items()}
        # Until its first heartbeat, a process may still be on its way from `initialize`.
        patience = {True: self.lost_seconds, False: max(self.lost_seconds, START_SECONDS)}
        lost = [i for i, (beat, _) in self._heard.items() if ages[i] > patience[beat != ""]]
        if not lost:
            return None
        who = ", ".join(self._names[i] + (f" at step {self._steps[i]}" if i in self._steps else "") for i in lost)
        has = "has" if len(lost) == 1 else "have"
        seconds = max(ages[i] for i in lost)
        return LOST, f"{who} {has} not been heard from for {seconds:.0f} s"

    def _pass_on(self, verdict: tuple[int, str]) -> None:
        """Process 0 must not end before the others know."""
        try:
            if self._index > 0:
                if self._verdict:
                    put(f"knows/{self._index}", "")
                return
            put("first/verdict", json.dumps(verdict))
            alive = {i for i, (_, at) in self._heard.items() if self._clock - at <= self.lost_seconds}
            deadline = time.monotonic() + 2 * self._interval + 2
            while alive - {int(i) for i in [*values("knows/"), *values("failed/")]} and time.monotonic() < deadline:
                time.sleep(self._interval / 10)
        except JaxRuntimeError:
            pass

    def _give_up(self, error: BaseException) -> None:
        text = f"{type(error).__name__}: {str(error).partition(chr(10))[0]}"
        if _from_xla(error) and not isinstance(error, MissingProcesses):
            tell(f"{self._names[self._index]}: {text}. Looking whether all processes are there")
            time.sleep(self.lost_seconds + 4 * self._interval)  # with a verdict, this is where the process ends
        status = LOST if isinstance(error, MissingProcesses) else _FAILED
        if self._index == 0:
            self._left.set()
            self._pass_on((status, f"{self._names[0]} ended with {text}"))
        else:
            try:
                put(f"failed/{self._index}", json.dumps([status, text]))
            except JaxRuntimeError:
                pass


def _from_xla(error: BaseException) -> bool:
    """Whether it is, or was caused by, one of XLA's errors, which come as JaxRuntimeError and as ValueError."""
    xla = isinstance(error, JaxRuntimeError) or _XLA_STATUS.match(str(error)) is not None
    return xla or (error.__cause__ is not None and _from_xla(error.__cause__))
