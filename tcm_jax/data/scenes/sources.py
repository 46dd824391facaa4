"""Scenes from photos and annotation files, in any of the formats of `tcm_jax.data.scenes.formats`, or from shards."""

import os
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from tcm_jax.data.scenes import finding
from tcm_jax.data.scenes.array_record import ArrayRecordScenes, scene_shards
from tcm_jax.data.scenes.formats import FORMATS
from tcm_jax.data.scenes.formats.base import (
    AnnotationFormat,
    ListedAnnotations,
    Problems,
    SetAnnotations,
    SetFormat,
)
from tcm_jax.data.scenes.regions import AnnotationReport, collect
from tcm_jax.data.text_files import read_bytes
from tcm_jax.files import local_copy
from tcm_jax.images.decoding import ImageError
from tcm_jax.records import AnnotatedImage, SourceError, TextRegion


class AnnotatedScenes:
    """Random access to annotated photos; a `AnnotatedImageSource`.

    Attributes:
        name: what its scenes' names begin with.
        kind: the format of the annotations.
        report: what was read and what was left out.
    """

    def __init__(
        self,
        name: str,
        kind: str,
        folder: Path,
        annotations: SetAnnotations,
        index: np.ndarray,
        report: AnnotationReport,
    ):
        self.name = name
        self.kind = kind
        self.report = report
        self._folder = folder
        self._annotations = annotations
        self._index = index  # of the photos that are there

    def __len__(self) -> int:
        return len(self._index)

    def __getitem__(self, index: int) -> AnnotatedImage:
        path, name = self._folder / self._photo(index), self.image_name(index)
        try:
            image = path.read_bytes()
        except OSError as error:
            raise ImageError(name, f"can't read {path}: {error.strerror}") from error
        return AnnotatedImage(image, self.regions(index), name)

    def regions(self, index: int) -> tuple[TextRegion, ...]:
        return collect(self._annotations.found(int(self._index[index])))

    def image_name(self, index: int) -> str:
        return f"{self.name}/{self._photo(index)}"

    def _photo(self, index: int) -> str:
        return self._annotations.photos[int(self._index[index])]


def open_scenes(
    path: str | Path, format: str = "auto", images: str = "", annotations: str = "", problems: Problems = None
) -> AnnotatedScenes | ArrayRecordScenes:
    """The annotated photos of one split of a data set.

    Photos may lie in the same folder as their annotations or in another one below `path`. Those with numbers in
    their names come in the order of the numbers.

    Args:
        path: the folder of the split, or the file that annotates all its photos; or ArrayRecord files. A remote one is
            copied here, see `tcm_jax.files.local_copy`.
        format: one of `FORMATS`, or "auto" to recognise it by the contents of the annotations. Of a file with
            several parts, one is named by "coco_text:val".
        images: folder of the photos below `path` (or beside the file), "" to look everywhere.
        annotations: folder or file of the annotations below `path`, "" to look everywhere.
        problems: a list to add malformed annotations to; without it the first one is an error.

    Raises:
        SourceError: there are no annotated photos, it is not clear which annotation belongs to which photo, or an
            annotation is malformed.
    """
    path = local_copy(path, with_folder=True).absolute()
    root = path.parent if path.is_file() else path
    place, photos = (root / annotations if annotations else path), root / images
    for folder in (path, place, photos):
        if not folder.exists():
            raise SourceError(f"{folder} does not exist")
    if format == "auto" and (shards := scene_shards(path)):
        return ArrayRecordScenes(shards)
    name, _, part = format.partition(":")
    if name not in ("auto", *FORMATS):
        raise SourceError(f"unknown format {name!r} of annotations; expected auto, {', '.join(FORMATS)}")
    if part and part not in getattr(FORMATS.get(name), "parts", ()):
        raise SourceError(f"the format {name} has no part {part!r}")
    formats = list(FORMATS.values()) if name == "auto" else [FORMATS[name]]
    of_sets = [format for format in formats if isinstance(format, SetFormat)]
    of_photos = [format for format in formats if isinstance(format, AnnotationFormat)]
    if of_sets and (found := finding.set_file(place, of_sets, sure=name != "auto")):
        return _of_set(*found, part, root, photos, bool(images), problems)
    if not of_photos:
        raise SourceError(f"{place} has no annotation file of the format {name} (*{', *'.join(of_sets[0].suffixes)})")
    return _of_photos(of_photos, place, root, photos, problems)


def _of_set(
    format: SetFormat, file: Path, part: str, root: Path, photos: Path, named: bool, problems: Problems
) -> AnnotatedScenes:
    if format.parts and not part:
        parts = " or ".join(f"{format.name}:{part}" for part in format.parts)
        raise SourceError(f"{file} has several parts; choose one by the format {parts}")
    report = AnnotationReport()
    annotations = format.read(file, part, problems, report)
    folder = finding.photo_folder(photos, named, annotations.photos, file)
    index = finding.present(folder, annotations.photos, report)
    annotations.count(index, report)
    name = f"{root.name}/{_relative(folder, root)}".removesuffix("/.")
    return AnnotatedScenes(name, format.name, folder, annotations, index, report)


def _of_photos(
    formats: Sequence[AnnotationFormat], place: Path, root: Path, photos: Path, problems: Problems
) -> AnnotatedScenes:
    report = AnnotationReport()
    format, paired = finding.pairs(photos, place, formats, report)
    names, instances = [], []
    for photo, file in paired:
        try:
            instances.append(format.parse(read_bytes(file), file, problems))
        except SourceError as error:
            if problems is None:
                raise
            problems.append(str(error))
            report.drop("with an unreadable annotation", file.name)
        else:
            names.append(_relative(photo, root))
    if not names:
        raise SourceError(f"{place}: no annotation can be read; {problems[0] if problems else ''}")
    annotations, index = ListedAnnotations(names, instances), np.arange(len(names))
    annotations.count(index, report)
    return AnnotatedScenes(root.name, format.name, root, annotations, index, report)


def _relative(path: Path, root: Path) -> str:
    return Path(os.path.relpath(path, root)).as_posix()  # also for folders that a user names outside of `root`
