"""Annotated images from image and annotation files, in any of the formats of `tcm_jax.data.scenes.formats`."""

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from tcm_jax.data.scenes import finding
from tcm_jax.data.scenes.array_record import ArrayRecordImages, find_shards
from tcm_jax.data.scenes.formats import FORMATS
from tcm_jax.data.scenes.formats.base import AnnotationFormat, Problems, SetFormat
from tcm_jax.data.scenes.formats.packed import PackedAnnotations
from tcm_jax.data.scenes.regions import AnnotationReport, usable_regions
from tcm_jax.data.text_files import read_bytes
from tcm_jax.files import local_copy
from tcm_jax.images.decoding import ImageError
from tcm_jax.records import AnnotatedImage, SourceError, TextRegion


@dataclass(eq=False)
class AnnotatedImageFiles:
    """An `AnnotatedImageSource` of image files and their annotations.

    Args:
        name: prefix of the names of its images.
        kind: the format of the annotations.
        folder: the folder that the names in `annotations` are relative to.
        index: the numbers in `annotations` of the images that exist, int64 [n].
        report: what was read and what was left out.
    """

    name: str
    kind: str
    folder: Path
    annotations: PackedAnnotations
    index: np.ndarray
    report: AnnotationReport

    def __post_init__(self) -> None:
        self.annotations.count(self.index, self.report)

    def __len__(self) -> int:
        return len(self.index)

    def __getitem__(self, index: int) -> AnnotatedImage:
        path, name = self.folder / self._file(index), self.image_name(index)
        try:
            image = path.read_bytes()
        except OSError as error:
            raise ImageError(name, f"can't read {path}: {error.strerror}") from error
        return AnnotatedImage(image, self.regions(index), name)

    def regions(self, index: int) -> tuple[TextRegion, ...]:
        """The regions of image `index`, without reading the image."""
        return usable_regions(self.annotations.instances(int(self.index[index])))

    def image_name(self, index: int) -> str:
        """The name of image `index`, without reading it."""
        return f"{self.name}/{self._file(index)}"

    def _file(self, index: int) -> str:
        return self.annotations.images[int(self.index[index])]


def open_annotated_images(
    path: str | Path, format: str = "auto", images: str = "", annotations: str = "", problems: Problems = None
) -> AnnotatedImageFiles | ArrayRecordImages:
    """Opens the annotated images of one split of a data set.

    Images may be in the folder of their annotations or in another one below `path`. Images with numbers in their names
    are in the order of the numbers.

    Args:
        path: the folder of the split, or the file that annotates all its images; or ArrayRecord files. A remote one is
            copied to this machine, see `tcm_jax.files.local_copy`.
        format: one of `FORMATS`, or "auto" to recognise it by the contents of the annotations. "coco_text:val" names
            one part of a file that has several.
        images: folder of the images below `path` (or beside the file), "" to search everywhere.
        annotations: folder or file of the annotations below `path`, "" to search everywhere.
        problems: a list to which messages on malformed annotations are added; if None, the first one is raised.

    Raises:
        SourceError: there are no annotated images, images and annotations can't be paired, or an annotation is
            malformed.
    """
    path = local_copy(path, with_folder=True).absolute()
    root = path.parent if path.is_file() else path
    place, image_folder = (root / annotations if annotations else path), root / images
    for folder in (path, place, image_folder):
        if not folder.exists():
            raise SourceError(f"{folder} does not exist")
    if format == "auto" and (shards := find_shards(path)):
        return ArrayRecordImages(shards)
    name, _, part = format.partition(":")
    if name not in ("auto", *FORMATS):
        raise SourceError(f"unknown format {name!r} of annotations; expected auto, {', '.join(FORMATS)}")
    if part and part not in getattr(FORMATS.get(name), "parts", ()):
        raise SourceError(f"the format {name} has no part {part!r}")
    formats = list(FORMATS.values()) if name == "auto" else [FORMATS[name]]
    set_formats = [format for format in formats if isinstance(format, SetFormat)]
    if set_formats and (found := finding.find_set_file(place, set_formats, sure=name != "auto")):
        return _open_set(*found, part, root, image_folder, bool(images), problems)
    image_formats = [format for format in formats if isinstance(format, AnnotationFormat)]
    if not image_formats:
        raise SourceError(
            f"{place} has no annotation file of the format {name} (*{', *'.join(set_formats[0].suffixes)})"
        )
    return _open_pairs(image_formats, place, root, image_folder, problems)


def _open_set(
    format: SetFormat, file: Path, part: str, root: Path, images: Path, is_named: bool, problems: Problems
) -> AnnotatedImageFiles:
    """The images of one annotation file; `is_named` says whether the user named the folder `images`."""
    if format.parts and not part:
        parts = " or ".join(f"{format.name}:{part}" for part in format.parts)
        raise SourceError(f"{file} has several parts; choose one by the format {parts}")
    report = AnnotationReport()
    annotations = format.read(file, part, problems, report)
    folder, index = finding.locate_images(images, is_named, annotations.images, file, report)
    name = f"{root.name}/{_relative(folder, root)}".removesuffix("/.")
    return AnnotatedImageFiles(name, format.name, folder, annotations, index, report)


def _open_pairs(
    formats: Sequence[AnnotationFormat], place: Path, root: Path, images: Path, problems: Problems
) -> AnnotatedImageFiles:
    """The images below the folder `images` with an annotation file for each below `place`."""
    report = AnnotationReport()
    format, paired = finding.pair_files(images, place, formats, report)
    annotated = []
    for image, file in paired:
        try:
            annotated.append((_relative(image, root), format.parse(read_bytes(file), file, problems)))
        except SourceError as error:
            if problems is None:
                raise
            problems.append(str(error))
            report.drop("with an unreadable annotation", file.name)
    if not annotated:
        raise SourceError(f"{place}: no annotation can be read; {problems[0] if problems else ''}")
    annotations = PackedAnnotations(annotated, keep_places=True)
    return AnnotatedImageFiles(root.name, format.name, root, annotations, np.arange(len(annotated)), report)


def _relative(path: Path, root: Path) -> str:
    return Path(os.path.relpath(path, root)).as_posix()  # also for folders outside of `root`
