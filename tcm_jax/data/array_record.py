"""ArrayRecord files: one file or a set of shards as one source, and the writer.

One record: the length of the header (uint32, little-endian), the header (JSON) and the bytes of the image file. See
`tcm_jax.data.words.array_record` and `tcm_jax.data.scenes.array_record` for the headers.

A set of shards is all files NAME-00000-of-00032.arrayrecord, ..., NAME-00031-of-00032.arrayrecord of a folder, or as
TFDS names them, NAME.array_record-00000-of-00032.
"""

import abc
import hashlib
import json
import os
import re
import struct
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from array_record.python.array_record_data_source import ArrayRecordDataSource
from array_record.python.array_record_module import ArrayRecordWriter

from tcm_jax.data.sources import some
from tcm_jax.data.text_files import read_bytes
from tcm_jax.files import absolute, atomic_file, is_remote
from tcm_jax.records import SourceError

# Every ArrayRecord file starts with this block header of the Riegeli format.
SIGNATURE = bytes.fromhex("83af70d10d884a3f")
_LENGTH = struct.Struct("<I")
_NAME = re.compile(r"(.+?)(-\d{5,}-of-\d{5,})?\.array_?record(-\d{5,}-of-\d{5,})?")
_NUMBER = re.compile(r"(?<=-)\d{5,}(?=-of-(\d{5,})(\.array_?record)?$)")  # in the name of a shard


def is_array_record(name: str) -> bool:
    """Whether a file is named as ArrayRecord files are."""
    return _NAME.fullmatch(name) is not None


def is_shard(name: str) -> bool:
    """Whether a file is named as one of a set."""
    return _NUMBER.search(name) is not None


def set_name(name: str) -> str:
    """The name of a file's set: "words" for "words-00000-of-00032.arrayrecord" and "words.array_record"."""
    match = _NAME.fullmatch(name)
    return match[1] if match else name


def shard_name(name: str, number: int, count: int) -> str:
    """The file name of shard `number`, from 0, of `count`."""
    return f"{name}-{number:05d}-of-{count:05d}.arrayrecord"


def shard_sets(files: Iterable[Path]) -> list[list[Path]]:
    """The ArrayRecord files among the `files` of a folder, sorted by name: a list for each set of shards, and for each
    other file.
    """
    sets: dict[str, list[Path]] = {}
    for file in files:
        if is_array_record(file.name) and not file.name.startswith("."):
            sets.setdefault(_NUMBER.sub("*", file.name), []).append(file)
    return list(sets.values())


class ArrayRecordFiles(abc.ABC):
    """Headers and images of the records of an ArrayRecord file, or of a set of shards, by their number.

    The files are opened in each process when first read.

    Args:
        files: one file, or all files of a set as `shard_sets` gives them.
        name: of the source, "" for the name of the file or of the set.

    Attributes:
        path: the first file.

    Raises:
        SourceError: no such file, another format, no records, records of another layout, or a shard is missing.
    """

    kind = "ArrayRecord"
    header = "{}"  # for messages

    def __init__(self, files: str | Path | Sequence[Path], name: str = "") -> None:
        sharded = not isinstance(files, str | Path)
        self.files = [Path(files)] if isinstance(files, str | Path) else list(files)
        self.path = self.files[0]
        if sharded:
            _check_complete(self.files)
        self.name = name or (set_name(self.path.name) if sharded else self.path.name)
        self._where = f"{self.path.parent} ({len(self.files):,} shards)" if sharded else str(self.path)
        for file in self.files:
            if not has_signature(file):
                raise SourceError(f"{file} is not an ArrayRecord file")
        try:
            self._records = ArrayRecordDataSource([str(file) for file in self.files])
        except Exception as error:  # the C++ reader's own exceptions
            raise SourceError(f"{self._where} can't be read as ArrayRecord: {error}") from error
        if len(self) == 0:
            raise SourceError(f"{self._where} is empty: no records")
        self.parts(0)  # another layout is an error now, not in the middle of an epoch

    def __len__(self) -> int:
        return len(self._records)

    def parts(self, index: int) -> tuple[dict[str, Any], bytes]:
        """Header and image file of a record.

        Raises:
            IndexError: out of range.
            SourceError: the record has another layout.
        """
        number = range(len(self))[index]
        data = self._records[number]
        try:
            (length,) = _LENGTH.unpack_from(data)
            header = json.loads(data[_LENGTH.size : _LENGTH.size + length])
            self.check(header)
        except (struct.error, ValueError, KeyError, TypeError) as error:
            raise SourceError(
                f"{self._where}: record {number} has another layout ({error!r}); expected a uint32 header length, "
                f"a JSON header {self.header} and an image file"
            ) from error
        return header, data[_LENGTH.size + length :]

    @abc.abstractmethod
    def check(self, header: dict[str, Any]) -> None:
        """Raises KeyError or TypeError if a header is not of this kind of records."""


def has_signature(file: Path) -> bool:
    """Whether a file begins as ArrayRecord files do; `SourceError` if it can't be read."""
    return read_bytes(file, len(SIGNATURE)) == SIGNATURE


def pack(header: dict[str, Any], image: bytes) -> bytes:
    """The bytes of a record."""
    data = json.dumps(header).encode()
    return _LENGTH.pack(len(data)) + data + image


def write_packed(records: Iterable[bytes], path: str | Path) -> tuple[int, int, str]:
    """Writes `records`, bytes of `pack`, into the ArrayRecord file `path`, replacing it.

    The file appears when it is complete, and depends on the records alone. They are stored one by one and
    uncompressed, which random access wants; image files are compressed already.

    Returns:
        The number of records, and the size in bytes and the SHA-256 of the file.

    Raises:
        OSError: the disk is full, or the folder can't be written.
    """
    path = absolute(path)
    if not is_remote(path):
        path.parent.mkdir(parents=True, exist_ok=True)
    count = 0
    with atomic_file(path, "wb") as file:
        try:
            writer = ArrayRecordWriter(file.name, "group_size:1,uncompressed")  # opens the file itself
            for record in records:
                writer.write(record)
                count += 1
            writer.close()
        except RuntimeError as error:  # what the C++ writer raises, such as for a full disk
            raise OSError(f"{path} can't be written: {error}") from error
        return count, os.path.getsize(file.name), sha256(Path(file.name))


def sha256(path: Path) -> str:
    """The SHA-256 of a file, hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _check_complete(files: Sequence[Path]) -> None:
    """Raises `SourceError` if shards of the set are missing."""
    first = _NUMBER.search(files[0].name)
    if not first:
        return
    there, count, width = {file.name for file in files}, int(first[1]), len(first[0])
    missing = [name for i in range(count) if (name := _NUMBER.sub(f"{i:0{width}d}", files[0].name)) not in there]
    if missing:
        raise SourceError(
            f"{files[0].parent} lacks {len(missing):,} of {count:,} shards: {some(missing)}; copy them there, or run "
            "the command that made the others again"
        )
