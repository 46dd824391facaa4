"""ArrayRecord files: one file or a set of shards as one source; reader and writer of words.

One record: the length of the header (uint32, little-endian), the header (JSON) and the bytes of the image file. The
header of a word is {"label": ..., "name": ...}, that of a scene is told in `tcm_jax.data.scenes.array_record`.

A set of shards is all files NAME-00000-of-00032.arrayrecord, ..., NAME-00031-of-00032.arrayrecord of a folder, or as
TFDS calls them, NAME.array_record-00000-of-00032.
"""

import contextlib
import hashlib
import json
import os
import re
import struct
import tempfile
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from array_record.python.array_record_data_source import ArrayRecordDataSource
from array_record.python.array_record_module import ArrayRecordWriter

from tcm_jax.files import absolute, is_remote, upload
from tcm_jax.images.decoding import encoded
from tcm_jax.records import SourceError, WordCrop

# Every ArrayRecord file starts with this block header of the Riegeli format.
SIGNATURE = bytes.fromhex("83af70d10d884a3f")
SUFFIX = ".arrayrecord"
_LENGTH = struct.Struct("<I")
_NAME = re.compile(r"(?P<name>.+)\.array_?record(-\d{5,}-of-\d{5,})?")
_SHARD = re.compile(r"(?P<head>.+-)(?P<number>\d{5,})(?P<middle>-of-)(?P<count>\d{5,})(?P<tail>\.array_?record)?")
_SHOWN = 5  # missing shards in a message


def is_array_record(name: str) -> bool:
    """Whether a file is called as ArrayRecord files are."""
    return _NAME.fullmatch(name) is not None


def is_shard(name: str) -> bool:
    """Whether a file is called as one of a set."""
    return _SHARD.fullmatch(name) is not None


def set_name(name: str) -> str:
    """What a file's set is called: "words" for "words-00000-of-00032.arrayrecord" and "words.array_record"."""
    match = _NAME.fullmatch(name)
    shard = _SHARD.fullmatch(match["name"] if match else name)
    return shard["head"].removesuffix("-") if shard else match["name"] if match else name


def shard_name(name: str, number: int, count: int) -> str:
    """The file name of shard `number`, from 0, of `count`."""
    return f"{name}-{number:05d}-of-{count:05d}{SUFFIX}"


def shard_sets(files: Sequence[Path]) -> list[list[Path]]:
    """The ArrayRecord files of one folder, sorted by name: the shards of a set together, any other file alone."""
    sets: dict[tuple[str, ...], list[Path]] = {}
    for file in files:
        shard = _SHARD.fullmatch(file.name)
        key = (shard["head"], shard["count"], shard["tail"] or "") if shard else (file.name,)
        sets.setdefault(key, []).append(file)
    return list(sets.values())


class ArrayRecordFiles:
    """Headers and images of the records of an ArrayRecord file, or of a set of shards, by their number.

    The files are opened in each process when first read.

    Args:
        files: one file, or all files of a set as `shard_sets` gives them.
        name: what the source is called, "" for the name of the file or of the set.

    Attributes:
        path: the first file.

    Raises:
        SourceError: no such file, another format, no records, records of another layout, or a shard is missing.
    """

    kind = "ArrayRecord"
    header = "{}"  # for messages

    def __init__(self, files: str | Path | Sequence[Path], name: str = ""):
        self.files = [Path(files)] if isinstance(files, str | Path) else list(files)
        self.path = self.files[0]
        sharded = not isinstance(files, str | Path)
        if sharded:
            _check_complete(self.files)
        self.name = name or (set_name(self.path.name) if sharded else self.path.name)
        self._where = f"{self.path.parent} ({len(self.files):,} shards)" if sharded else str(self.path)
        for file in self.files:
            _check_signature(file)
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
        """Header and image of a record; IndexError out of range."""
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

    def check(self, header: dict[str, Any]) -> None:
        """Raises KeyError or TypeError if a header is not of this kind of records."""


