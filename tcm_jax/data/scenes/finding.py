"""Where photos and their annotations are, and which belong together."""

import itertools
import os
import re
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from tcm_jax.data.scenes.formats.base import AnnotationFormat, SetFormat
from tcm_jax.data.scenes.regions import AnnotationReport
from tcm_jax.data.text_files import read_bytes
from tcm_jax.images.inputs import IMAGE_SUFFIXES
from tcm_jax.records import SourceError

_SAMPLE = 20  # files that tell the format
_HEAD = 4096  # bytes that tell the format of a file for a whole set
_SPLITS = re.compile(r"(?<![a-z])(train|test)")  # in names of folders
_SEPARATE = "the images and the annotations of one split can be named (images=..., annotations=...)"


class Paired(NamedTuple):
    """Photos of a format with one annotation file for each photo, and those files."""

    format: AnnotationFormat
    files: list[tuple[Path, Path]]


def set_file(place: Path, formats: Sequence[SetFormat], sure: bool) -> tuple[SetFormat, Path] | None:
    """The file that annotates all photos, and its format: `place` itself, or a file in it or one folder deeper.

    Args:
        sure: the format is known, so that a single file with its suffix is the one whatever its contents.

    Raises:
        SourceError: there are several, or `place` is a file of no known format.
    """
    if place.is_file():
        found = _recognised([place], formats, sure)
        if not found:
            raise SourceError(
                f"{place} is not recognised as a file that annotates many photos; expected one of the formats "
                f"{', '.join(format.name for format in formats)}, and for the other formats a folder"
            )
        return found[0]
    for pattern in ("*", "*/*"):
        suffixes = {suffix for format in formats for suffix in format.suffixes}
        files = sorted(file for file in place.glob(pattern) if file.suffix.lower() in suffixes and file.is_file())
        found = _recognised([file for file in files if not file.name.startswith(".")], formats, sure)
        if len(found) > 1:
            names = ", ".join(file.relative_to(place).as_posix() for _, file in found[:_SAMPLE])
            raise SourceError(f"{place} has several annotation files, name one (annotations=...): {names}")
        if found:
            return found[0]
    return None


def _recognised(files: list[Path], formats: Sequence[SetFormat], sure: bool) -> list[tuple[SetFormat, Path]]:
    found = []
    for file in files:
        head = read_bytes(file, _HEAD)
        fitting = (format for format in formats if file.suffix.lower() in format.suffixes and format.recognises(head))
        if format := next(fitting, None):
            found.append((format, file))
    if not found and sure and len(files) == 1:
        return [(formats[0], files[0])]
    return found


def photo_folder(root: Path, named: bool, photos: Sequence[str], file: Path) -> Path:
    """The folder that the names `photos`, which `file` lists, start from.

    It is `root` if this was `named` by the user; otherwise the first that has one of them, of the folder of `file`,
    `root` and the folders at most two levels below.
    """
    candidates = [root] if named else [file.parent, root, *_folders(root), *_folders(root, "*/*")]
    inside: dict[str, set[str]] = defaultdict(set)
    for photo in photos:
        parent, _, name = photo.rpartition("/")
        inside[parent].add(name)
    for folder in candidates:
        if any(not names.isdisjoint(_listed(folder / parent)) for parent, names in inside.items()):
            return folder
    example = f", such as {photos[0]}," if len(photos) else ""
    raise SourceError(
        f"none of the {len(photos):,} photos that {file} names{example} is in {root} or below it; "
        "their folder can be named (images=...)"
    )


def _folders(root: Path, pattern: str = "*") -> Iterator[Path]:
    return (path for path in sorted(root.glob(pattern)) if path.is_dir() and not path.name.startswith("."))


def _listed(folder: Path) -> list[str]:
    return os.listdir(folder) if folder.is_dir() else []


def present(folder: Path, photos: Sequence[str], report: AnnotationReport) -> np.ndarray:
    """The numbers of the `photos` that are in `folder`, int64 [n]; the others are counted in `report`."""
    there: dict[str, set[str]] = {}  # names by folder: listing folders is quicker than asking for each file
    index = []
    for i, photo in enumerate(photos):
        parent, _, name = photo.rpartition("/")
        if parent not in there:
            there[parent] = set(_listed(folder / parent))
        if name in there[parent]:
            index.append(i)
        else:
            report.drop("annotation without a photo", photo)
    return np.array(index, np.int64)


