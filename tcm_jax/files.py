"""Output files and folders that are either complete or not there."""

import contextlib
import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import IO


@contextlib.contextmanager
def atomic_file(path: str | os.PathLike, mode: str = "w") -> Iterator[IO]:
    """A file to write ("w" for UTF-8 text, "wb" for bytes) that gets the name `path` when all is written."""
    path = Path(path).absolute()
    handle, temporary = tempfile.mkstemp(prefix=f".{path.name}-", dir=path.parent)
    try:
        with os.fdopen(handle, mode, encoding=None if "b" in mode else "utf-8") as file:
            yield file
        os.chmod(temporary, 0o644)  # mkstemp's files are private
        os.replace(temporary, path)
    except BaseException:
        os.unlink(temporary)
        raise


@contextlib.contextmanager
def atomic_folder(path: str | os.PathLike, replace: bool = False) -> Iterator[Path]:
    """An empty folder to fill, which gets the name `path` when all is written; its parents are made.

    Raises:
        FileExistsError: `path` exists, and it is not to be replaced.
    """
    path = Path(path).absolute()
    if path.exists() and not replace:
        raise FileExistsError(f"{path} exists; give a new folder")
    path.parent.mkdir(parents=True, exist_ok=True)
    folder = Path(tempfile.mkdtemp(prefix=f".{path.name}-", dir=path.parent))
    aside = None
    try:
        yield folder
        folder.chmod(0o755)  # mkdtemp's folders are private
        if path.exists():
            # A folder can't be replaced in one step: the old one steps aside first and goes last.
            aside = Path(tempfile.mkdtemp(prefix=f".{path.name}-old-", dir=path.parent))
            os.replace(path, aside / "old")
        os.replace(folder, path)
    finally:
        for leftover in (folder, aside):
            if leftover:
                shutil.rmtree(leftover, ignore_errors=True)


def check_writable(path: str | os.PathLike | None, option: str) -> None:
    """Raises OSError if `path`, the value of a command's `option`, can't be written (None can)."""
    if path is None:
        return
    folder = Path(path).absolute().parent
    if not os.access(folder, os.W_OK):
        problem = "can't be written" if folder.is_dir() else "doesn't exist"
        raise OSError(f"{option} {path}: the folder {folder} {problem}")
