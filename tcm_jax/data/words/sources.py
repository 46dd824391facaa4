"""Sources of crops: what a path holds, and filtering by label.

Everything a user needs from here: `open_word_crops(path)` recognises word LMDBs, ArrayRecord files, sets of shards and
folders with a label file; `FilteredSource` keeps what a recognizer can learn from and says what it dropped.
"""

import itertools
import os
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from tcm_jax.data.array_record import has_signature, is_array_record, is_shard, set_name, shard_sets
from tcm_jax.data.sources import ConcatSource, select_held_out
from tcm_jax.data.words import label_files
from tcm_jax.data.words.array_record import ArrayRecordCrops
from tcm_jax.data.words.label_files import LabelFileSource
from tcm_jax.data.words.labels import FilterReport, LabelFilter
from tcm_jax.data.words.lmdb import LmdbSource
from tcm_jax.files import as_path, local_copy
from tcm_jax.images.decoding import ImageError, image_size
from tcm_jax.images.inputs import IMAGE_SUFFIXES
from tcm_jax.records import SourceError, WordCrop, WordSource

_LABEL_NAMES = ("labels", "label", "gt")  # these win over other tables in the same folder
_EXPECTED = (
    "expected an LMDB (data.mdb), *.arrayrecord files, or a folder of crops with a label file "
    "(labels.tsv, gt.txt, *.csv, *.jsonl) at the path or anywhere below it"
)


class FilteredSource:
    """The records of `source` that `label_filter` keeps, with their cleaned labels; a `WordSource`.

    All labels are read once, at construction; the images only if the filter has a `min_image_size`, and then
    a record whose image can't be read is dropped too. Only the numbers of the kept records are held, 4 bytes
    each.

    Attributes:
        index: the numbers of the kept records in `source`, uint32 [n].
        report: what was kept and dropped, and why.
    """

    def __init__(self, source: WordSource, label_filter: LabelFilter) -> None:
        self.source = source
        self.label_filter = label_filter
        self.name = source.name
        self.report = FilterReport()
        kept = []
        for index, raw in enumerate(source.labels()):
            label, reason = label_filter(raw)
            if label is not None and label_filter.min_image_size:
                reason = self._image_problem(index)
            self.report.add(label_filter, raw, label, reason)
            if reason is None:
                kept.append(index)
        self.index = np.array(kept, np.uint32)

    def __len__(self) -> int:
        return len(self.index)

    def __getitem__(self, index: int) -> WordCrop:
        record = self.source[int(self.index[index])]
        label, reason = self.label_filter(record.label)
        if label is None:
            raise SourceError(f"{record.name}: the label is now {record.label!r}, {reason}; the source has changed")
        return WordCrop(record.image, label, record.name)

    def labels(self) -> Iterator[str]:
        """The cleaned labels in order."""
        cleaned = (self.label_filter(raw)[0] or "" for raw in self.source.labels())
        return itertools.compress(cleaned, np.isin(np.arange(len(self.source)), self.index))

    def hold_out(self, every: int, held_out: bool) -> None:
        """Keeps only the held-out records of `source`, which are number `every`, 2 * `every` and so on, counted from
        1 before any label was dropped; or, with `held_out` off, only the others.
        """
        self.index = select_held_out(self.index, every, held_out)

    def _image_problem(self, index: int) -> str | None:
        try:
            record = self.source[index]
            return self.label_filter.size_problem(image_size(record.image, record.name))
        except ImageError:
            return "with an unreadable image"


