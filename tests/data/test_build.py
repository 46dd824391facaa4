"""Entries of a config as data sources."""

import pytest

from tcm_jax.data.entries import Entry, parse_entries, weights
from tcm_jax.data.words.build import evaluation_crops, training_crops
from tcm_jax.data.words.labels import LabelFilter
from tcm_jax.records import SourceError

LETTERS = LabelFilter("abcdefghijklmnopqrstuvwxyz", 10)


@pytest.fixture
def folder(tmp_path):
    """Ten words in a label file; the images are never opened here."""
    (tmp_path / "words").mkdir()
    rows = "".join(f"{i}.png\tWord{chr(97 + i)}\n" for i in range(8)) + "8.png\t2024\n9.png\tfartoolongaword\n"
    (tmp_path / "words" / "labels.tsv").write_text(rows)
    return tmp_path


def test_relative_paths_start_at_the_root(folder):
    source = training_crops(Entry(path="words"), LETTERS, folder)
    assert len(source) == 8
    assert list(source.labels())[:2] == ["worda", "wordb"]
    assert "dropped 2" in str(source.report)


def test_max_samples_are_spread_evenly(folder):
    source = evaluation_crops(Entry(path="words", name="mine", max_samples=3), LETTERS, "abc", folder)
    assert source.name == "mine"
    assert list(source.labels()) == ["worda", "wordd", "wordg"]


def test_held_out_records_are_for_evaluation_only(folder):
    entry = Entry(path="words", hold_out=3)
    training, evaluation = training_crops(entry, LETTERS, folder), evaluation_crops(entry, LETTERS, "abc", folder)
    assert list(evaluation.labels()) == ["wordc", "wordf"]  # and number 9, which the filter drops
    assert list(training.labels()) == ["worda", "wordb", "wordd", "worde", "wordg", "wordh"]


def test_rendered_words_have_the_model_s_characters(tmp_path):
    entry = Entry(synthetic={"size": 5, "difficulty": 0.0})
    source = training_crops(entry, LETTERS)
    assert len(source) == 5
    assert all(label.isalpha() and label.islower() for label in source.labels())
    assert len(evaluation_crops(entry, LETTERS, LETTERS.charset)) == 5


@pytest.mark.parametrize(
    ("entry", "message"),
    [
        ({"path": "nowhere"}, r"config.data.train\[0\]: .*nowhere does not exist"),
        ({"synthetic": {"difficult": 1}}, r"config.data.train\[0\]: .*'difficult'"),
        ({"synthetic": {"difficulty": 7}}, r"config.data.train\[0\]: difficulty 7"),
    ],
)
def test_errors_name_the_entry(folder, entry, message):
    (parsed,) = parse_entries([entry], "config.data.train", Entry)
    with pytest.raises(SourceError, match=message):
        training_crops(parsed, LETTERS, folder)


def test_nothing_left_after_the_filter_is_an_error(folder):
    with pytest.raises(SourceError, match=r"list\[0\]: words/labels.tsv has no usable record; kept 0"):
        training_crops(*parse_entries([{"path": "words"}], "list", Entry), LabelFilter("xyz", 2), folder)


@pytest.mark.parametrize(
    ("entries", "message"),
    [
        ([{}], r"list\[0\] has the keys \[\]; expected one of"),
        ([{"path": "a", "synthetic": {}}], r"list\[0\] has the keys"),
        ([{"path": "a", "wieght": 1}], r"list\[0\] has no field 'wieght'; did you mean 'weight'"),
        ([{"path": "a", "weight": -1.0}], r"list\[0\]: weight is -1.0"),
        ([{"path": "a", "hold_out": 1}], r"list\[0\]: hold_out is 1"),
        ([{"synthetic": {"size": 9}, "hold_out": 3}], r"list\[0\]: hold_out is 3; .* and a path"),
        ([{"path": "a", "weight": 1.0}, {"path": "b"}], "give every entry a weight, or none"),
    ],
)
def test_mistakes_are_named(entries, message):
    with pytest.raises(ValueError, match=message):
        parse_entries(entries, "list", Entry)


def test_weights():
    assert weights(parse_entries([{"path": "a"}, {"path": "b"}], "list", Entry)) is None
    pairs = [{"path": "a", "weight": 3.0}, {"path": "b", "weight": 1.0}]
    assert weights(parse_entries(pairs, "list", Entry)) == [3.0, 1.0]
