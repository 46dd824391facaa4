"""What the commands for words and for scenes share."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Generic, Protocol, TypeVar

from PIL import Image
from rich.console import Console
from rich.progress import track

from tcm_jax.files import atomic_file
from tcm_jax.records import SourceError


class _Sized(Protocol):
    name: str

    def __len__(self) -> int: ...


S = TypeVar("S", bound=_Sized)
R = TypeVar("R")


@dataclass
class Opened(Generic[S]):
    """A source, and what of it is malformed and left out."""

    source: S
    problems: list[str] = field(default_factory=list)

    def whole(self) -> S:
        """The source; `SourceError` if anything of it is malformed."""
        if self.problems:
            raise SourceError(self.problems[0])
        return self.source


def print_problems(problems: list[str], count: int) -> None:
    for problem in problems[:count]:
        print(f"problem: {problem}")
    if len(problems) > count:
        print(f"problem: and {len(problems) - count:,} more (--show prints them)")


def print_left_out(messages: list[str]) -> None:
    for message in messages[:10]:
        print(f"left out: {message}")


def progress(indices: Sequence[int], description: str):
    return track(indices, description, console=Console(stderr=True), transient=True)


def some_of(records: Iterator[R], source: _Sized, broken: list[str]) -> Iterator[R]:
    """`records`; `SourceError`, so that a writer leaves nothing behind, if all of `source` were `broken`."""
    yield from records
    if len(broken) == len(source):
        raise SourceError(f"{source.name}: no record can be read; the first: {broken[0]}")


def save_picture(picture: Image.Image, path: Path) -> None:
    """Writes an image file of the format that the suffix of `path` names; ValueError if it names none."""
    format = Image.registered_extensions().get(path.suffix.lower())
    if format is None:
        raise ValueError(f"{path}: unknown suffix {path.suffix!r} of an image file")
    with atomic_file(path, "wb") as file:
        picture.save(file, format)
