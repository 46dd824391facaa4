"""Annotated images in ArrayRecord files.

The header of a record is {"name": ..., "regions": [{"polygon": [[x, y], ...], "text": ..., "ignore": ...}, ...]}; the
image file follows it, see `tcm_jax.data.array_record`. The command that makes the shards counts the regions in
manifest.json beside them.
"""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from tcm_jax.data.array_record import ArrayRecordFiles, is_array_record, pack, shard_sets
from tcm_jax.data.scenes.regions import AnnotationReport, region_to_json
from tcm_jax.images.decoding import encoded
from tcm_jax.records import AnnotatedImage, SourceError, TextRegion

MANIFEST = "manifest.json"


class ArrayRecordImages(ArrayRecordFiles):
    """An `AnnotatedImageSource` of the images of a set of shards, or of one of them.

    Attributes:
        report: numbers of images and text instances.

    Raises:
        SourceError: as `ArrayRecordFiles`, or the manifest is missing or is of other files.
    """

    header = '{"name", "regions"}'

    def __init__(self, files: Path | Sequence[Path], name: str = "") -> None:
        super().__init__(files, name)
        self.report = self._read_manifest()

    def __getitem__(self, index: int) -> AnnotatedImage:
        header, image = self.parts(index)
        return AnnotatedImage(image, _regions(header), header["name"])

    def regions(self, index: int) -> tuple[TextRegion, ...]:
        """The regions of image `index`; the image is read too, as the format stores each record in one piece."""
        return _regions(self.parts(index)[0])

    def image_name(self, index: int) -> str:
        """The name of image `index`."""
        return self.parts(index)[0]["name"]

    def check(self, header: dict[str, Any]) -> None:
        """Raises TypeError or KeyError unless `header` is that of an annotated image."""
        if not isinstance(header["name"], str):
            raise TypeError("the name must be a string")
        for region in header["regions"]:
            if not (isinstance(region["text"], str) and isinstance(region["ignore"], bool) and region["polygon"]):
                raise TypeError(f"region {region}")

    def _read_manifest(self) -> AnnotationReport:
        path = self.path.parent / MANIFEST
        try:
            shards = {shard["file"]: shard for shard in json.loads(path.read_text("utf-8"))["shards"]}
            own = [shards[file.name] for file in self.files]
            counts = [sum(shard[key] for shard in own) for key in ("records", "texts", "ignored")]
        except FileNotFoundError as error:
            raise SourceError(
                f"{path} is missing, which is written last: the command that makes the shards has not ended, or it was "
                "not copied with them"
            ) from error
        except (ValueError, KeyError, TypeError) as error:
            raise SourceError(f"{path} is not the manifest of {self.path.name} ({error!r})") from error
        if counts[0] != len(self):
            raise SourceError(f"{path} lists {counts[0]:,} images, the shards hold {len(self):,}")
        return AnnotationReport(*counts)


def find_shards(path: Path) -> list[Path] | Path | None:
    """The ArrayRecord files at `path`: the file itself, or the set of shards in the folder; None if there are none.

    Raises:
        SourceError: the folder has several sets.
    """
    if path.is_file():
        return path if is_array_record(path.name) else None
    sets = shard_sets(sorted(path.iterdir()))
    if len(sets) > 1:
        names = ", ".join(files[0].name for files in sets)
        raise SourceError(f"{path} has several sets of shards ({names}); give each a folder of its own")
    return sets[0] if sets else None


def pack_annotated_image(record: AnnotatedImage) -> bytes:
    """The bytes of the record of an annotated image; an array becomes a PNG file."""
    regions = [region_to_json(region) for region in record.regions]
    return pack({"name": record.name, "regions": regions}, encoded(record.image))


def _regions(header: dict[str, Any]) -> tuple[TextRegion, ...]:
    return tuple(
        TextRegion(np.array(region["polygon"], np.float32), region["text"], region["ignore"])
        for region in header["regions"]
    )
