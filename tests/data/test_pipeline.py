import itertools
import os
import subprocess
import sys
from collections import Counter

import numpy as np
import pytest
from word_files import ListSource, gray, jpeg, records

from tcm_jax.data.pipeline import eval_batches, train_batches
from tcm_jax.data.words.labels import LabelFilter
from tcm_jax.data.words.lmdb import write_lmdb
from tcm_jax.data.words.samples import RecognitionSample
from tcm_jax.data.words.sources import FilteredSource, open_word_crops
from tcm_jax.distributed.share import Share
from tcm_jax.images.decoding import ImageError, decode, resize
from tcm_jax.recognition.views import CropViews, with_margin
from tcm_jax.records import WordCrop
from tcm_jax.text.charset import CHARSET_36, CharsetTokenizer

TOKENIZER = CharsetTokenizer(CHARSET_36)
SIZE = (8, 16)
VIEW = CropViews(SIZE)


def shift(image: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """An augmentation that shows its random number."""
    return np.clip(image + rng.integers(0, 100), 0, 255).astype(np.uint8)


def train(source, count: int, **options) -> list[dict]:
    """The first `count` batches."""
    sample = RecognitionSample(TOKENIZER, SIZE, 5, options.pop("augment", None))
    sources = source if isinstance(source, list) else [source]
    batches = train_batches(sources, sample, **({"batch_size": 4, "seed": 0} | options))
    taken = list(itertools.islice(batches, count))
    batches.close()
    return taken


def assert_same(actual: list[dict], expected: list[dict]) -> None:
    assert len(actual) == len(expected)
    for a, e in zip(actual, expected, strict=True):
        assert a.keys() == e.keys()
        for key in e:
            np.testing.assert_array_equal(a[key], e[key], err_msg=key)


def test_a_batch():
    (batch,) = train(ListSource(records(10)), 1)
    assert batch["image"].shape == (4, *SIZE, 3)
    assert batch["image"].dtype == np.uint8
    assert batch["undecodable"] == []
    numbers = [int(name.removeprefix("made:")) for name in batch["name"]]
    assert [gray(image) for image in batch["image"]] == numbers
    np.testing.assert_array_equal(batch["label"], TOKENIZER.encode([f"w{n}" for n in numbers], 5))


def test_every_epoch_has_every_record_once_in_another_order():
    names = [name for batch in train(ListSource(records(10)), 10) for name in batch["name"]]
    epochs = [names[i : i + 10] for i in range(0, 40, 10)]
    assert all(len(set(epoch)) == 10 for epoch in epochs)
    assert len({tuple(epoch) for epoch in epochs}) == 4


def test_a_run_is_resumed_without_the_batches_before():
    source = ListSource(records(10))
    whole = train(source, 7, augment=shift)
    assert_same(train(source, 3, augment=shift, start_step=4), whole[4:])
    assert train(source, 1, augment=shift, seed=1)[0]["name"] != whole[0]["name"]


def test_augmentation_differs_between_epochs():
    source = ListSource(records(1))
    grays = [gray(image) for batch in train(source, 3, augment=shift) for image in batch["image"]]
    assert len(set(grays)) > 6


def test_processes_share_every_batch():
    source = ListSource(records(10))
    whole = train(source, 3, augment=shift)
    halves = [train(source, 3, augment=shift, share=Share.of(i, 2)) for i in range(2)]
    for step, batch in enumerate(whole):
        for key in ("image", "label", "name"):
            joined = np.concatenate([half[step][key] for half in halves])
            np.testing.assert_array_equal(joined, batch[key])


@pytest.mark.parametrize("parts", [(0, 3), (1, 2), (2,), (0, 1, 3)])
def test_a_process_holds_any_parts_of_a_batch(parts):
    source = ListSource(records(10))
    mine = train(source, 3, augment=shift, batch_size=8, start_step=1, share=Share(4, parts, parts))
    for batch, whole in zip(mine, train(source, 3, augment=shift, batch_size=8, start_step=1), strict=True):
        rows = [2 * part + i for part in parts for i in range(2)]
        for key in ("image", "label", "name"):
            np.testing.assert_array_equal(np.asarray(batch[key]), np.asarray(whole[key])[rows])


def test_workers_change_nothing(tmp_path):
    made = [WordCrop(jpeg(i), "w", f"{'long' * i}/name") for i in range(9)]  # names of different lengths stay whole
    write_lmdb(made, tmp_path / "words")
    source = FilteredSource(open_word_crops(tmp_path / "words"), LabelFilter(CHARSET_36))
    expected = train(source, 5, augment=shift)
    assert_same(train(source, 5, augment=shift, workers=2), expected)


def test_weights_mix_sources_in_proportion():
    small, large = ListSource(records(2), "small"), ListSource(records(50), "large")
    for source in (small, large):
        source.records = [WordCrop(r.image, r.label, source.name) for r in source.records]

    def counts(**options) -> dict:
        return Counter(name for batch in train([small, large], 13, **options) for name in batch["name"])

    assert counts() == {"small": 2, "large": 50}  # one epoch: every record counts the same
    assert counts(weights=(1, 3)) == {"small": 13, "large": 39}


def test_an_undecodable_image_is_replaced_by_the_next():
    broken = (3, 4)
    batches = train(ListSource(records(8, broken)), 2)
    names = Counter(name for batch in batches for name in batch["name"])
    assert names == {f"made:{i}": 3 if i == 5 else 1 for i in range(8) if i not in broken}
    undecodable = Counter(name for batch in batches for name in batch["undecodable"])
    assert undecodable == {"made:3": 1, "made:4": 2}  # 3 was followed by 4
    assert_same(train(ListSource(records(8, broken)), 2), batches)


def test_a_source_without_any_image_is_an_error():
    with pytest.raises(ImageError, match="made: 100 images in a row can't be decoded; the last: made:1: empty file"):
        train(ListSource([WordCrop(b"", "x", "made:0"), WordCrop(b"", "x", "made:1")]), 1, batch_size=1, seed=1)


def test_a_label_outside_the_charset_names_its_record():
    with pytest.raises(ValueError, match="made:0: label 'A' has 'A', which is not in the charset"):
        train(ListSource([WordCrop(jpeg(0), "A", "made:0")]), 1)


def test_nothing_left_to_train_on_says_why():
    source = FilteredSource(ListSource([WordCrop(jpeg(0), "\u00e9\u65e5", "made:0")]), LabelFilter("\u00e4"))
    with pytest.raises(ValueError, match=r"made has no usable record; kept 0, dropped 1: 1 with .*top: '\u00e9' 1"):
        train(source, 1)


@pytest.mark.parametrize(
    ("options", "problem"),
    [
        (
            {"batch_size": 5, "share": Share.of(0, 2)},
            "batch_size 5 is no positive multiple of the 2 parts it is cut in",
        ),
        ({"share": Share.of(2, 2)}, r"parts \(2,\) of 2"),
        ({"weights": (1, 1)}, r"weights \[1, 1\] for 1 sources"),
        ({"weights": (0,)}, "one positive number each"),
    ],
)
def test_arguments_that_do_not_fit(options, problem):
    with pytest.raises(ValueError, match=problem):
        train(ListSource(records(4)), 1, **options)


def test_evaluation_is_one_pass_with_a_padded_end():
    made = records(10)
    batches = list(eval_batches(ListSource(made), prepare=CropViews(SIZE, (0.0, 0.5)), batch_size=4))
    assert [batch["valid"].sum() for batch in batches] == [4, 4, 2]
    assert all(batch["image"].shape == (4, 2, *SIZE, 3) for batch in batches)
    assert [text for batch in batches for text in batch["text"]] == [f"w{i}" for i in range(10)] + ["", ""]
    last = decode(made[9].image)
    for picture, image in zip(batches[2]["image"][1], (last, with_margin(last, 0.5)), strict=True):
        np.testing.assert_array_equal(picture, resize(image, SIZE))
    assert not batches[2]["image"][2:].any()


def valid_texts(batches: list[dict]) -> list[str]:
    return [text for batch in batches for text, valid in zip(batch["text"], batch["valid"], strict=True) if valid]


@pytest.mark.parametrize("count", [1, 2, 9])
def test_every_process_evaluates_its_rows_in_equally_many_batches(count):
    source = ListSource(records(count))
    options = {"prepare": VIEW, "batch_size": 4}
    parts = [list(eval_batches(source, share=Share.of(i, 2), **options)) for i in range(2)]
    assert len(parts[0]) == len(parts[1]) == -(-count // 4)
    in_order = [batch for step in zip(*parts, strict=True) for batch in step]
    assert valid_texts(in_order) == [f"w{i}" for i in range(count)]


def test_rows_that_two_processes_hold_are_scored_by_one():
    source = ListSource(records(7))
    shares = [Share(2, (0, 1), (0,)), Share(2, (1,), (1,))]
    texts = [valid_texts(list(eval_batches(source, prepare=VIEW, batch_size=4, share=share))) for share in shares]
    assert texts == [["w0", "w1", "w4", "w5"], ["w2", "w3", "w6"]]


@pytest.mark.parametrize("count", [1, 9])  # less than one batch per worker, and more
def test_workers_lose_no_record_of_an_evaluation(count):
    batches = list(eval_batches(ListSource(records(count)), prepare=VIEW, batch_size=4, workers=2))
    assert valid_texts(batches) == [f"w{i}" for i in range(count)]


class MissingImage(ListSource):
    def __getitem__(self, index: int) -> WordCrop:
        raise ImageError(f"made:{index}", "no such file")


def test_evaluation_keeps_the_row_of_an_undecodable_image():
    for source in (ListSource(records(2, broken=(0, 1))), MissingImage(records(2))):
        (batch,) = eval_batches(source, prepare=VIEW, batch_size=2)
        assert batch["undecodable"] == batch["name"] == ["made:0", "made:1"]
        assert batch["text"] == ["w0", "w1"]
        assert batch["valid"].all()
        assert not batch["image"].any()


def test_evaluation_notices_lost_records():
    class Shrinking(ListSource):
        shrunk = False

        def __len__(self) -> int:
            return 1 if self.shrunk else 2

        def __getitem__(self, index: int) -> WordCrop:
            self.shrunk = True
            return super().__getitem__(index)

    with pytest.raises(RuntimeError, match="made: 1 records were read; expected 2"):
        list(eval_batches(Shrinking(records(2)), prepare=VIEW, batch_size=2))


PROGRAM = """
import sys
from tcm_jax.data.pipeline import train_batches
from tcm_jax.data.words.samples import RecognitionSample
from tcm_jax.data.words.sources import open_word_crops
from tcm_jax.text.charset import CHARSET_36, CharsetTokenizer

def platforms(image, rng):
    import jax
    assert jax.config.jax_platforms == "cpu" and jax.default_backend() == "cpu"
    return image

if __name__ == "__main__":
    sample = RecognitionSample(CharsetTokenizer(CHARSET_36), (8, 8), augment=platforms)
    for batch in train_batches([open_word_crops(sys.argv[1])], sample, batch_size=2, seed=0, workers=1):
        print("batch", flush=True)
        sys.stdin.readline()
        raise KeyboardInterrupt
"""


def test_workers_take_no_accelerator_and_end_quietly(tmp_path):
    write_lmdb(records(4), tmp_path / "words")
    (tmp_path / "program.py").write_text(PROGRAM)
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path), "JAX_PLATFORMS": ""}
    done = subprocess.run(
        [sys.executable, tmp_path / "program.py", tmp_path / "words"],
        input="\n",
        capture_output=True,
        text=True,
        env=environment,
        timeout=120,
    )
    assert done.stdout == "batch\n"
    assert done.stderr.count("Traceback") == 1
    assert "KeyboardInterrupt" in done.stderr
