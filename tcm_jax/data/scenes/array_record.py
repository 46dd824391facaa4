"""Photos with text in ArrayRecord files: what a record is, and the reader.

The header of a record is {"name": ..., "regions": [{"polygon": [[x, y], ...], "text": ..., "ignore": ...}, ...]}; the
photo's file follows it (see `tcm_jax.data.array_record`). The command that makes the shards counts the regions
in a file beside them, manifest.json.
"""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from tcm_jax.data.array_record import ArrayRecordFiles, is_array_record, pack, shard_sets
from tcm_jax.data.scenes.regions import AnnotationReport, instance
from tcm_jax.images.decoding import encoded
from tcm_jax.records import AnnotatedImage, SourceError, TextRegion

MANIFEST = "manifest.json"


class ArrayRecordScenes(ArrayRecordFiles):
    """Random access to the scenes of a set of shards, or of one of them; a `AnnotatedImageSource`.

    Attributes:
        report: how many photos and text instances there are.

    Raises:
        SourceError: as `ArrayRecordFiles`, or the manifest is missing or is of other files.
    """

    header = '{"name", "regions"}'

    def __init__(self, files: Path | Sequence[Path], name: str = ""):
        super().__init__(files, name)
        self.report = self._counted()

    def __getitem__(self, index: int) -> AnnotatedImage:
        header, image = self.parts(index)
        return AnnotatedImage(image, _regions(header), header["name"])

    def regions(self, index: int) -> tuple[TextRegion, ...]:
        return _regions(self.parts(index)[0])

    def image_name(self, index: int) -> str:
        return self.parts(index)[0]["name"]

    def check(self, header: dict[str, Any]) -> None:
        if not isinstance(header["name"], str):
            raise TypeError("the name must be a string")
        for region in header["regions"]:
            if not (isinstance(region["text"], str) and isinstance(region["ignore"], bool) and region["polygon"]):
                raise TypeError(f"region {region}")

    def _counted(self) -> AnnotationReport:
        path = self.path.parent / MANIFEST
        try:
            shards = {shard["file"]: shard for shard in json.loads(path.read_text("utf-8"))["shards"]}
            mine = [shards[file.name] for file in self.files]
            counts = [sum(shard[key] for shard in mine) for key in ("records", "texts", "ignored")]
        except FileNotFoundError as error:
            raise SourceError(
                f"{path} is missing, which comes last: the command that makes the shards has not ended, or it was not "
                "copied with them"
            ) from error
        except (ValueError, KeyError, TypeError) as error:
            raise SourceError(f"{path} is not the manifest of {self.path.name} ({error!r})") from error
        if counts[0] != len(self):
            raise SourceError(f"{path} tells of {counts[0]:,} photos, the shards hold {len(self):,}")
        return AnnotationReport(*counts)


def scene_shards(path: Path) -> list[Path] | Path | None:
    """The ArrayRecord files at `path`: the file itself, or the set of shards in the folder; None if there are none.

    Raises:
        SourceError: several sets are there.
    """
    if path.is_file():
        return path if is_array_record(path.name) else None
    sets = shard_sets(sorted(path.iterdir()))
    if len(sets) > 1:
        names = ", ".join(files[0].name for files in sets)
        raise SourceError(f"{path} has several sets of scenes ({names}); give each a folder of its own")
    return sets[0] if sets else None


def pack_scene(scene: AnnotatedImage) -> bytes:
    """The bytes of a scene; a photo given as an array becomes a PNG."""
    return pack({"name": scene.name, "regions": [instance(region) for region in scene.regions]}, encoded(scene.image))


def _regions(header: dict[str, Any]) -> tuple[TextRegion, ...]:
    return tuple(
        TextRegion(np.array(region["polygon"], np.float32), region["text"], region["ignore"])
        for region in header["regions"]
    )
