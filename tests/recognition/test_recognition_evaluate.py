"""Evaluation of a data set: against the original's numbers, and what may not change the result."""

import numpy as np
import pytest

from tcm_jax.data.words.labels import LabelFilter
from tcm_jax.data.words.sources import FilteredSource
from tcm_jax.metrics.recognition import Result, combine
from tcm_jax.recognition import evaluate as evaluation
from tcm_jax.recognition.evaluate import evaluate
from tcm_jax.recognition.model import Prediction
from tcm_jax.recognition.views import CropViews
from tcm_jax.records import WordCrop
from tcm_jax.text.charset import CHARSET_36, CharsetTokenizer
from tests.conftest import in_two_processes, read_json, read_jsonl


class Records:
    """A source in memory."""

    def __init__(self, records: list[WordCrop], name: str = "made"):
        self.records, self.name = records, name

    def __len__(self):
        return len(self.records)

    def __getitem__(self, index):
        return self.records[index]

    def labels(self):
        return (record.label for record in self.records)


def numbered(labels, name="made") -> Records:
    """Records whose only pixel is their number, for `FakeReader`."""
    records = []
    for i, label in enumerate(labels):
        pixel = np.array([[[i % 256, i // 256, 0]]], np.uint8)  # [1, 1, 3]
        records.append(WordCrop(pixel, label, f"{name}:{i}"))
    return Records(records, name)


class FakeReader:
    """Reads image i of `numbered` as texts[i]; every token has the probability `confidences[i][position]`."""

    def __init__(self, charset, texts, confidences=None):
        self.tokenizer = CharsetTokenizer(charset)
        length = max(map(len, texts))
        self.ids = self.tokenizer.encode(texts, length)[:, 1:]
        self.confidences = np.ones(self.ids.shape) if confidences is None else np.array(confidences)
        self.views, self.dictionary_prior = CropViews((1, 1)), None
        self.batches = []

    def __call__(self, images):
        self.batches.append(len(images))
        pixels = images[:, 0, 0, 0].astype(int)  # the only one of the only view of each
        numbers = pixels[:, 0] + 256 * pixels[:, 1]
        return Prediction(self.ids[numbers], self.confidences[numbers])

    def evaluate(self, records: Records, charset=CHARSET_36, batch_size=4, **options) -> Result:
        source = FilteredSource(records, LabelFilter(charset))
        options = {"network": self, "batch_size": batch_size, **options}
        return evaluate(self, source, **options)


def test_by_hand():
    reader = FakeReader("abcABC", ["abc", "AB", "c"], [[0.5, 1, 1, 1], [0.5, 0.5, 1, 1], [0.2, 1, 1, 1]])
    samples = []
    result = reader.evaluate(numbered(["abc", "ab!", "aa"]), on_sample=samples.append)
    # "AB" is right: case and punctuation don't count. "c" for "aa" is two edits in two characters.
    assert result == Result("made", 3, 200 / 3, 100 * (1 - 1 / 3), pytest.approx(95 / 3), 2)
    assert samples[1] == ("made:1", "ab", "ab", 0.25)
    assert reader.batches == [4]  # the last batch is padded and the padding not counted


def test_dropped_labels_are_not_scored():
    result = FakeReader("abc", ["a", "b", "c"]).evaluate(numbered(["a", "?", "c"]))
    assert (result.num_samples, result.accuracy) == (2, 100)


def test_broken_image_is_wrong(caplog):
    source = numbered(["a", "", "b"])
    source.records[1] = WordCrop(b"not an image", "b", "made:broken")
    reader = FakeReader("ab", ["b", "b", "b"])  # would be right by chance
    samples = []
    result = reader.evaluate(source, on_sample=samples.append)
    assert (result.num_samples, result.undecodable) == (3, 1)
    assert result.accuracy == pytest.approx(100 / 3)
    assert samples[1] == ("made:broken", "b", "", 0.0)
    assert "made: 1 images can't be decoded and count as wrong: made:broken" in caplog.text


def test_lost_records_are_an_error(monkeypatch):
    batches = evaluation.eval_batches
    monkeypatch.setattr(evaluation, "eval_batches", lambda *args, **kw: [next(batches(*args, **kw))])
    with pytest.raises(RuntimeError, match="made: 2 words were scored; expected 3"):
        FakeReader("a", ["a"] * 3).evaluate(numbered(["a"] * 3), batch_size=2)


@pytest.mark.parametrize("batch_size", [7, 64])
def test_golden(golden, batch_size):
    """All of it: cleaning of labels, decoding, adaptation, metrics, and two data sets together."""
    charsets = read_json(golden / "metrics/config.json")["charsets"]
    aggregate = read_json(golden / "metrics/aggregate.json")
    pairs = read_jsonl(golden / "metrics/pairs.jsonl")
    for name, expected in aggregate["per_charset"].items():

        def run(part, name=name):
            longest = max(len(pair["pred"]) for pair in part) + 1
            confidences = [pair["conf"][:longest] for pair in part]
            reader = FakeReader(charsets["94_full"], [pair["pred"] for pair in part], confidences)
            return reader.evaluate(numbered([pair["gt_raw"] for pair in part]), charsets[name], batch_size)

        result = run(pairs)
        assert result.num_samples == expected["num_samples"]
        assert result.accuracy == pytest.approx(expected["accuracy_percent"], rel=1e-9)
        assert result.ned == pytest.approx(expected["one_minus_ned_percent"], rel=1e-9)
        assert result.confidence == pytest.approx(expected["mean_confidence_percent"], rel=1e-5)
        assert result.label_length == pytest.approx(expected["mean_label_length"], rel=1e-9)
        split, both = aggregate["split_at"], aggregate["two_datasets"][name]
        combined = combine([run(pairs[:split]), run(pairs[split:])])
        assert combined.accuracy == pytest.approx(both["combined_accuracy_percent"], rel=1e-9)
        assert combined.ned == pytest.approx(both["combined_one_minus_ned_percent"], rel=1e-9)


@pytest.mark.parametrize("batch_size", [1, 2, 3, 100])
def test_result_does_not_depend_on_the_batch_size(batch_size):
    labels = ["abc", "b", "", "cab", "a?b"] * 2
    texts = ["abc", "c", "a", "cb", "ab"] * 2
    confidences = np.random.default_rng(0).random((10, 4))

    def run(batch_size):
        return FakeReader("abc", texts, confidences).evaluate(numbered(labels), batch_size=batch_size)

    assert run(batch_size) == run(8)


_PROCESS = """
import dataclasses, json
from tcm_jax.distributed import initialize
initialize()
from tests.recognition.test_recognition_evaluate import FakeReader, numbered
reader = FakeReader("abc", ["a", "ab", "c", "a", "b"])
result = reader.evaluate(numbered(["a", "abc", "c", "b", "c"]))
print(json.dumps([dataclasses.asdict(result), reader.batches]))
"""


@pytest.mark.slow
def test_two_processes():
    outputs = in_two_processes(_PROCESS)
    alone = FakeReader("abc", ["a", "ab", "c", "a", "b"]).evaluate(numbered(["a", "abc", "c", "b", "c"]))
    for result, batches in outputs:
        assert Result(**result) == alone
        assert batches == [2, 2]  # each process reads its half of two batches of four