def open_word_crops(path: str | Path, problems: list[str] | None = None) -> WordSource:
    """The records at `path`, whatever their form; several data sets below it are joined in path order.

    Recognised by content: a word LMDB (`LmdbSource`), ArrayRecord files (`ArrayRecordCrops`, the shards of a set
    as one), a label file or a folder with one (`LabelFileSource`). Folders are searched downwards until something is
    found.

    Args:
        path: a file or folder; a remote one is copied here, see `tcm_jax.files.local_copy`.
        problems: a list to add the messages of unusable parts to, so that the usable rest can be inspected;
            without it the first problem is an error.

    Raises:
        SourceError: nothing (usable) is there; the message says what was found instead, and which path to give.
    """
    # Other files need those beside them: a label file its images.
    path = local_copy(path, with_folder=not is_array_record(as_path(path).name))
    if not path.exists():
        parent = next(parent for parent in path.absolute().parents if parent.exists())
        raise SourceError(f"{path} does not exist; the nearest folder that does is {parent}")
    root = Path(os.path.abspath(path)).name
    found: list[str] = []
    sources = []
    for part in _search(path, found):
        try:
            sources.append(_open(part, path, root, found if problems is not None else None))
        except SourceError as error:
            found.append(str(error))
    if found and (problems is None or not sources):
        raise SourceError(found[0])
    if not sources:
        raise SourceError(_nothing_found(path))
    if problems is not None:
        problems.extend(found)
    return sources[0] if len(sources) == 1 else ConcatSource(sources, root)


def _open(part: Path | list[Path], path: Path, root: str, problems: list[str] | None) -> WordSource:
    """The source of one part of `path`. Its name is as "train/real" below the root "train"."""
    if isinstance(part, list):
        folder, name = Path(root, part[0].parent.relative_to(path)), set_name(part[0].name)
        return ArrayRecordCrops(part, str(folder if folder.name == name else folder / name))
    below = Path(root, part.relative_to(path))
    name = "" if part == path else str(below.parent if part.name == "data.mdb" else below)
    if part.suffix.lower() in label_files.SUFFIXES:
        return LabelFileSource(part, name, problems)
    return ArrayRecordCrops(part, name) if has_signature(part) else LmdbSource(part, name)


def _search(path: Path, problems: list[str]) -> Iterator[Path | list[Path]]:
    """The files with records at and below `path`, sorted, the shards of a set as a list.

    Folders below one with records are not searched.
    """
    if path.is_file():
        if path.suffix.lower() in IMAGE_SUFFIXES or path.name == "lock.mdb":
            raise SourceError(f"{path} is a single file without records; give its folder {path.absolute().parent}")
        yield path
        return
    with os.scandir(path) as unsorted:
        entries = sorted((entry for entry in unsorted if entry.name[0] != "."), key=lambda entry: entry.name)
    files = [Path(entry.path) for entry in entries if entry.is_file()]
    records: list[Path | list[Path]] = [file for file in files if file.name == "data.mdb"]
    records += [shards if is_shard(shards[0].name) else shards[0] for shards in shard_sets(files)]
    if not records:
        tables = [file for file in files if file.suffix.lower() in label_files.SUFFIXES]
        named = [file for file in tables if file.stem.lower() in _LABEL_NAMES]
        tables = named or [file for file in tables if label_files.has_images(file)]
        if len(tables) > 1:
            names = ", ".join(file.name for file in tables)
            problems.append(f"{path} has several label files, give the path of one: {names}")
            return
        records += tables
    yield from records
    if not records:
        for entry in entries:
            if entry.is_dir():
                yield from _search(Path(entry.path), problems)


def _nothing_found(path: Path) -> str:
    """What is at `path` instead of records, and where records are nearby."""
    files = [file for _, _, names in os.walk(path) for file in names]
    images = sum(file.lower().endswith(IMAGE_SUFFIXES) for file in files)
    parent = path.absolute().parent
    hint = ""
    if images:
        found = f"{images:,} images but no label file that names them"
        above = (file for file in parent.iterdir() if file.suffix.lower() in (*label_files.SUFFIXES, ".mdb"))
        if file := next(above, None):
            hint = f"; {file.name} lies one level up, so give {parent}"
    elif files:
        found = f"{len(files):,} files, such as {files[0]}, but no records"
    else:
        found = "no files"
    return f"{path} holds {found}; {_EXPECTED}{hint}"
