"""Local paths and paths in object stores (gs://bucket/...), and output that is either complete or not there.

All that is special about object stores is in this file. They have objects and no folders; an object appears at once and
can't be appended to or renamed. So output is written to a temporary local file and uploaded when it is complete, and
input that must be a real file is copied to this machine once.
"""

import contextlib
import errno
import glob
import hashlib
import importlib.util
import json
import os
import re
import shutil
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import IO, Any, cast

import fsspec
from etils import epath
from rich.console import Console
from rich.progress import BarColumn, DownloadColumn, Progress, TimeRemainingColumn

_SCHEME = re.compile(r"([A-Za-z][A-Za-z0-9+.-]+)://")
_DRIVERS = {  # scheme -> package that is needed, its name for pip
    "gs": ("gcsfs", "tcm_jax[gcs]"),
    "s3": ("s3fs", "s3fs"),
    "az": ("adlfs", "adlfs"),
    "hf": ("huggingface_hub", "huggingface_hub"),
}
_VERSIONS = ("etag", "ETag", "generation", "mtime", "LastModified", "last_modified", "created")
_FILES_AT_A_TIME = 256  # in a download
_MIN_REPORTED = 10e6  # bytes of a copy

# epath would use TensorFlow's file systems wherever that is installed.
os.environ.setdefault("EPATH_USE_TF", "0")
for _scheme in _DRIVERS:
    # Another process may have written a moment ago, and cached listings never expire.
    fsspec.config.conf.setdefault(_scheme, {}).setdefault("use_listings_cache", False)


class RemoteError(OSError):
    """A path of an object store can't be used; the message says why and what to do."""


def is_remote(path: str | os.PathLike) -> bool:
    """Whether `path` is one of an object store, such as gs://bucket/a."""
    return _SCHEME.match(os.fspath(path)) is not None


def as_path(*parts: str | os.PathLike) -> Path:
    """The path of `parts`; what precedes an absolute or remote part is dropped, as in `pathlib.Path`.

    Returns:
        a `pathlib.Path`, or for an object store an `etils.epath.Path`, which has its methods. `Path(...)` of that would
        make "gs:/bucket" of it, and so would its `absolute()` and `resolve()`: see `absolute`.

    Raises:
        RemoteError: no such kind of object store is known, or the package for it is missing.
    """
    texts = [os.fspath(part) for part in parts]
    start = max((i for i, text in enumerate(texts) if is_remote(text) or os.path.isabs(text)), default=0)
    scheme = _SCHEME.match(texts[start])
    if not scheme:
        return Path(*texts[start:])
    if scheme[1] not in _DRIVERS:
        raise RemoteError(f"{texts[start]}: unknown scheme {scheme[1]!r}; expected one of {', '.join(_DRIVERS)}")
    package, name = _DRIVERS[scheme[1]]
    if importlib.util.find_spec(package) is None:
        raise RemoteError(f'{texts[start]}: the package {package} is missing; install it with: pip install "{name}"')
    return cast(Path, epath.Path(texts[start]).joinpath(*texts[start + 1 :]))


def absolute(path: str | os.PathLike) -> Path:
    """`path` below the current folder if it is relative; remote ones are as they are."""
    path = as_path(path)
    return path if is_remote(path) else path.absolute()


@contextlib.contextmanager
def wrap_remote_errors(path: str | os.PathLike) -> Iterator[None]:
    """A context of access to `path`: what a driver of an object store raises becomes a RemoteError that names it."""
    try:
        yield
    except (FileNotFoundError, FileExistsError, RemoteError):
        raise
    except Exception as error:
        if not is_remote(path) or getattr(error, "errno", None) == errno.ENOSPC:
            raise
        reason = str(error).strip().split("\n")[0][:300]
        raise RemoteError(
            f"{path} can't be reached: {type(error).__name__}: {reason}; are the network and the credentials there "
            "(gs://: gcloud auth application-default login), and do they allow it?"
        ) from error


def matching(pattern: str) -> list[str]:
    """The files whose paths match a pattern with `*`, `?`, `[...]` or `**`, sorted."""
    if not is_remote(pattern):
        return sorted(path for path in glob.glob(pattern, recursive=True) if os.path.isfile(path))
    with wrap_remote_errors(as_path(pattern)):
        store, root = fsspec.core.url_to_fs(pattern)
        found = store.glob(root, detail=True)
        return sorted(store.unstrip_protocol(name) for name, info in found.items() if info["type"] == "file")


