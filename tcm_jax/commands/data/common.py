"""The commands check, peek, build and synth, for crops and for annotated images alike."""

import argparse
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from PIL import Image

from tcm_jax.commands.command_line import progress
from tcm_jax.data.check import Survey
from tcm_jax.data.sources import parts, readable, spread, summary
from tcm_jax.files import atomic_file
from tcm_jax.records import Source, SourceError

_DRAWN = 12  # records on the sheet of a check
_LEFT_OUT = 10  # messages about records that are left out


@dataclass(frozen=True)
class Kind:
    """A kind of records, and what the commands need to know of it.

    Attributes:
        name: "words" or "scenes"; contents: what its records are, in messages.
        open: (path, *arguments, problems=...) -> the source at a path; arguments: these, from the options.
        survey: options -> a function (source, indices), which says what the records are like.
        line: a record -> its line in the list of `peek`.
        sheet: (records, columns) -> an image of them; columns: their numbers in `peek` and in `synth`.
        legend: what the colours of a sheet mean.
        render: options -> the source of rendered records.
        writers: by the name of a form, functions (records, path), which return the number of records.
        folder: the form that is a folder of images.
        check: raises ImageError if `writers` don't take a record.
    """

    name: str
    contents: str
    open: Callable[..., Any]
    arguments: Callable[[argparse.Namespace], tuple[str, ...]]
    survey: Callable[[argparse.Namespace], Callable[[Any, Iterable[int]], Survey]]
    line: Callable[[Any], str]
    sheet: Callable[[list[Any], int], Image.Image]
    columns: tuple[int, int]
    render: Callable[[argparse.Namespace], Any]
    writers: Mapping[str, Callable[[Iterable[Any], Path], int]]
    folder: str
    legend: str = ""
    check: Callable[[Any], object] = lambda record: None


def check(kind: Kind, options: argparse.Namespace, source: Source[Any], problems: list[str]) -> int:
    """Prints what is in a source and what is wrong with it; 1 if no record is usable.

    Args:
        problems: messages about what is malformed and left out.
    """
    survey = kind.survey(options)
    _print_recognised(source)
    indices = range(len(source)) if options.limit is None else spread(len(source), options.limit)
    result = survey(source, progress(indices, "checking"))
    print(result)
    if getattr(options, "draw", None):
        _draw(kind, list(readable(source, spread(len(source), _DRAWN), lambda _: None)), source, options.draw)
    for problem in problems[: options.show]:
        print(f"problem: {problem}")
    if len(problems) > options.show:
        print(f"problem: and {len(problems) - options.show:,} more (--show prints them)")
    return 0 if result.usable else 1


def peek(kind: Kind, options: argparse.Namespace, source: Source[Any]) -> int:
    """Draws records, evenly spread over the source, with their texts; 1 if none can be read."""
    broken: list[str] = []
    records = list(readable(source, spread(len(source), options.n), broken.append))
    for number, record in enumerate(records, start=1):
        print(f"{number:4} {kind.line(record)}")
    for message in broken:
        print(f"unreadable: {message}")
    _draw(kind, records, source, options.output)
    return 0 if records else 1


def build(kind: Kind, options: argparse.Namespace, source: Source[Any]) -> int:
    """Copies all readable records, with their images, labels and usable polygons unchanged, into another form."""
    if options.to not in kind.writers:
        raise SourceError(f"{source.name} holds {kind.contents}; --to {options.to} is not for {kind.contents}")
    broken: list[str] = []

    def records() -> Iterator[Any]:
        yield from readable(source, progress(range(len(source)), "writing"), broken.append, kind.check)
        if len(broken) == len(source):  # an error, so that the writer leaves nothing behind
            raise SourceError(f"{source.name}: no record can be read; the first: {broken[0]}")

    count = kind.writers[options.to](records(), options.destination)
    _print_recognised(source)
    print(f"{options.destination}: {count:,} records, {len(broken):,} left out")
    print_left_out(broken)
    return 0


def synth(kind: Kind, options: argparse.Namespace) -> int:
    """Renders records, as a sheet or as a folder of images with labels."""
    source = kind.render(options)
    records = (source[i] for i in progress(range(len(source)), "rendering"))
    if options.output.suffix:
        _save(kind.sheet(list(records), kind.columns[1]), options.output)
    else:
        kind.writers[kind.folder](records, options.output)
    fonts, listed = len(source.fonts.fonts), len(source.words.words)
    print(f"{options.output}: {len(source):,} {kind.name} from {fonts} fonts and {listed:,} listed words")
    return 0


def print_left_out(messages: list[str]) -> None:
    """Prints the first messages about records that are left out."""
    for message in messages[:_LEFT_OUT]:
        print(f"left out: {message}")


def _print_recognised(source: Any) -> None:
    for part in parts(source):
        print(f"recognised: {getattr(part, 'kind', 'source')} {part.name}: {summary(part)}")


def _draw(kind: Kind, records: list[Any], source: Source[Any], path: Path) -> None:
    if records:
        _save(kind.sheet(records, kind.columns[0]), path)
        print(f"{path}: {len(records)} of {len(source):,} records{kind.legend}")


def _save(sheet: Image.Image, path: Path) -> None:
    """Writes an image file of the format that the suffix of `path` names; ValueError if it names none."""
    format = Image.registered_extensions().get(path.suffix.lower())
    if format is None:
        raise ValueError(f"{path}: unknown suffix {path.suffix!r} of an image file")
    with atomic_file(path, "wb") as file:
        sheet.save(file, format)
