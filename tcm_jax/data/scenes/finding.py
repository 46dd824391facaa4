"""Finds images and their annotation files, and pairs them."""

import itertools
import os
import re
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TypeVar

import numpy as np

from tcm_jax.data.scenes.formats.base import AnnotationFormat, Format, SetFormat
from tcm_jax.data.scenes.regions import AnnotationReport
from tcm_jax.data.text_files import read_bytes
from tcm_jax.images.inputs import IMAGE_SUFFIXES
from tcm_jax.records import SourceError

AnyFormat = TypeVar("AnyFormat", bound=Format)

_SAMPLE = 20  # files that decide on the format
_HEAD = 4096  # bytes that decide on the format of a file for a whole data set
_BLANK = b"\xef\xbb\xbf \t\r\n"
_SPLITS = re.compile(r"(?<![a-z])(train|test)")  # in names of folders
_SEPARATE = "the images and the annotations of one split can be named (images=..., annotations=...)"
NO_IMAGE, _NO_ANNOTATION = "annotation without an image", "without an annotation"


def find_set_file(place: Path, formats: Sequence[SetFormat], sure: bool) -> tuple[SetFormat, Path] | None:
    """The file that annotates all images, and its format: `place` itself, or a file in it or one folder deeper.

    Args:
        sure: the format is known, so that a single file with its suffix is accepted whatever its contents.

    Raises:
        SourceError: there are several, or `place` is a file of no known format.
    """
    suffixes = {suffix for format in formats for suffix in format.suffixes}
    for pattern in ("*", "*/*"):
        below = (file for file in sorted(place.glob(pattern)) if file.suffix.lower() in suffixes and file.is_file())
        files = [place] if place.is_file() else [file for file in below if not file.name.startswith(".")]
        found = [(known, file) for file in files if (known := _recognise(file, read_bytes(file, _HEAD), formats))]
        if not found and sure and len(files) == 1:
            found = [(formats[0], files[0])]
        if len(found) > 1:
            names = ", ".join(file.relative_to(place).as_posix() for _, file in found[:_SAMPLE])
            raise SourceError(f"{place} has several annotation files, name one (annotations=...): {names}")
        if found:
            return found[0]
    if place.is_file():
        raise SourceError(
            f"{place} is not recognised as a file that annotates many images; expected one of the formats "
            f"{', '.join(format.name for format in formats)}, and for the other formats a folder"
        )
    return None


def _recognise(file: Path, data: bytes, formats: Sequence[AnyFormat]) -> AnyFormat | None:
    """The first format that a file with these first bytes may have."""
    suffix = file.suffix.lower()
    return next((format for format in formats if suffix in format.suffixes and format.recognises(data)), None)


def locate_images(
    root: Path, is_named: bool, images: Sequence[str], file: Path, report: AnnotationReport
) -> tuple[Path, np.ndarray]:
    """The folder of the `images` that `file` lists, and the numbers of those that exist, int64 [n].

    It is `root` if the user named it; otherwise the first that has one of the images, of the folder of `file`, `root`
    and the folders at most two levels below. Missing images are counted in `report`.

    Raises:
        SourceError: there are none.
    """
    by_folder: dict[str, list[int]] = defaultdict(list)
    for i, image in enumerate(images):
        by_folder[image.rpartition("/")[0]].append(i)
    candidates = (
        [root] if is_named else itertools.chain([file.parent, root], _folders(root, "*"), _folders(root, "*/*"))
    )
    for folder in candidates:
        there = np.zeros(len(images), bool)
        for parent, members in by_folder.items():
            # Listing folders is faster than asking for each file.
            if (folder / parent).is_dir() and (names := {*os.listdir(folder / parent)}):
                there[members] = [images[i].rpartition("/")[2] in names for i in members]
        if there.any():
            for missing in itertools.compress(images, ~there):
                report.drop(NO_IMAGE, missing)
            return folder, np.flatnonzero(there)
    example = f", such as {images[0]}," if len(images) else ""
    raise SourceError(
        f"none of the {len(images):,} images that {file} names{example} is in {root} or below it; "
        "their folder can be named (images=...)"
    )


def _folders(root: Path, pattern: str) -> Iterator[Path]:
    return (path for path in sorted(root.glob(pattern)) if path.is_dir() and not path.name.startswith("."))