def pairs(photos: Path, place: Path, formats: Sequence[AnnotationFormat], report: AnnotationReport) -> Paired:
    """The photos in the folder `photos` and everywhere below it, in natural order, that have annotation files
    in `place` or below it.

    What has no counterpart is counted in `report`.

    Raises:
        SourceError: nothing belongs together, the format can't be recognised, two photos or two annotation files
            share a name, or photos to train and to test are mixed.
    """
    images = _files(photos, IMAGE_SUFFIXES)
    files = _files(place, tuple({suffix for format in formats for suffix in format.suffixes}))
    format = formats[0] if len(formats) == 1 else _vote(images, files, formats, place)
    files = [file for file in files if file.suffix.lower() in format.suffixes]
    by_photo: dict[Path, list[Path]] = defaultdict(list)
    known = _by_name(images)
    for file in files:
        belonging = _photos_of(file, known, format)
        if len(belonging) > 1:
            raise SourceError(f"{file} may belong to {belonging[0]} and to {belonging[1]}; {_SEPARATE}")
        if belonging:
            by_photo[belonging[0]].append(file)
        else:
            report.drop("annotation without a photo", file.name)
    if not by_photo:
        raise SourceError(_nothing(photos, place, images, files, format.name))
    paired = []
    for image in images:
        if image in by_photo:
            paired.append((image, _one(image, by_photo[image], format)))
        else:
            report.drop("without an annotation", image.name)
    _refuse_mixture([image.parent.relative_to(photos) for image, _ in paired], photos)
    return Paired(format, paired)


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


def _by_name(images: list[Path]) -> dict[str, list[Path]]:
    """Photos by what an annotation file may call them: the name with its suffix and without."""
    named = defaultdict(list)
    for image in images:
        named[image.name].append(image)
        named[image.stem].append(image)
    return named


def _photos_of(file: Path, known: dict[str, list[Path]], format: AnnotationFormat) -> list[Path]:
    names = [file.stem, *(file.stem.removeprefix(prefix) for prefix in format.prefixes)]
    return next((known[name] for name in names if name in known), [])


def _one(image: Path, files: list[Path], format: AnnotationFormat) -> Path:
    """The one of a photo's annotation `files` that is read; in one folder, the first suffix of the format wins."""
    files = sorted(files, key=lambda file: format.suffixes.index(file.suffix.lower()))
    clash = next((file for file in files[1:] if file.parent != files[0].parent), None)
    if clash or (len(files) > 1 and files[0].suffix == files[1].suffix):
        raise SourceError(f"{image} has two annotations, {files[0]} and {clash or files[1]}; {_SEPARATE}")
    return files[0]


def _vote(images: list[Path], files: list[Path], formats: Sequence[AnnotationFormat], place: Path) -> AnnotationFormat:
    """The format that recognises most of the first annotation files of photos."""
    known = _by_name(images)
    votes: Counter[str] = Counter()
    filled = (
        (file, data)
        for file in files
        if any(_photos_of(file, known, format) for format in formats)
        if (data := read_bytes(file)).strip(b"\xef\xbb\xbf \t\r\n")
    )
    example = None
    for file, data in itertools.islice(filled, _SAMPLE):
        example = example or (file, data)
        fitting = (format for format in formats if file.suffix.lower() in format.suffixes and format.recognises(data))
        if format := next(fitting, None):
            votes[format.name] += 1
    if votes:
        winner = votes.most_common(1)[0][0]
        return next(format for format in formats if format.name == winner)
    names = ", ".join(format.name for format in formats)
    if example:
        raise SourceError(
            f"{example[0]} begins with {example[1][:60]!r}, which is none of the formats {names}; the format can be "
            "named (format=...)"
        )
    raise SourceError(_nothing(place, place, images, files, f"any format ({names})"))


def _nothing(photos: Path, place: Path, images: list[Path], files: list[Path], format: str) -> str:
    """Why nothing was found."""
    if not images:
        return f"{photos} has no photos ({', '.join(IMAGE_SUFFIXES)})"
    if not files:
        return f"{photos} has {len(images):,} photos, such as {images[0].name}, but {place} no annotations of {format}"
    return (
        f"none of the {len(files):,} annotation files in {place}, such as {files[0].name}, is called as one of the "
        f"{len(images):,} photos in {photos}, such as {images[0].name}, or has text in it"
    )


def _refuse_mixture(folders: list[Path], photos: Path) -> None:
    """Raises `SourceError` if photos come from folders to train and from folders to test."""
    splits: dict[str, Path] = {}
    for folder in folders:
        for split in _SPLITS.findall(str(folder).lower()):
            splits.setdefault(split, folder)
    if len(splits) > 1:
        raise SourceError(
            f"{photos} has photos to train ({splits['train']}) and to test ({splits['test']}); {_SEPARATE}"
        )
