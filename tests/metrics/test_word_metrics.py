"""Word metrics: by hand, and against the numbers of the original."""

import pytest

from tcm_jax.metrics.recognition import (
    Result,
    WordTotals,
    combine,
    format_table,
    normalized_edit_distance,
)
from tests.conftest import read_json, read_jsonl


@pytest.mark.parametrize(
    ("prediction", "label", "expected"),
    [
        ("word", "word", 0),
        ("", "word", 1),
        ("word", "", 1),
        ("", "", 0),  # nothing to read, nothing read
        ("kitten", "sitting", 3 / 7),
        ("ab", "ba", 1),  # a swap is two edits
        ("abcd", "abc", 1 / 4),
    ],
)
def test_normalized_edit_distance(prediction, label, expected):
    assert normalized_edit_distance(prediction, label) == pytest.approx(expected)


def test_totals():
    totals = WordTotals()
    totals.add("stop", "stop", 0.8)
    totals.add("sto", "stop", 0.4)  # one deletion in four characters
    totals.add("", "go", 0.0)
    assert totals.result("signs") == Result("signs", 3, 100 / 3, 100 * (1 - 1.25 / 3), pytest.approx(40), 7 / 3)


def test_no_words():
    with pytest.raises(ValueError, match="empty set: no words"):
        WordTotals().result("empty set")
    with pytest.raises(ValueError, match="no results"):
        combine([])


def test_combined_weighs_by_size():
    results = [Result("a", 1, 100, 100, 50, 4, 1), Result("b", 3, 0, 60, 90, 8, 2)]
    assert combine(results) == Result("Combined", 4, 25, 70, 80, 7, 3)


def test_table():
    results = [Result("IIIT5k", 3000, 98.0333, 99.405, 97.1, 5.0873), Result("IC13_1015_x", 1, 0, 0, 0, 0)]
    assert format_table(results) == (
        "| Dataset     | # samples | Accuracy | 1 - NED | Confidence | Label Length |\n"
        "|:-----------:|----------:|---------:|--------:|-----------:|-------------:|\n"
        "| IIIT5k      |      3000 |    98.03 |   99.41 |      97.10 |         5.09 |\n"
        "| IC13_1015_x |         1 |     0.00 |    0.00 |       0.00 |         0.00 |\n"
        "|-------------|-----------|----------|---------|------------|--------------|\n"
        "| Combined    |      3001 |    98.00 |   99.37 |      97.07 |         5.09 |\n"
    )


def test_pairs(golden):
    for pair in read_jsonl(golden / "metrics/pairs.jsonl"):
        for charset in read_json(golden / "metrics/aggregate.json")["per_charset"]:
            expected = pair[charset]
            if expected["gt"] is None:
                continue
            actual = normalized_edit_distance(expected["pred"], expected["gt"])
            assert actual == pytest.approx(expected["ned_term"], abs=1e-12), pair


def test_aggregate(golden):
    pairs = read_jsonl(golden / "metrics/pairs.jsonl")
    aggregate = read_json(golden / "metrics/aggregate.json")
    split = aggregate["split_at"]
    for charset, expected in aggregate["per_charset"].items():

        def result(part, charset=charset):
            totals = WordTotals()
            for scores in (pair[charset] for pair in part):
                if scores["gt"] is not None:
                    totals.add(scores["pred"], scores["gt"], scores["confidence"])
            return totals.result(charset)

        def check(actual: Result, expected: dict, prefix: str = ""):
            names = {
                "accuracy_percent": actual.accuracy,
                "one_minus_ned_percent": actual.ned,
                "mean_confidence_percent": actual.confidence,
                "mean_label_length": actual.label_length,
                "num_samples": actual.num_samples,
            }
            known = {name: value for name, value in names.items() if prefix + name in expected}
            assert len(known) >= 2
            for name, value in known.items():
                assert value == pytest.approx(expected[prefix + name], rel=1e-9), name

        check(result(pairs), expected)
        parts = aggregate["two_datasets"][charset]
        results = [result(pairs[:split]), result(pairs[split:])]
        for actual, part in zip(results, parts["parts"], strict=True):
            check(actual, part)
        check(combine(results), parts, "combined_")
