"""What a run tells its user: metrics.jsonl, TensorBoard, and a progress bar or lines on the terminal."""

import contextlib
import datetime
import json
import shutil
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from pathlib import Path

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

    def __init__(self, workdir: Path, start: int, total: int, quiet: bool = False):
        self.quiet, self.total = quiet, total
        self.console = Console(quiet=quiet)
        self.interactive = sys.stdout.isatty()
        self._shown = -_PLAIN_INTERVAL  # when the last plain line was
        left = TextColumn("{task.fields[remaining]} left")
        columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), left)
        self._progress = Progress(*columns, console=self.console, disable=not self.interactive or quiet)
        self._task = self._progress.add_task("training", total=total, completed=start, remaining="?")
        if quiet:
            return
        self._remote = workdir if is_remote(workdir) else None
        self._synced = time.monotonic()
        self._folder = Path(tempfile.mkdtemp(prefix="tcm_jax-")) if self._remote else workdir
        self._folder.mkdir(parents=True, exist_ok=True)
        path = self._folder / "metrics.jsonl"
        kept = list(_lines_until(workdir / "metrics.jsonl", start))
        with atomic_file(path) as file:
            file.writelines(kept)
        self._file = open(path, "a", encoding="utf-8")
        board = str(self._folder / "tensorboard")
        self._board = tensorboardX.SummaryWriter(board, purge_step=start + 1 if start else None)

    def __enter__(self) -> "RunLog":
        self._progress.start()
        return self

    def __exit__(self, *_) -> None:
        self._progress.stop()
        if not self.quiet:
            self._file.close()
            self._board.close()
            if self._remote and self.sync():
                shutil.rmtree(self._folder, ignore_errors=True)

    def message(self, text: str) -> None:
        """A line for the user; above the bar."""
        if self.interactive:
            self.console.print(text, markup=False, highlight=False)
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
        if time.monotonic() - self._synced > _SYNC_INTERVAL:
            self.sync()

    def sync(self) -> bool:
        """Uploads what was written, if the working directory is in an object store.

        Returns:
            whether nothing is left to upload; why it could not be is told, and a run goes on.
        """
        if self.quiet or self._remote is None:
            return True
        self._synced = time.monotonic()
        self._board.flush()
        try:
            upload(self._folder, self._remote)
        except OSError as error:
            self.message(f"the metrics are in {self._folder} and could not be uploaded: {error}")
            return False
        return True

    def progress(self, step: int, loss: float, images_per_second: float, seconds_left: float) -> None:
        """Shows where the run is."""
        rate = f"{images_per_second:,.0f} images/s"
        remaining = datetime.timedelta(seconds=round(seconds_left))
        if self.interactive:
            described = f"loss {loss:.4f}  {rate}"
            self._progress.update(self._task, completed=step, description=described, remaining=remaining)
            return
        now = time.monotonic()
        if now - self._shown < _PLAIN_INTERVAL and step < self.total:
            return
        self._shown = now
        self.message(f"step {step:,} of {self.total:,}  loss {loss:.4f}  {rate}  {remaining} left")


def _lines_until(path: Path, step: int) -> Iterator[str]:
    """The lines of a metrics.jsonl up to `step`; a line cut off by a crash is left out."""
    with wrap_remote_errors(path):
        if not path.exists():
            return
    with open(local_copy(path), encoding="utf-8") as file:
        for line in file:
            try:
                if json.loads(line)["step"] <= step:
                    yield line
            except (ValueError, KeyError):
                continue


class Meter:
    """Images per second; what happens while it is `paused` does not count."""

    def __init__(self):
        self._images, self._began = 0, time.monotonic()
        self._waited, self._looked = 0.0, time.monotonic()

    def add(self, images: int) -> None:
        self._images += images

    @contextlib.contextmanager
    def paused(self) -> Iterator[None]:
        start = time.monotonic()
        try:
            yield
        finally:
            self._began += time.monotonic() - start
            self._looked += time.monotonic() - start

    def waited(self, seconds: float) -> None:
        """Notes a wait for data in which the devices may have stood still."""
        self._waited += seconds

    def wait_share(self) -> float:
        """Share of the time since the last call in which the devices may have stood still for want of data. That is the
        most it can be: they may have been busy for a part of each wait.
        """
        now = time.monotonic()
        share = self._waited / max(now - self._looked, 1e-9)
        self._waited, self._looked = 0.0, now
        return share

    def rate(self) -> float:
        """Images per second, over a second at least: single steps are looked at at odd times."""
        now = time.monotonic()
        rate = self._images / max(now - self._began, 1e-9)
        if now - self._began > 1:
            self._images, self._began = 0, now
        return rate
