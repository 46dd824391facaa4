"""A trace of some steps, for TensorBoard's profiler or Perfetto."""

import shutil
import tempfile
from pathlib import Path

import jax

from tcm_jax.files import is_remote, upload

_WARM_UP = 10  # steps of a process before the trace: the first ones fill caches and queues


class Profile:
    """Traces `steps` steps of a run on every process; 0 traces nothing. To be closed after the steps.

    Args:
        folder: gets plugins/profile/TIME/HOST.*, which `tensorboard --logdir` shows.
        start, total: steps done before this process began, and in all.
    """

    def __init__(self, folder: Path, start: int, total: int, steps: int) -> None:
        self.folder = folder
        self._first = max(start + 1, min(start + _WARM_UP, total - steps) + 1)
        self._end = self._first + steps
        self._running = False

    def before_step(self, step: int) -> None:
        """To be called before each step."""
        if step == self._first and step < self._end:
            self._written = Path(tempfile.mkdtemp()) if is_remote(self.folder) else self.folder
            jax.profiler.start_trace(str(self._written))
            self._running = True
        elif step == self._end:
            self.close()

    def close(self) -> None:
        """Ends the trace, if one runs, and writes it."""
        if self._running:
            self._running = False
            jax.profiler.stop_trace()
            if self._written != self.folder:
                upload(self._written, self.folder)
                shutil.rmtree(self._written)
