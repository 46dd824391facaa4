"""Annotation formats: with one file for each image, or with one file for all images of a data set."""

import re
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tcm_jax.data.scenes.formats.packed import PackedAnnotations
from tcm_jax.data.scenes.regions import Annotation, AnnotationReport, Instance
from tcm_jax.records import SourceError

Problems = list[str] | None


@dataclass(frozen=True)
class AnnotationFormat:
    """A format with one annotation file for each image.

    The annotation file is named after the image, "img_1.txt" or "img_1.jpg.txt" for "img_1.jpg", and may have one of
    `prefixes`.

    Attributes:
        name: as users write it.
        suffixes: of annotation files, in lower case; the first one wins where an image has several files.
        prefixes: of the names of annotation files, such as "gt_".
        recognises: whether the bytes of an annotation file, which is not blank, are of this format.
        parse: `(data, path, problems)` gives the text instances in the bytes of one file, see `parse_instances`.
    """

    name: str
    suffixes: tuple[str, ...]
    prefixes: tuple[str, ...]
    recognises: Callable[[bytes], bool]
    parse: Callable[[bytes, Path, Problems], list[Annotation]]


@dataclass(frozen=True)
class SetFormat:
    """A format with one file for all images of a data set.

    Attributes:
        name: as users write it.
        suffixes: of the file, in lower case.
        recognises: whether a file that begins with these bytes (the first 4,096) is of this format.
        read: `(path, part, problems, report)` gives the annotations. `part` is one of `parts`, or "" if there are
            none. Malformed entries are passed to `report_error`, and images that are left out are counted in `report`.
            Raises `SourceError` if the file as a whole is unreadable.
        parts: names of the parts of a file that has several, such as "train"; users write "coco_text:train".
    """

    name: str
    suffixes: tuple[str, ...]
    recognises: Callable[[bytes], bool]
    read: Callable[[Path, str, Problems, AnnotationReport], PackedAnnotations]
    parts: tuple[str, ...] = ()


Format = AnnotationFormat | SetFormat


def begins(data: bytes, pattern: bytes) -> bool:
    """Whether a regular expression matches at the first bytes of a file that are no byte order mark or white space."""
    return re.match(rb"(?:\xef\xbb\xbf)?\s*" + pattern, data) is not None


def report_error(problems: Problems, where: str, problem: str) -> None:
    """Reports a malformed annotation: adds a message to `problems`, or raises `SourceError` if that is None."""
    message = f"{where}: {problem}"
    if problems is None:
        raise SourceError(message)
    problems.append(message)


def parse_instances(
    path: Path,
    entries: Iterable[tuple[str, Any]],
    parse: Callable[[Any], Instance],
    expected: str,
    problems: Problems,
) -> Iterator[Annotation]:
    """Parses the text instances of an annotation file; malformed ones are passed to `report_error` and left out.

    Args:
        path: the file.
        entries: the place in the file, such as ":3", and the entry.
        parse: raises ValueError, LookupError, TypeError or AttributeError if an entry is malformed.
        expected: how an entry looks, for messages.
    """
    name = path.name
    for place, entry in entries:
        try:
            instance = parse(entry)
        except (AttributeError, LookupError, TypeError, ValueError) as error:
            shown = " ".join(repr(entry).split())[:80]
            report_error(problems, f"{path}{place}", f"{shown} ({error}); expected {expected}")
        else:
            yield (*instance, f"{name}{place}")
