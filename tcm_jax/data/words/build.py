"""From the entries of a config to data sources.

An entry is {"path": PATH} or {"synthetic": {arguments of SyntheticWords}}; a training entry may have a
"weight", an evaluation entry a "name" and a "max_samples".
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

from tcm_jax.config import from_dict
from tcm_jax.data.words.labels import LabelFilter
from tcm_jax.data.words.sources import FilteredSource, open_source
from tcm_jax.files import as_path
from tcm_jax.records import SourceError, WordSource
from tcm_jax.render.words import SyntheticWords


@dataclass(frozen=True)
class Entry:
    """One data source as a config names it.

    Args:
        path: an LMDB, ArrayRecord files or a label file, or a folder with some, here or in an object store
            (gs://bucket/words, copied to this machine when it is opened); with `split`, a data set built by
            TFDS (see `tcm_jax.data.tfds`).
        split: of TFDS, such as "train" or "train[:90%]".
        synthetic: arguments of `SyntheticWords`; the charset and the length are the model's unless given.
        name: for messages and tables, "" for that of the source.
        weight: share of the training batches, in any unit; 0 for all entries makes every record count the
            same.
        max_samples: so many records at most, spread evenly; 0 for all.
        hold_out: every so-many-th record is for evaluation only, and the others for training only; 0 for no
            such split. Rendered words have the argument "split" instead.
        where: the entry's place in the config.
    """

    path: str = ""
    split: str = ""
    synthetic: Mapping[str, Any] = field(default_factory=dict)
    name: str = ""
    weight: float = 0.0
    max_samples: int = 0
    hold_out: int = 0
    where: str = ""


AnyEntry = TypeVar("AnyEntry", bound=Entry)


def parse_entries(entries: Sequence[Mapping[str, Any]], where: str, kind: type[AnyEntry]) -> list[AnyEntry]:
    """The entries of a list in a config; `where` is the list's name, `kind` the class of its entries.

    Raises:
        ValueError: an entry has an unknown key, not exactly one of "path" and "synthetic", or a number out
            of range; weights are given for some entries but not for all.
    """
    parsed: list[AnyEntry] = []
    for i, values in enumerate(entries):
        place = f"{where}[{i}]"
        entry = from_dict(kind, {**values, "where": place}, place)
        if ("path" in values) == ("synthetic" in values):
            raise ValueError(f'{place} has the keys {sorted(values)}; expected one of "path" and "synthetic"')
        if entry.weight < 0 or entry.max_samples < 0:
            raise ValueError(f"{place}: weight is {entry.weight}, max_samples {entry.max_samples}; expected >= 0")
        if entry.split and entry.synthetic:
            raise ValueError(f"{place}: split is of a path; rendered text has the argument synthetic.split instead")
        if entry.hold_out and (entry.hold_out < 2 or entry.synthetic):
            raise ValueError(f"{place}: hold_out is {entry.hold_out}; expected 2 or more, and a path")
        parsed.append(entry)
    if len({entry.weight > 0 for entry in parsed}) > 1:
        raise ValueError(f"{where}: give every entry a weight, or none: {[entry.weight for entry in parsed]}")
    return parsed


def weights(entries: Sequence[Entry]) -> list[float] | None:
    """The weights of the entries, None if they have none."""
    return [entry.weight for entry in entries] if any(entry.weight for entry in entries) else None


def training_source(entry: Entry, label_filter: LabelFilter, root: str | Path = "") -> WordSource:
    """The records of an entry that a recognizer can learn from: a `FilteredSource`, whose `report` says what
    was dropped, or rendered words, which have labels of the filter's charset and length by construction.

    Args:
        label_filter: with the charset and label length of the model.
        root: where relative paths start.

    Raises:
        SourceError: there is nothing (usable) at the path, or an argument of the rendered words is wrong; the
            message names the entry.
    """
    source = _open(entry, label_filter.charset, label_filter.max_length, root)
    return source if entry.synthetic else _filtered(entry, source, label_filter, held_out=False)


def evaluation_source(entry: Entry, label_filter: LabelFilter, charset: str, root: str | Path = "") -> FilteredSource:
    """The records of an entry with labels in the characters of the test.

    Args:
        label_filter: with the charset of the test; charset: that of the model, for rendered words.
    """
    records = _open(entry, charset, label_filter.max_length, root)
    source = _filtered(entry, records, label_filter, held_out=True)
    if entry.max_samples:
        source.index = source.index[:: -(-len(source) // entry.max_samples)]
    if entry.name:
        source.name = entry.name
    return source


def _open(entry: Entry, charset: str, max_length: int, root: str | Path) -> WordSource:
    try:
        if entry.synthetic:
            arguments: dict[str, Any] = {"charset": charset, "max_length": max_length, **entry.synthetic}
            return SyntheticWords(**arguments)
        path = as_path(root, entry.path)
        return _open_split(path, entry.split) if entry.split else open_source(path)
    except (OSError, TypeError, ValueError) as error:
        raise SourceError(f"{entry.where}: {error}") from error


def _open_split(path: Path, split: str) -> WordSource:
    from tcm_jax.data.tfds import TfdsWords, open_tfds  # an extra, and slow to import

    source = open_tfds(path, split)
    if not isinstance(source, TfdsWords):
        raise SourceError(f"{path} holds scenes; expected words")
    return source


def _filtered(entry: Entry, source: WordSource, label_filter: LabelFilter, held_out: bool) -> FilteredSource:
    filtered = FilteredSource(source, label_filter)
    if entry.hold_out:
        filtered.hold_out(entry.hold_out, held_out)
    if len(filtered) == 0:
        raise SourceError(f"{entry.where}: {source.name} has no usable record; {filtered.report}")
    return filtered
