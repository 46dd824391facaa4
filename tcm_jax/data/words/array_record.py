"""Crops in ArrayRecord files: the header of a record is {"label", "name"}, see `tcm_jax.data.array_record`."""

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from tcm_jax.data.array_record import ArrayRecordFiles, pack, write_packed
from tcm_jax.images.decoding import encoded
from tcm_jax.records import WordCrop


class ArrayRecordCrops(ArrayRecordFiles):
    """Random access to the crops of an ArrayRecord file or a set of shards; a `WordSource`."""

    header = '{"label", "name"}'

    def __getitem__(self, index: int) -> WordCrop:
        header, image = self.parts(index)
        return WordCrop(image, header["label"], f"{self.name}:{index:09d} {header['name']}")

    def labels(self) -> Iterator[str]:
        """All labels in order; the images are read too, as the format stores each record in one piece."""
        return (self.parts(index)[0]["label"] for index in range(len(self)))

    def check(self, header: dict[str, Any]) -> None:
        """Raises KeyError or TypeError if a header is not that of a crop."""
        if not (isinstance(header["label"], str) and isinstance(header["name"], str)):
            raise TypeError("label and name must be strings")


def pack_word_crop(record: WordCrop) -> bytes:
    """The bytes of a crop; an image given as an array becomes a PNG."""
    return pack({"label": record.label, "name": record.name}, encoded(record.image))


def write_array_record(records: Iterable[WordCrop], path: str | Path) -> int:
    """Writes crops into the ArrayRecord file `path`, replacing it; returns their number."""
    return write_packed(map(pack_word_crop, records), path)[0]
