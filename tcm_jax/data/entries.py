"""The entries of a config that name data sources: {"path": PATH} or {"synthetic": {arguments of the renderer}}.

A training entry may have a "weight", an evaluation entry a "name" and "max_samples". `tcm_jax.data.words.build` and
`tcm_jax.data.scenes.build` make sources of them.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

from tcm_jax.config import from_dict
from tcm_jax.files import as_path
from tcm_jax.records import SourceError


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
        weight: share of the training batches, in any unit; 0 for all entries makes every record count the same.
        max_samples: maximum number of records, spread evenly; 0 for all.
        hold_out: every N-th record is for evaluation only, and the others for training only; 0 for no such split.
            Rendered text has the argument "split" instead.
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


def open_entry(
    entry: Entry, root: str | Path, kind: str, render: Callable[..., Any], open_path: Callable[[Path], Any]
) -> Any:
    """The source that an entry names.

    Args:
        root: where relative paths start.
        kind: "words" or "scenes", which a split of TFDS must hold.
        render: makes the source of rendered text from the arguments `synthetic`.
        open_path: makes the source at a path.

    Raises:
        SourceError: nothing usable is at the path, or an argument of the renderer is wrong; the message names the
            entry.
    """
    try:
        if entry.synthetic:
            return render(**entry.synthetic)
        path = as_path(root, entry.path)
        if not entry.split:
            return open_path(path)
        from tcm_jax.data.tfds import open_tfds  # an extra, and slow to import

        source = open_tfds(path, entry.split)
        if source.holds != kind:
            raise SourceError(f"{path} holds {source.holds}; expected {kind}")
        return source
    except (OSError, TypeError, ValueError) as error:
        raise SourceError(f"{entry.where}: {error}") from error