@contextlib.contextmanager
def atomic_file(path: str | os.PathLike, mode: str = "w") -> Iterator[IO]:
    """A file to write ("w" for UTF-8 text, "wb" for bytes) that gets the name `path` when all is written.

    In text, bytes of file names that are not UTF-8 become escapes (\\udce9), in JSON those that give the name back.
    """
    path = absolute(path)
    encoding, errors = (None, None) if "b" in mode else ("utf-8", "backslashreplace")
    with _temporary_folder_beside(path) as folder:
        with open(folder / path.name, mode, encoding=encoding, errors=errors) as file:
            yield file
        if is_remote(path):
            upload(folder, path.parent)
        else:
            os.replace(folder / path.name, path)


@contextlib.contextmanager
def atomic_folder(path: str | os.PathLike, replace: bool = False, last: str = "") -> Iterator[Path]:
    """An empty folder to fill, which gets the name `path` when all is written; its parents are made.

    Args:
        replace: what is at `path` is removed, at the last moment.
        last: the file without which the folder does not count. In an object store, where files appear one by one, it is
            removed first and uploaded last.

    Raises:
        FileExistsError: `path` exists, and it is not to be replaced.
    """
    path = absolute(path)
    with wrap_remote_errors(path):
        if not replace and path.exists():
            raise FileExistsError(f"{path} exists; give a new folder")
        if not is_remote(path):
            path.parent.mkdir(parents=True, exist_ok=True)
    with _temporary_folder_beside(path) as temporary:
        folder = temporary / "new"
        folder.mkdir()
        yield folder
        if is_remote(path):
            upload(folder, path, last, replace)
            return
        if path.exists():  # a folder can't be replaced in one step
            os.replace(path, temporary / "old")
        os.replace(folder, path)


@contextlib.contextmanager
def _temporary_folder_beside(path: Path) -> Iterator[Path]:
    """A folder in that of `path`, from where files can be renamed to it; for a remote path a local folder anywhere."""
    parent = None if is_remote(path) else path.parent
    with tempfile.TemporaryDirectory(prefix=f".{path.name}-", dir=parent, ignore_cleanup_errors=True) as folder:
        yield Path(folder)


def check_writable(path: str | os.PathLike | None, option: str) -> None:
    """Raises OSError if `path`, the value of a command's `option`, can't be written (None can).

    Whether an object store takes what is written can't be known before.
    """
    if path is None or is_remote(as_path(path)):
        return
    folder = Path(path).absolute().parent
    if not os.access(folder, os.W_OK):
        problem = "can't be written" if folder.is_dir() else "doesn't exist"
        raise OSError(f"{option} {path}: the folder {folder} {problem}")


def upload(folder: Path, path: Path, last: str = "", replace: bool = False) -> None:
    """Copies the files in `folder` and below it to the remote `path`, over older ones.

    Args:
        last: the file, relative to `folder`, that is uploaded last, and with `replace` also removed first.
        replace: other files at `path` are removed.

    Raises:
        RemoteError: the object store is unreachable or refuses them.
    """
    with wrap_remote_errors(path):
        store, root = fsspec.core.url_to_fs(os.fspath(path))
        names = [file.relative_to(folder).as_posix() for file in sorted(folder.rglob("*")) if file.is_file()]
        old = {name.removeprefix(root).lstrip("/") for name in store.find(root)} if replace else set()
        if last in old:
            store.rm(f"{root}/{last}")
        for group in ([name for name in names if name != last], [last] * (last in names)):
            if group:
                store.put([str(folder / name) for name in group], [f"{root}/{name}" for name in group])
            if left := sorted(old - {*names, last}):
                store.rm([f"{root}/{name}" for name in left])
                old = set()