class ArrayRecordSource(ArrayRecordFiles):
    """Random access to the word records of an ArrayRecord file or a set of shards; a `WordSource`."""

    kind = "ArrayRecord file"
    header = '{"label", "name"}'

    def __getitem__(self, index: int) -> WordCrop:
        header, image = self.parts(index)
        return WordCrop(image, header["label"], f"{self.name}:{index:09d} {header['name']}")

    def labels(self) -> Iterator[str]:
        """All labels in order; the images are read too, as the format stores each record in one piece."""
        for index in range(len(self)):
            yield self.parts(index)[0]["label"]

    def check(self, header: dict[str, Any]) -> None:
        if not (isinstance(header["label"], str) and isinstance(header["name"], str)):
            raise TypeError("label and name must be strings")


def pack(header: dict[str, Any], image: bytes) -> bytes:
    """The bytes of a record."""
    data = json.dumps(header).encode()
    return _LENGTH.pack(len(data)) + data + image


def pack_word(record: WordCrop) -> bytes:
    """The bytes of a word; an image given as an array becomes a PNG."""
    return pack({"label": record.label, "name": record.name}, encoded(record.image))


def write_array_record(records: Iterable[WordCrop], path: str | Path) -> int:
    """Writes words into the ArrayRecord file `path`, replacing it; returns their number."""
    return write_packed(map(pack_word, records), path).records


class Written(NamedTuple):
    """What a file holds: number of records, size and SHA-256 of the file."""

    records: int
    bytes: int
    sha256: str


def write_packed(records: Iterable[bytes], path: str | Path) -> Written:
    """Writes `records`, bytes of `pack`, into the ArrayRecord file `path`, replacing it.

    The file appears when it is complete, and depends on the records alone. They are stored one by one and
    uncompressed, which random access wants; image files are compressed already.

    Raises:
        OSError: the disk is full, or the folder can't be written.
    """
    count = 0
    with _file_to_fill(absolute(path)) as file:
        try:
            writer = ArrayRecordWriter(str(file), "group_size:1,uncompressed")
            for record in records:
                writer.write(record)
                count += 1
            writer.close()
        except RuntimeError as error:  # what the C++ writer raises, such as for a full disk
            raise OSError(f"{path} can't be written: {error}") from error
        return Written(count, file.stat().st_size, sha256(file))


def sha256(path: Path) -> str:
    """Of a file, hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


@contextlib.contextmanager
def _file_to_fill(path: Path) -> Iterator[Path]:
    """As `atomic_file`, for a writer that opens its file itself and has to be given a name."""
    if is_remote(path):
        with tempfile.TemporaryDirectory(prefix="tcm_jax-") as folder:
            yield Path(folder, path.name)
            upload(Path(folder), path.parent)
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, temporary = tempfile.mkstemp(prefix=f".{path.name}-", dir=path.parent)
    os.close(handle)
    try:
        yield Path(temporary)
        os.chmod(temporary, 0o644)  # mkstemp's files are private
        os.replace(temporary, path)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise


def _check_signature(file: Path) -> None:
    try:
        with open(file, "rb") as opened:
            known = opened.read(len(SIGNATURE)) == SIGNATURE
    except OSError as error:
        raise SourceError(f"{file} can't be read: {error.strerror}; expected an ArrayRecord file") from error
    if not known:
        raise SourceError(f"{file} is not an ArrayRecord file")


def _check_complete(files: Sequence[Path]) -> None:
    shard = _SHARD.fullmatch(files[0].name)
    if not shard:
        return
    there = {file.name for file in files}
    names = (
        f"{shard['head']}{number:0{len(shard['number'])}d}{shard['middle']}{shard['count']}{shard['tail'] or ''}"
        for number in range(int(shard["count"]))
    )
    missing = [name for name in names if name not in there]
    if missing:
        more = ", ..." if len(missing) > _SHOWN else ""
        raise SourceError(
            f"{files[0].parent} lacks {len(missing):,} of {int(shard['count']):,} shards: "
            f"{', '.join(missing[:_SHOWN])}{more}; copy them there, or run the command that made the others again"
        )
