"""Output files that are either complete or not there."""

import contextlib
import os
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


def check_writable(path: str | os.PathLike | None, option: str) -> None:
    """Raises OSError if `path`, the value of a command's `option`, can't be written (None can)."""
    if path is None:
        return
    folder = Path(path).absolute().parent
    if not os.access(folder, os.W_OK):
        problem = "can't be written" if folder.is_dir() else "doesn't exist"
        raise OSError(f"{option} {path}: the folder {folder} {problem}")
