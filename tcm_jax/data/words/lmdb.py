"""Word LMDBs in the layout of PARSeq, CLIP4STR and OpenOCR: reader and writer.

Keys: `num-samples` (decimal), `image-%09d` (an image file) and `label-%09d` (UTF-8), counted from 1.
"""

import itertools
import os
import threading
from collections.abc import Iterable, Iterator
from pathlib import Path

import lmdb

from tcm_jax.files import atomic_folder, local_copy
from tcm_jax.images.decoding import ImageError, encoded
from tcm_jax.records import SourceError, WordCrop

_COUNT = b"num-samples"
_MAP_SIZE = 1 << 40  # address space, not disk space: the file grows with its content
_COMMIT_EVERY = 1000

# LMDB refuses to open a file twice in one process and forbids to use an open one after a fork, so the open
# files belong to the process, not to the sources: (device, inode) -> environment.
_open_files: dict[tuple[int, int], lmdb.Environment] = {}
_opening = threading.Lock()


def _close_all() -> None:
    while _open_files:
        _open_files.popitem()[1].close()


if hasattr(os, "register_at_fork"):  # not on Windows, which can't fork
    os.register_at_fork(after_in_child=_close_all)


class LmdbSource:
    """Random access to a word LMDB, opened in each process when it is first read; a `WordSource`.

    Args:
        path: the file (`data.mdb`) or the folder that holds it.
        name: how records are named, as in "name:000000017"; default: the name of the folder.

    Raises:
        SourceError: not an LMDB, not of this layout, no samples, or fewer of them than `num-samples` says.
    """

    kind = "word LMDB"

    def __init__(self, path: str | Path, name: str = "") -> None:
        path = local_copy(path)
        self.path = path / "data.mdb" if path.is_dir() else path
        self.name = name or (self.path.parent.name if self.path.name == "data.mdb" else self.path.name)
        try:
            status = os.stat(self.path)
        except OSError as error:
            raise SourceError(f"{self.path} can't be read: {error.strerror}; expected an LMDB") from error
        self._file = status.st_dev, status.st_ino
        self._length = self._read_length()

    def __len__(self) -> int:
        return self._length

    def __getitem__(self, index: int) -> WordCrop:
        number = range(1, self._length + 1)[index]  # IndexError out of range
        name = f"{self.name}:{number:09d}"
        with self._environment().begin() as transaction:
            image, label = (transaction.get(b"%s-%09d" % (kind, number)) for kind in (b"image", b"label"))
        text = self._text(label, number)
        if image is None:
            raise ImageError(name, f"key 'image-{number:09d}' is missing")
        return WordCrop(image, text, name)

    def labels(self) -> Iterator[str]:
        """All labels in order, without reading the images."""
        with self._environment().begin() as transaction, transaction.cursor() as cursor:
            cursor.set_range(b"label-%09d" % 1)
            entries = cursor.iternext()
            for number in range(1, self._length + 1):
                key, value = next(entries, (None, None))
                yield self._text(value if key == b"label-%09d" % number else None, number)

    def _environment(self) -> lmdb.Environment:
        with _opening:
            if self._file not in _open_files:
                try:
                    _open_files[self._file] = lmdb.open(
                        str(self.path), subdir=False, readonly=True, create=False, lock=False, readahead=False
                    )
                except lmdb.Error as error:
                    raise SourceError(f"{self.path} is not a readable LMDB: {error}") from error
            return _open_files[self._file]

    def _read_length(self) -> int:
        with self._environment().begin() as transaction:
            count = transaction.get(_COUNT)
            entries = transaction.stat()["entries"]
            if count is None:
                keys = list(itertools.islice(transaction.cursor().iternext(values=False), 3))
                raise SourceError(
                    f"{self.path} has no key 'num-samples' but {entries:,} entries, the first {keys}; "
                    "expected the word layout 'num-samples', 'image-%09d', 'label-%09d'"
                )
            if not count.isdigit():
                raise SourceError(f"{self.path}: 'num-samples' is {count[:20]!r}; expected a decimal number")
            length = int(count)
            if length == 0:
                raise SourceError(f"{self.path} is empty: 'num-samples' is 0")
            if entries < 2 * length + 1 or transaction.get(b"label-%09d" % length) is None:
                names = (f"{kind}-{number:09d}" for number in range(1, length + 1) for kind in ("image", "label"))
                missing = next((name for name in names if transaction.get(name.encode()) is None), None)
                raise SourceError(
                    f"{self.path} is incomplete: 'num-samples' is {length:,}, but key {missing!r} is missing "
                    f"({entries:,} entries; expected {2 * length + 1:,})"
                )
        return length

    def _text(self, value: bytes | None, number: int) -> str:
        if value is None:
            raise SourceError(f"{self.path}: key 'label-{number:09d}' is missing; 'num-samples' is {self._length:,}")
        try:
            return value.decode()
        except UnicodeDecodeError as error:
            raise SourceError(f"{self.path}: label-{number:09d} is not UTF-8: {value[:50]!r}") from error


def write_lmdb(records: Iterable[WordCrop], path: str | Path) -> int:
    """Writes `records` as a word LMDB into the new folder `path`; returns their number.

    The folder appears when it is complete. Images given as arrays are stored as PNG.

    Raises:
        FileExistsError: `path` exists.
    """
    number = 0
    with atomic_folder(path) as folder:
        with lmdb.open(str(folder), map_size=_MAP_SIZE, sync=False) as environment:
            transaction = environment.begin(write=True)
            for number, record in enumerate(records, start=1):
                transaction.put(b"image-%09d" % number, encoded(record.image))
                transaction.put(b"label-%09d" % number, record.label.encode())
                if number % _COMMIT_EVERY == 0:
                    transaction.commit()
                    transaction = environment.begin(write=True)
            transaction.put(_COUNT, str(number).encode())
            transaction.commit()
            environment.sync(True)
        (folder / "lock.mdb").unlink(missing_ok=True)
    return number
