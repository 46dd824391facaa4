"""A run of several processes: how they start, wait for each other, and end when one of them is lost.

    initialize()
    with Watch() as watch:
        print(startup_line(batch_size, share))
        barrier("the data is open", 600)
        for step in ...:
            watch.beat(step)

With one process all of it works too and waits for nothing.
"""

from tcm_jax.distributed.job import JobError
from tcm_jax.distributed.processes import LOST, MissingProcesses, barrier, initialize, leave, startup_line
from tcm_jax.distributed.watch import Watch

__all__ = ["LOST", "JobError", "MissingProcesses", "Watch", "barrier", "initialize", "leave", "startup_line"]
