"""Test sets below a path, and the numbers of words in the well-known ones."""

from collections.abc import Sequence
from pathlib import Path

from tcm_jax.data.array_record import is_array_record, set_name
from tcm_jax.data.sources import ConcatSource, parts
from tcm_jax.data.words.label_files import local_words
from tcm_jax.data.words.sources import FilteredSource, open_word_crops
from tcm_jax.records import WordSource
from tcm_jax.text.charset import CHARSET_36

# Words after cleaning with the charset of 36, in the order of the usual tables. Sources: README.md of
# CLIP4STR and PARSeq; of IC13_857, MMOCR's icdar2013/textrecog.py.
WORDS = {
    "IIIT5k": 3_000,
    "SVT": 647,
    "IC13_857": 857,
    "IC13_1015": 1_015,
    "IC15_1811": 1_811,
    "IC15_2077": 2_077,
    "SVTP": 645,
    "CUTE80": 288,
    "HOST": 2_416,
    "WOST": 2_416,
    "ArT": 35_149,
    "COCOv1.4": 9_825,
    "Uber": 80_551,
}
_SUPERSETS = {"IC13_857": "IC13_1015", "IC15_1811": "IC15_2077"}


def benchmark_sets(path: str | Path) -> list[WordSource]:
    """The data sets at `path`, named.

    An LMDB or a folder with a label file is one set with the name of the folder. The shards of a set
    of ArrayRecord files, and each other such file, are one too. Of any other folder every entry with records at or
    below it is a set: the known ones come first in the usual order, then the others.

    Raises:
        SourceError: nothing usable is there.
    """
    path = local_words(path)
    sets: dict[str, list[WordSource]] = {}
    for part in parts(open_word_crops(path)):
        sets.setdefault(_set_name(path, part.path), []).append(part)
    names = [*(name for name in WORDS if name in sets), *(name for name in sets if name not in WORDS)]
    return [ConcatSource(sets[name], name) for name in names]


def count_problem(source: FilteredSource) -> str | None:
    """What is wrong with the number of words of a known set, if anything.

    The counts hold for the charset of 36; a larger charset may keep words that have no letter or digit. Sets
    of unknown name and charsets without all of the 36 can't be checked.
    """
    expected, charset = WORDS.get(source.name), source.label_filter.charset
    if expected is None or not set(CHARSET_36) <= set(charset):
        return None
    if len(source) == expected or (len(source) > expected and set(charset) > set(CHARSET_36)):
        return None
    return f"{source.name} has {len(source):,} words, expected {expected:,}; its labels: {source.report}"


def overlaps(names: Sequence[str]) -> list[str]:
    """Sentences on sets whose words are among those of another one in `names`."""
    pairs = ((part, superset) for part, superset in _SUPERSETS.items() if {part, superset} <= set(names))
    return [f"{part} is part of {superset}: Combined counts its words twice" for part, superset in pairs]


def _set_name(root: Path, file: Path) -> str:
    """The set to which `file`, an LMDB, a label file or an ArrayRecord file at or below `root`, belongs."""
    below = file.relative_to(root).parts
    if len(below) > 1:
        return below[0]
    if is_array_record(file.name):
        return set_name(file.name)  # shards have it in common
    if root.is_file() and file.name != "data.mdb":
        return file.stem
    return file.absolute().parent.name
