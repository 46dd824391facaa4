"""A run of several processes: how they start, wait for each other, and end when one of them is lost.

    initialize()
    with Watchdog() as watchdog:
        barrier("the data is open", 600)
        for step in ...:
            watchdog.step_done(step)

With one process all of it works too and waits for nothing.
"""

from tcm_jax.distributed.job import JobError
from tcm_jax.distributed.processes import EXIT_PEER_LOST, MissingProcessesError, barrier, exit_process, initialize
from tcm_jax.distributed.watchdog import Watchdog

__all__ = [
    "EXIT_PEER_LOST",
    "JobError",
    "MissingProcessesError",
    "Watchdog",
    "barrier",
    "exit_process",
    "initialize",
]
