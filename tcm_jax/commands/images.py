"""What the commands that read images have in common: their inputs, progress, rows of output, overlays."""

import contextlib
import glob
import io
import json
import os
import sys
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import IO, Any

from tcm_jax.commands.command_line import INTERRUPTED, progress_bar
from tcm_jax.files import as_path, atomic_file, matching, wrap_remote_errors
from tcm_jax.images.decoding import ImageError
from tcm_jax.images.inputs import image_files

MODEL_HELP = "model directory or training workdir (its best, else its last); default: the package's own"


def find_images(arguments: Sequence[str]) -> list[str]:
    """The files that paths, folders and patterns name. A path that doesn't exist stays, to be reported later.

    Raises:
        ValueError: a folder or a pattern without images.
    """
    files: list[str] = []
    for argument in arguments:
        path = as_path(argument)
        with wrap_remote_errors(path):
            is_folder, exists = path.is_dir(), path.exists()
        if is_folder:
            files += map(str, image_files(path))
        elif glob.has_magic(argument) and not exists:
            matches = matching(argument)
            if not matches:
                raise ValueError(f"no file matches {argument}")
            files += matches
        else:
            files.append(argument)
    return files


class ImageProgress:
    """The way through the images of a command: a bar, errors as they come, and the exit code at the end.

    Args:
        total: number of images.
        quiet: no bar.
    """

    def __init__(self, total: int, quiet: bool) -> None:
        self._total, self._quiet = total, quiet
        self._done = self._failed = 0
        self._interrupted = False

    def through(self, outcomes: Iterable[Any], report: Callable[[int, Any], None]) -> None:
        """Calls `report` with the index and the outcome of each image that could be read.

        Ctrl-C ends it early, so that what is done can be kept.
        """
        if isinstance(sys.stdout, io.TextIOWrapper):  # names of files may hold bytes that are no text
            sys.stdout.reconfigure(errors="backslashreplace")
        with progress_bar("images", self._total, self._quiet or self._total < 2) as advance:
            try:
                for index, outcome in enumerate(outcomes):
                    if isinstance(outcome, ImageError):
                        print(f"error: {outcome}", file=sys.stderr)
                        self._failed += 1
                    else:
                        report(index, outcome)
                    self._done += 1
                    advance()
            except KeyboardInterrupt:
                self._interrupted = True

    @property
    def succeeded(self) -> int:
        """Images that could be read."""
        return self._done - self._failed

    def exit(self) -> None:
        """Ends the program if Ctrl-C was pressed (code 130) or images couldn't be read (code 1)."""
        if self._interrupted:
            print(f"interrupted after {self._done:,} of {self._total:,} images", file=sys.stderr)
            sys.exit(INTERRUPTED)
        if self._failed:
            sys.exit(f"{self._failed:,} of {self._total:,} images can't be read")


@contextlib.contextmanager
def background(limit: int = 4) -> Iterator[Callable[..., None]]:
    """Yields a function that runs others in a thread, at most `limit` of them waiting; all are done at the end."""
    waiting: deque[Future] = deque()
    with ThreadPoolExecutor(1, thread_name_prefix="overlays") as pool:

        def submit(function: Callable[..., Any], *arguments: Any) -> None:
            if len(waiting) == limit:
                waiting.popleft().result()
            waiting.append(pool.submit(function, *arguments))

        yield submit
        for future in waiting:
            future.result()


def output_file(path: Path | None) -> contextlib.AbstractContextManager[IO | None]:
    """The file that rows go to, complete or not at all; None without a path."""
    return atomic_file(path) if path else contextlib.nullcontext()


def print_row(row: dict[str, Any], short: str, as_json: bool, file: IO | None = None) -> None:
    """Prints `row` as JSON, or `short`; writes the JSON line to `file`, too."""
    line = json.dumps(row, ensure_ascii=False)
    if file is not None:
        file.write(line + "\n")
    print(line if as_json else short, flush=True)


def overlay_paths(files: Sequence[str], folder: Path) -> list[Path]:
    """A JPEG file in `folder` for each of `files`, named as it, and with a number where another has this name.

    Raises:
        ValueError: one of `files` is in `folder`; its overlay could replace it.
    """
    if any(os.path.realpath(as_path(file).parent) == os.path.realpath(folder) for file in files):
        raise ValueError(f"--out {folder} holds images that are read; give another folder for their overlays")
    paths: list[Path] = []
    taken: set[str] = set()
    for file in files:
        stem = Path(file).stem
        names = (stem if number == 1 else f"{stem}-{number}" for number in range(1, len(files) + 1))
        name = next(name for name in names if name.lower() not in taken)
        taken.add(name.lower())
        paths.append(folder / f"{name}.jpg")
    return paths