def local_copy(path: str | os.PathLike, with_folder: bool = False) -> Path:
    """A real file or folder with the contents of `path`, for what can't read objects: LMDB, ArrayRecord, images.

    A remote one is copied, once, to a folder below $TCM_JAX_CACHE (default: ~/.cache/tcm_jax), where everything may
    be deleted. The folder is a function of the names, sizes and versions of the files, so that what has changed is
    copied anew. A copy that was stopped is resumed; of several processes one copies and the others wait.

    Args:
        with_folder: if `path` is a file, all of its folder is copied, such as the images beside a label file.

    Returns:
        the copy, whose path ends as `path` does: that of gs://bucket/a/b in bucket/a/b. A local path is returned as is.

    Raises:
        FileNotFoundError: nothing is there.
        RemoteError: it can't be read, or there is no space for it.
    """
    path = as_path(path)
    if not is_remote(path):
        return path
    with wrap_remote_errors(path):
        store, root = fsspec.core.url_to_fs(os.fspath(path))
        if with_folder and store.isfile(root):
            return local_copy(path.parent) / path.name
        sizes, version = _listing(store, root)
    if not sizes:
        raise FileNotFoundError(f"{path} does not exist, or is empty")
    if any(".." in name.split("/") for name in sizes):
        raise RemoteError(f"{path} has a file with '..' in its path; it can't be copied to a folder")
    cache = Path(os.environ.get("TCM_JAX_CACHE") or Path.home() / ".cache" / "tcm_jax")
    digest = hashlib.sha256(f"{path} {version}".encode()).hexdigest()[:16]
    target = cache / digest / os.fspath(path).split("://")[1]

    def missing() -> list[str]:
        return [name for name, size in sizes.items() if not _has_size(target / name, size)]

    if missing():
        import fcntl  # not on Windows

        cache.mkdir(parents=True, exist_ok=True)
        with open(cache / f"{digest}.lock", "w") as lock, wrap_remote_errors(path):
            fcntl.flock(lock, fcntl.LOCK_EX)  # until the file is closed, or its process ends
            if names := missing():
                total, free = sum(sizes[name] for name in names), shutil.disk_usage(cache).free
                if total > free:
                    raise RemoteError(
                        f"{path} needs {total / 1e6:,.0f} MB in {cache}, where {free / 1e6:,.0f} MB are free; make "
                        "room, or name another folder in the environment variable TCM_JAX_CACHE"
                    )
                if total > _MIN_REPORTED:
                    print(f"copying {path} ({len(names):,} files, {total / 1e6:,.1f} MB) to {target}", file=sys.stderr)
                _download(store, root, target, names, sizes)
    return target


def _listing(store: Any, root: str) -> tuple[dict[str, int], str]:
    """Sizes of the files at `root` by relative path ("" if it is a file itself), and what changes if one does."""
    sizes, versions = {}, []
    for name, info in sorted(store.find(root, detail=True).items()):
        if not name.endswith("/"):  # what consoles make for an empty folder
            sizes[name.removeprefix(root).lstrip("/")] = int(info["size"])
            versions.append([name, info["size"], str(next((info[key] for key in _VERSIONS if key in info), ""))])
    return sizes, json.dumps(versions)


def _download(store: Any, root: str, target: Path, names: list[str], sizes: Mapping[str, int]) -> None:
    """Copies the files `names` at `root` to `target`, where they get their names when they are complete."""
    columns = (BarColumn(), DownloadColumn(), TimeRemainingColumn())
    with Progress(*columns, console=Console(stderr=True), disable=not sys.stderr.isatty()) as progress:
        task = progress.add_task("copying", total=sum(sizes[name] for name in names))
        counter = _ByteCounter(lambda count: progress.advance(task, count))
        for i in range(0, len(names), _FILES_AT_A_TIME):
            # Under another name until then: drivers make a file of the full size before they fill it.
            parts = {name: Path(f"{target / name}.part") for name in names[i : i + _FILES_AT_A_TIME]}
            objects = [f"{root}/{name}" if name else root for name in parts]
            store.get(objects, [str(part) for part in parts.values()], callback=counter)
            for name, part in parts.items():
                if not _has_size(part, sizes[name]):
                    raise RemoteError(f"{root}/{name} has changed while it was copied; start again")
                os.replace(part, target / name)


class _ByteCounter(fsspec.Callback):
    """Calls `advance` with the bytes of all files of a transfer as they come."""

    def __init__(self, advance: Callable[[int], None], of_file: bool = False) -> None:
        super().__init__()
        self._advance, self._of_file = advance, of_file

    def branched(self, path_1: str, path_2: str, **_: Any) -> "_ByteCounter":
        """The callback of one file."""
        return _ByteCounter(self._advance, of_file=True)

    def relative_update(self, inc: int = 1) -> None:
        """Counts bytes; the callback of the transfer itself would count files."""
        if self._of_file:
            self._advance(inc)


def _has_size(file: Path, size: int) -> bool:
    return file.is_file() and file.stat().st_size == size


def write_json(path: Path, value: Any) -> None:
    """Writes a JSON file, complete or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with atomic_file(path) as file:
        file.write(json.dumps(value, indent=1, ensure_ascii=False) + "\n")
