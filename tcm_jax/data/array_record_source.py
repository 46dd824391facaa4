"""Word records in ArrayRecord files: reader and writer.

One record: the length of the header (uint32, little-endian), the header (JSON, {"label": ..., "name": ...})
and the bytes of the image file.
"""

import json
import os
import struct
import tempfile
from collections.abc import Iterable, Iterator
from pathlib import Path

from array_record.python.array_record_data_source import ArrayRecordDataSource
from array_record.python.array_record_module import ArrayRecordWriter

from tcm_jax.data.images import encoded
from tcm_jax.data.records import Record, SourceError

# Every ArrayRecord file starts with this block header of the Riegeli format.
SIGNATURE = bytes.fromhex("83af70d10d884a3f")
_LENGTH = struct.Struct("<I")


class ArrayRecordSource:
    """Random access to the word records of one ArrayRecord file, opened in each process when first read.

    Raises:
        SourceError: no such file, another format, no records, or records of another layout.
    """

    kind = "ArrayRecord file"

    def __init__(self, path: str | Path, name: str | None = None):
        self.path = Path(path)
        self.name = name or self.path.name
        try:
            with open(self.path, "rb") as file:
                known = file.read(len(SIGNATURE)) == SIGNATURE
            if not known:
                raise SourceError(f"{self.path} is not an ArrayRecord file")
            self._records = ArrayRecordDataSource(str(self.path))
        except SourceError:
            raise
        except Exception as error:  # the C++ reader's own exceptions
            raise SourceError(f"{self.path} can't be read as an ArrayRecord file: {error}") from error
        if len(self) == 0:
            raise SourceError(f"{self.path} is empty: no records")
        self[0]  # another layout is an error now, not in the middle of an epoch

    def __len__(self) -> int:
        return len(self._records)

    def __getitem__(self, index: int) -> Record:
        data = self._records[range(len(self))[index]]  # IndexError out of range
        header, image = self._split(data, index)
        return Record(image, header["label"], f"{self.name}:{index:09d} {header['name']}")

    def labels(self) -> Iterator[str]:
        """All labels in order; the images are read too, as the format stores each record in one piece."""
        for index in range(len(self)):
            yield self._split(self._records[index], index)[0]["label"]

    def _split(self, data: bytes, index: int) -> tuple[dict, bytes]:
        try:
            (length,) = _LENGTH.unpack_from(data)
            header = json.loads(data[_LENGTH.size : _LENGTH.size + length])
            if not (isinstance(header["label"], str) and isinstance(header["name"], str)):
                raise TypeError("label and name must be strings")
        except (struct.error, ValueError, KeyError, TypeError) as error:
            raise SourceError(
                f"{self.path}: record {index} has another layout ({error}); expected a uint32 header length, "
                'a JSON header {"label", "name"} and an image file'
            ) from error
        return header, data[_LENGTH.size + length :]


def write_array_record(records: Iterable[Record], path: str | Path) -> int:
    """Writes `records` into the ArrayRecord file `path`, replacing it; returns their number.

    The file appears when it is complete. Images given as arrays are stored as PNG. Records are stored one by
    one and uncompressed, which random access wants; image files are compressed already.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, temporary = tempfile.mkstemp(prefix=f".{path.name}-", dir=path.parent)
    os.close(handle)
    try:
        writer = ArrayRecordWriter(temporary, "group_size:1,uncompressed")
        count = 0
        for record in records:
            image = encoded(record.image)
            header = json.dumps({"label": record.label, "name": record.name}).encode()
            writer.write(_LENGTH.pack(len(header)) + header + image)
            count += 1
        writer.close()
        os.chmod(temporary, 0o644)  # mkstemp's files are private
        os.replace(temporary, path)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise
    return count