def pair_files(
    folder: Path, place: Path, formats: Sequence[AnnotationFormat], report: AnnotationReport
) -> tuple[AnnotationFormat, list[tuple[Path, Path]]]:
    """The format, and the images below `folder`, in natural order, with their annotation files below `place`.

    What has no counterpart is counted in `report`.

    Raises:
        SourceError: nothing can be paired, the format is not recognised, two images or two annotation files share a
            name, or images to train and to test are mixed.
    """
    images = _files(folder, IMAGE_SUFFIXES)
    files = _files(place, tuple({suffix for format in formats for suffix in format.suffixes}))
    known = defaultdict(list)  # images by the names that their annotation file may have
    for image in images:
        known[image.name].append(image)
        known[image.stem].append(image)
    format = formats[0] if len(formats) == 1 else _vote(images, files, known, formats, place)
    files = [file for file in files if file.suffix.lower() in format.suffixes]
    by_image: dict[Path, list[Path]] = defaultdict(list)
    for file in files:
        owners = _images_of(file, known, format)
        if len(owners) > 1:
            raise SourceError(f"{file} may belong to {owners[0]} and to {owners[1]}; {_SEPARATE}")
        if owners:
            by_image[owners[0]].append(file)
        else:
            report.drop(NO_IMAGE, file.name)
    if not by_image:
        raise SourceError(_nothing(folder, place, images, files, format.name))
    for image in images:
        if image not in by_image:
            report.drop(_NO_ANNOTATION, image.name)
    paired = [(image, _one(image, by_image[image], format)) for image in images if image in by_image]
    _refuse_mixture([image.parent.relative_to(folder) for image, _ in paired], folder)
    return format, paired


def _files(folder: Path, suffixes: tuple[str, ...]) -> list[Path]:
    """All files with one of `suffixes` below `folder`, in natural order: img_2 comes before img_10."""
    found = []
    for parent, folders, names in os.walk(folder, followlinks=True):
        folders[:] = [name for name in folders if not name.startswith(".")]
        found += [Path(parent, name) for name in names if name.lower().endswith(suffixes) and name[0] != "."]
    return sorted(found, key=_natural)


def _natural(path: Path) -> list[str | int]:
    # Every second part is a number, so that keys can be compared.
    return [int(part) if i % 2 else part for i, part in enumerate(re.split("([0-9]+)", str(path)))]


def _images_of(file: Path, known: dict[str, list[Path]], format: AnnotationFormat) -> list[Path]:
    names = [file.stem, *(file.stem.removeprefix(prefix) for prefix in format.prefixes)]
    return next((known[name] for name in names if name in known), [])


def _one(image: Path, files: list[Path], format: AnnotationFormat) -> Path:
    """The one of an image's annotation `files` that is read; in one folder, the first suffix of the format wins."""
    files = sorted(files, key=lambda file: format.suffixes.index(file.suffix.lower()))
    clash = next((file for file in files[1:] if file.parent != files[0].parent), None)
    if clash or (len(files) > 1 and files[0].suffix == files[1].suffix):
        raise SourceError(f"{image} has two annotations, {files[0]} and {clash or files[1]}; {_SEPARATE}")
    return files[0]


def _vote(
    images: list[Path],
    files: list[Path],
    known: dict[str, list[Path]],
    formats: Sequence[AnnotationFormat],
    place: Path,
) -> AnnotationFormat:
    """The format of most of the first annotation files of images that are not blank."""
    filled = (
        (file, data)
        for file in files
        if any(_images_of(file, known, format) for format in formats) and (data := read_bytes(file)).strip(_BLANK)
    )
    sample = list(itertools.islice(filled, _SAMPLE))
    votes = Counter(format for file, data in sample if (format := _recognise(file, data, formats)))
    if votes:
        return votes.most_common(1)[0][0]
    names = ", ".join(format.name for format in formats)
    if sample:
        file, data = sample[0]
        raise SourceError(
            f"{file} begins with {data[:60]!r}, which is none of the formats {names}; the format can be named "
            "(format=...)"
        )
    raise SourceError(_nothing(place, place, images, files, f"any format ({names})"))


def _nothing(folder: Path, place: Path, images: list[Path], files: list[Path], format: str) -> str:
    """Why nothing was paired."""
    if not images:
        return f"{folder} has no images ({', '.join(IMAGE_SUFFIXES)})"
    if not files:
        return f"{folder} has {len(images):,} images, such as {images[0].name}, but {place} no annotations of {format}"
    return (
        f"none of the {len(files):,} annotation files in {place}, such as {files[0].name}, is named as one of the "
        f"{len(images):,} images in {folder}, such as {images[0].name}, or has text in it"
    )


def _refuse_mixture(folders: list[Path], root: Path) -> None:
    """Raises `SourceError` if images come from folders to train and from folders to test."""
    splits = {split: folder for folder in folders for split in _SPLITS.findall(str(folder).lower())}
    if len(splits) > 1:
        raise SourceError(f"{root} has images to train ({splits['train']}) and to test ({splits['test']}); {_SEPARATE}")
