"""The output of a run: metrics.jsonl, TensorBoard, and a progress bar or lines on the terminal."""

import contextlib
import datetime
import json
import shutil
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Self

import jax
import tensorboardX
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn

from tcm_jax.files import atomic_file, is_remote, local_copy, upload, wrap_remote_errors

_PLAIN_INTERVAL = 5.0  # seconds between lines where there is no terminal
_SYNC_INTERVAL = 60.0  # between uploads


class RunLog:
    """Writes metrics and shows progress; a context manager.

    Args:
        workdir: gets metrics.jsonl, one JSON object a line, and tensorboard/. Of one in an object store, where nothing
            can be appended to, the files are written here and uploaded once a minute, by `sync` and at the end.
        start, total: steps done when the run (re)starts, and in all. Lines of later steps than `start`, left
            by a run that stopped after its last checkpoint, are removed.
        quiet: writes and shows nothing (all processes but the first).
    """

    def __init__(self, workdir: Path, start: int, total: int, quiet: bool = False) -> None:
        self.quiet, self.total = quiet, total
        self._interactive = sys.stdout.isatty() and not quiet
        self._line_at = -_PLAIN_INTERVAL  # when the last plain line was printed
        left = TextColumn("{task.fields[remaining]} left")
        columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), left)
        self._progress = Progress(*columns, console=Console(), disable=not self._interactive)
        self._bar = self._progress.add_task("training", total=total, completed=start, remaining="?")
        if quiet:
            return
        self._remote = workdir if is_remote(workdir) else None
        self._synced_at = time.monotonic()
        self._folder = Path(tempfile.mkdtemp(prefix="tcm_jax-")) if self._remote else workdir
        self._folder.mkdir(parents=True, exist_ok=True)
        path = self._folder / "metrics.jsonl"
        kept = list(_lines_until(workdir / "metrics.jsonl", start))
        with atomic_file(path) as file:
            file.writelines(kept)
        self._file = open(path, "a", encoding="utf-8")  # noqa: SIM115 - __exit__ closes it
        board = str(self._folder / "tensorboard")
        self._board = tensorboardX.SummaryWriter(board, purge_step=start + 1 if start else None)

    def __enter__(self) -> Self:
        self._progress.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._progress.stop()
        if not self.quiet:
            self._file.close()
            self._board.close()
            if self._remote and self.sync():
                shutil.rmtree(self._folder, ignore_errors=True)

    def message(self, text: str) -> None:
        """A line for the user; above the bar."""
        if self._interactive:
            self._progress.console.print(text, markup=False, highlight=False)
        elif not self.quiet:
            print(text, flush=True)

    def write(self, step: int, values: Mapping[str, float], name: str = "train") -> None:
        """A line of metrics; `name` says of what, "train" or "validation/SET"."""
        if self.quiet:
            return
        line = {"step": step, "of": name, **values, "time": round(time.time(), 3)}
        self._file.write(json.dumps(line) + "\n")
        self._file.flush()
        for key, value in values.items():
            self._board.add_scalar(f"{name}/{key}", value, step)
        if time.monotonic() - self._synced_at > _SYNC_INTERVAL:
            self.sync()

    def sync(self) -> bool:
        """Uploads what was written, if the working directory is in an object store.

        Returns:
            whether nothing is left to upload. A failure is printed, and the run continues.
        """
        if self.quiet or self._remote is None:
            return True
        self._synced_at = time.monotonic()
        self._board.flush()
        try:
            upload(self._folder, self._remote)
        except OSError as error:
            self.message(f"the metrics are in {self._folder} and could not be uploaded: {error}")
            return False
        return True

    def progress(self, step: int, loss: float, images_per_second: float, seconds_left: float) -> None:
        """Shows the step, the loss and the rate, on the bar or every few seconds as a line."""
        rate = f"{images_per_second:,.0f} images/s"
        remaining = datetime.timedelta(seconds=round(seconds_left))
        if self._interactive:
            description = f"loss {loss:.4f}  {rate}"
            self._progress.update(self._bar, completed=step, description=description, remaining=remaining)
        elif step == self.total or time.monotonic() - self._line_at > _PLAIN_INTERVAL:
            self._line_at = time.monotonic()
            self.message(f"step {step:,} of {self.total:,}  loss {loss:.4f}  {rate}  {remaining} left")


def _lines_until(path: Path, step: int) -> Iterator[str]:
    """The lines of a metrics.jsonl up to `step`; a line cut off by a crash is left out."""
    with wrap_remote_errors(path):
        if not path.exists():
            return
    with open(local_copy(path), encoding="utf-8") as file:
        for line in file:
            with contextlib.suppress(ValueError, KeyError):
                if json.loads(line)["step"] <= step:
                    yield line


class ThroughputMeter:
    """Images per second and the share of waiting for data; what happens while it is `paused` does not count."""

    def __init__(self) -> None:
        self._images, self._waited, self._start = 0, 0.0, time.monotonic()

    def add(self, images: int) -> None:
        """Counts images of a finished step."""
        self._images += images

    @contextlib.contextmanager
    def paused(self) -> Iterator[None]:
        """A context whose time does not count."""
        start = time.monotonic()
        try:
            yield
        finally:
            self._start += time.monotonic() - start

    def waited(self, seconds: float) -> None:
        """Counts a wait for data in which the devices may have been idle."""
        self._waited += seconds

    def read(self) -> dict[str, float]:
        """The metrics "data_wait" and "images_per_second", over at least a second, as single steps come unevenly.

        "data_wait" is the share of the time in which the devices may have been idle for want of data. It is an upper
        bound: they may have been busy for a part of each wait.
        """
        seconds = max(time.monotonic() - self._start, 1e-9)
        values = {"data_wait": self._waited / seconds, "images_per_second": self._images / seconds}
        if seconds > 1:
            self._images, self._waited, self._start = 0, 0.0, time.monotonic()
        return values


def print_on_host0(text: str) -> None:
    """A line for the user, from process 0 only."""
    if jax.process_index() == 0:
        print(text, flush=True)


def shorten(names: Sequence[Any], limit: int = 10, separator: str = ", ") -> str:
    """The first names, and the number of further ones."""
    more = [f"and {len(names) - limit:,} more"] if len(names) > limit else []
    return separator.join([*names[:limit], *more])
