"""What sources of crops and of annotated images share: joining, choosing records, and reading past broken ones."""

import bisect
import itertools
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

import numpy as np

from tcm_jax.images.decoding import ImageError
from tcm_jax.records import AnyRecord, Source, SourceError


class ConcatSource:
    """The records of several sources of one kind, one source after the other; a `Source`."""

    def __init__(self, sources: Sequence[Any], name: str) -> None:
        self.sources = list(sources)
        self.name = name
        self._ends = list(itertools.accumulate(len(source) for source in self.sources))

    def __len__(self) -> int:
        return self._ends[-1] if self._ends else 0

    def __getitem__(self, index: int) -> Any:
        index = range(len(self))[index]  # IndexError out of range
        part = bisect.bisect_right(self._ends, index)
        return self.sources[part][index - (self._ends[part - 1] if part else 0)]

    def labels(self) -> Iterator[str]:
        """All labels, of crops."""
        return itertools.chain.from_iterable(source.labels() for source in self.sources)


def parts(source: Any) -> list[Any]:
    """The sources that `source` joins, or itself."""
    return source.sources if isinstance(source, ConcatSource) else [source]


def summary(source: Source[Any]) -> str:
    """What was read and what was left out, as far as `source` reports it; its length otherwise."""
    return str(getattr(source, "report", f"{len(source):,} records"))


def check_not_empty(source: Source[Any], where: str = "") -> None:
    """Raises `SourceError` if a source has no records; `where` begins the message."""
    if len(source) == 0:
        raise SourceError(f"{where}{source.name} has no usable record; {summary(source)}")


def some(texts: Sequence[str], count: int = 5, separator: str = ", ") -> str:
    """The first `count` of `texts`, and "..." if there are more; for messages."""
    return separator.join([*texts[:count], *(["..."] if len(texts) > count else [])])


def spread(length: int, count: int) -> list[int]:
    """`count` indices (or all, if there are fewer) evenly over 0 .. length - 1."""
    count = min(length, count)
    return [i * length // count for i in range(count)]


def select_held_out(index: np.ndarray, every: int, held_out: bool) -> np.ndarray:
    """Those of the record numbers `index`, [n], that are held out (`every` - 1, 2 `every` - 1 ...), or the others."""
    return index[((index + 1) % every == 0) == held_out]


def at_most(index: np.ndarray, count: int) -> np.ndarray:
    """At most `count` of the record numbers `index`, [n], at equal steps; all of them if `count` is 0."""
    return index[:: -(-len(index) // count)] if count and len(index) else index


def readable(
    source: Source[AnyRecord],
    indices: Iterable[int],
    on_error: Callable[[str], None],
    check: Callable[[Any], object] = lambda record: None,
) -> Iterator[AnyRecord]:
    """The records `indices` without those that can't be read, or for which `check` raises an error: each gives a
    message to `on_error`.
    """
    for index in indices:
        try:
            record = source[index]
            check(record)
        except (ImageError, SourceError) as error:
            on_error(str(error))
        else:
            yield record
