"""From the entries of a config to sources of crops."""

from pathlib import Path
from typing import Any

from tcm_jax.data.entries import Entry, open_entry
from tcm_jax.data.sources import at_most, check_not_empty
from tcm_jax.data.words.labels import LabelFilter
from tcm_jax.data.words.sources import FilteredSource, open_word_crops
from tcm_jax.records import WordSource


def training_crops(entry: Entry, label_filter: LabelFilter, root: str | Path = "") -> WordSource:
    """The records of an entry that a recognizer can learn from.

    Args:
        label_filter: with the charset and label length of the model.
        root: where relative paths start.

    Returns:
        A `FilteredSource`, whose `report` says what was dropped, or rendered words, which have labels of the filter's
        charset and length by construction.

    Raises:
        SourceError: there is nothing (usable) at the path, or an argument of the rendered words is wrong; the
            message names the entry.
    """
    source = _open(entry, label_filter.charset, label_filter.max_length, root)
    return source if entry.synthetic else _filtered(entry, source, label_filter, held_out=False)


def evaluation_crops(entry: Entry, label_filter: LabelFilter, charset: str, root: str | Path = "") -> FilteredSource:
    """The records of an entry with labels in the characters of the test: the held-out ones, at most `max_samples`.

    Args:
        label_filter: with the charset of the test; charset: that of the model, for rendered words.
        root: where relative paths start.

    Raises:
        SourceError: as of `training_crops`.
    """
    source = _filtered(entry, _open(entry, charset, label_filter.max_length, root), label_filter, held_out=True)
    source.index = at_most(source.index, entry.max_samples)
    source.name = entry.name or source.name
    return source


def _open(entry: Entry, charset: str, max_length: int, root: str | Path) -> WordSource:
    def render(**arguments: Any) -> WordSource:
        from tcm_jax.render.words import SyntheticWords  # only where a config asks for it

        return SyntheticWords(**{"charset": charset, "max_length": max_length, **arguments})

    return open_entry(entry, root, "words", render, open_word_crops)


def _filtered(entry: Entry, source: WordSource, label_filter: LabelFilter, held_out: bool) -> FilteredSource:
    filtered = FilteredSource(source, label_filter)
    if entry.hold_out:
        filtered.hold_out(entry.hold_out, held_out)
    check_not_empty(filtered, f"{entry.where}: ")
    return filtered
