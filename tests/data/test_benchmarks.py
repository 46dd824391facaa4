"""Test sets below a path and their known sizes."""

import io

import pytest
from PIL import Image

from tcm_jax.data.words.array_record import write_array_record
from tcm_jax.data.words.benchmarks import WORDS, benchmark_sets, count_problem, overlaps
from tcm_jax.data.words.labels import LabelFilter
from tcm_jax.data.words.lmdb import write_lmdb
from tcm_jax.data.words.sources import FilteredSource
from tcm_jax.records import SourceError, WordCrop
from tcm_jax.text.charset import CHARSET_36, CHARSET_94


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    """A benchmark root: three LMDBs, one of them in two parts, and a folder with a label file."""
    root = tmp_path_factory.mktemp("data") / "test"
    file = io.BytesIO()
    Image.new("RGB", (8, 4)).save(file, "PNG")
    records = [WordCrop(file.getvalue(), label, label) for label in ("one", "two", "?")]
    for name in ("zoo", "SVT", "IIIT5k", "Uber/train", "Uber/val"):
        write_lmdb(records, root / name)
    (root / "mine").mkdir()
    (root / "mine/a.png").write_bytes(file.getvalue())
    (root / "mine/labels.tsv").write_text("a.png\tword\n")
    write_array_record(records, root.parent / "packed/words.array_record-00000-of-00002")
    write_array_record(records, root.parent / "packed/words.array_record-00001-of-00002")
    write_array_record(records, root.parent / "packed/other.array_record")
    return root


def names_and_lengths(path):
    return [(source.name, len(source)) for source in benchmark_sets(path)]


def test_root(root):
    """The known sets come first, in the usual order."""
    assert names_and_lengths(root) == [("IIIT5k", 3), ("SVT", 3), ("Uber", 6), ("mine", 1), ("zoo", 3)]


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        ("test/SVT", [("SVT", 3)]),
        ("test/SVT/data.mdb", [("SVT", 3)]),
        ("test/mine", [("mine", 1)]),
        ("test/mine/labels.tsv", [("labels", 1)]),
        ("test/Uber", [("train", 3), ("val", 3)]),
        ("packed", [("other", 3), ("words", 6)]),
        ("packed/other.array_record", [("other", 3)]),
    ],
)
def test_single_sets(root, path, expected):
    assert names_and_lengths(root.parent / path) == expected


def test_nothing_there(root):
    with pytest.raises(SourceError, match="nowhere does not exist"):
        benchmark_sets(root / "nowhere")


def test_counts(root):
    def problem(name, charset):
        (source,) = benchmark_sets(root / name)
        return count_problem(FilteredSource(source, LabelFilter(charset)))

    message = f"SVT has 2 words, expected {WORDS['SVT']}; its labels: kept 2, dropped 1"
    assert problem("SVT", CHARSET_36).startswith(message)
    assert problem("mine", CHARSET_36) is None  # not a known set
    assert problem("SVT", "not") is None  # the known counts say nothing about these characters


class Counted:
    """A filtered source of a size."""

    def __init__(self, name, size, charset):
        self.name, self.size, self.report = name, size, "-"
        self.label_filter = LabelFilter(charset)

    def __len__(self):
        return self.size


def test_larger_charsets_may_keep_more():
    for name, expected in WORDS.items():
        assert count_problem(Counted(name, expected, CHARSET_36)) is None
        assert count_problem(Counted(name, expected + 1, CHARSET_36))
        assert count_problem(Counted(name, expected + 1, CHARSET_94)) is None
        assert count_problem(Counted(name, expected - 1, CHARSET_94))


def test_overlaps():
    assert overlaps(["IC13_857", "SVT"]) == []
    assert overlaps(["IC13_857", "IC13_1015"]) == ["IC13_857 is part of IC13_1015: Combined counts its words twice"]
