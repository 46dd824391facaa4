import json

import pytest

from tcm_jax.data.words.labels import FilterReport, LabelFilter
from tcm_jax.text.charset import CHARSET_36, CHARSET_62, CHARSET_94

OPTIONS = {
    "keep_whitespace": {"remove_whitespace": False},
    "no_unicode_normalization": {"normalize_unicode": "none"},
}


def kept(label_filter: LabelFilter, label: str) -> str | None:
    return label_filter(label)[0]


def test_labels_equal_the_reference(golden):
    folder = golden / "metrics"
    config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    rows = [json.loads(line) for line in (folder / "labels.jsonl").read_text(encoding="utf-8").split("\n") if line]
    columns = [column for column in rows[0] if column != "in"]
    assert any("|" in column for column in columns)
    for column in columns:
        charset, _, option = column.partition("|")
        options = {"max_length": config["max_label_len"]}
        if option.startswith("max_label_len="):
            options["max_length"] = int(option.removeprefix("max_label_len="))
        elif option:
            options |= OPTIONS[option]
        label_filter = LabelFilter(config["charsets"][charset], **options)
        assert [kept(label_filter, row["in"]) for row in rows] == [row[column] for row in rows], column


def test_each_step_in_its_order():
    label_filter = LabelFilter(CHARSET_36, max_length=5)
    assert label_filter("Caf\u00e9!") == ("cafe", None)  # accents lost, one case, punctuation deleted
    assert label_filter("a b c d e") == ("abcde", None)  # white space does not count
    assert label_filter("abcde!") == (None, "longer than 5 characters")  # but deleted characters do
    assert label_filter("...") == (None, "with characters outside the charset only")
    assert label_filter("\u65e5\u672c") == (None, "with characters outside the charset only")
    assert label_filter("") == label_filter(" \t") == (None, "with an empty label")


def test_white_space_is_kept_on_request():
    assert kept(LabelFilter(CHARSET_62 + " ", remove_whitespace=False), "to be") == "to be"
    assert kept(LabelFilter(CHARSET_62, remove_whitespace=False), "to be") == "tobe"


def test_a_charset_beyond_ascii_is_composed_and_not_deleted():
    label_filter = LabelFilter("abc\u00e9\ud55c")
    assert label_filter.normalize_unicode == "nfc"
    assert kept(label_filter, "bae\u0301") == "ba\u00e9"  # e and a combining accent
    assert kept(label_filter, "\u1112\u1161\u11ab") == "\ud55c"  # three jamo, one syllable
    assert LabelFilter(CHARSET_94).normalize_unicode == "ascii"


@pytest.mark.parametrize(
    ("charset", "form", "problem"),
    [
        ("ab\u00e9", "ascii", "would delete '\u00e9' of the charset"),
        ("ab\u212b", "nfc", "would delete '\u212b'"),  # the Angstrom sign, which NFC turns into a letter
        ("ab", "NFKC", 'expected "auto", "ascii", "nfc" or "none"'),
    ],
)
def test_a_normalization_that_does_not_fit_the_charset_is_refused(charset, form, problem):
    with pytest.raises(ValueError, match=problem):
        LabelFilter(charset, normalize_unicode=form)


def test_the_report_says_what_was_lost():
    label_filter = LabelFilter(CHARSET_36, max_length=5)
    report = FilterReport()
    for label in ["one", "TWO", "it's", "a-b", "(c)", "\u00e9", "\u65e5\u672c", "\u65e5!", "toolong", ""]:
        report.add(label_filter, label, *label_filter(label))
    assert report.kept == 6
    assert report.deleted == {"'": 1, "-": 1, "(": 1, ")": 1}
    assert report.outside == {"\u65e5": 2, "\u672c": 1, "!": 1}
    assert str(report) == (
        "kept 6, dropped 4: 2 with characters outside the charset only (top: '\u65e5' 2, '\u672c' 1, '!' 1), "
        "1 longer than 5 characters, 1 with an empty label; "
        "deleted from kept labels: \"'\" 1, '-' 1, '(' 1, ')' 1"
    )


def test_the_report_counts_thousands_and_shows_ten_characters():
    label_filter = LabelFilter("x")
    report = FilterReport()
    for _ in range(1200):
        report.add(label_filter, "x", *label_filter("x"))
    report.add(label_filter, "x0123456789ab", *label_filter("x0123456789ab"))
    assert str(report).startswith("kept 1,201, dropped 0; deleted from kept labels: '0' 1, ")
    assert str(report).endswith("'9' 1 and 2 more")
