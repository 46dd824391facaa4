import numpy as np
import pytest
from PIL import Image
from word_files import ListSource, folder, jpeg, raw_lmdb, records, run

from tcm_jax.data.sources import spread
from tcm_jax.data.words.check import contact_sheet, survey
from tcm_jax.data.words.labels import LabelFilter
from tcm_jax.data.words.lmdb import write_lmdb
from tcm_jax.data.words.sources import open_word_crops
from tcm_jax.records import WordCrop
from tcm_jax.text.charset import CHARSET_36


def test_a_survey_finds_what_is_wrong():
    made = [
        WordCrop(jpeg(0), "one", "0"),
        WordCrop(jpeg(0), "one", "1"),
        WordCrop(jpeg(0), "two", "2"),
        WordCrop(jpeg(1)[:-300], "cut", "3"),
        WordCrop(jpeg(1, width=4), "i", "4"),
        WordCrop(jpeg(2, width=1600), "long", "5"),
        WordCrop(jpeg(3, height=60), "...", "6"),
        WordCrop(np.full((10, 20, 3), 7, np.uint8), "array", "7"),
    ]
    result = survey(ListSource(made), LabelFilter(CHARSET_36), range(8))
    assert (result.inspected, result.usable) == (8, 6)
    assert result.places["image: same as another"] == ["1 = 0", "2 = 0"]
    assert result.places["image: same as another, with another label"] == ["2 = 0"]
    text = str(result)
    for line in (
        "labels: kept 7, dropped 1: 1 with characters outside the charset only (top: '.' 3)",
        "        7 different; most frequent: 'one' 2, 'two' 1, 'cut' 1, 'i' 1, 'long' 1",
        "images: height 10 .. 60, median 10, 90 % within 10 .. 45",
        "image: tiny (under 8 pixels): 1: 4",
        "image: huge (over 1500 pixels; not cropped?): 1: 5",
        "image: tall (height over 2 x width; rotated or vertical?): 2: 4, 6",
        "image: same as another: 2: 1 = 0, 2 = 0",
        "image: same as another, with another label: 1: 2 = 0",
        "unreadable: 1 of 8",
        "usable: 6 of 8 records",
    ):
        assert line in text.split("\n")


def test_a_survey_applies_the_smallest_image_size():
    result = survey(ListSource(records(2)), LabelFilter(CHARSET_36, min_image_size=11), range(2))
    assert result.usable == 0
    assert result.report.dropped == {"with an image under 11 pixels": 2}


def test_check_of_a_partly_broken_folder(tmp_path, capsys):
    folder(tmp_path / "A", "labels.csv", "a.jpg,Word\nb.jpg\nc.jpg,lost\n")
    raw_lmdb(tmp_path / "B", {"num-samples": b"7"})
    write_lmdb(records(12, broken=tuple(range(12))), tmp_path / "C")
    code, text = run(capsys, "check", tmp_path, "--charset", "36")
    assert code == 0
    assert f"recognised: label file {tmp_path.name}/A/labels.csv: 2 records" in text
    assert f"recognised: word LMDB {tmp_path.name}/C: 12 records" in text
    assert "unreadable: 13 of 14" in text
    assert "  and 3 more" in text
    assert "usable: 1 of 14 records" in text
    assert "problem: " in text
    assert "labels.csv:2: 1 fields" in text
    assert "key 'image-000000001' is missing" in text
    assert "problem: and 1 more" in run(capsys, "check", tmp_path, "--show", "1")[1]


def test_check_fails_when_nothing_is_usable(tmp_path, capsys):
    folder(tmp_path / "words", "labels.tsv", "a.jpg\t\u65e5\u672c\n")
    code, text = run(capsys, "check", tmp_path)
    assert code == 1
    assert "kept 0, dropped 1: 1 with characters outside the charset only (top: '\u65e5' 1, '\u672c' 1)" in text
    assert run(capsys, "check", tmp_path, "--charset", "\u65e5\u672c")[0] == 0
    code, text = run(capsys, "check", tmp_path / "nowhere")
    assert code == 1
    assert "nowhere does not exist" in text


def test_check_of_wrong_options(tmp_path, capsys):
    folder(tmp_path, "labels.tsv", "a.jpg\tword\n")
    code, text = run(capsys, "check", tmp_path, "--charset", "file:nowhere")
    assert code == 1
    assert text.startswith("error: ")
    code, text = run(capsys, "check", tmp_path, "--charset", "\u00e9", "--unicode", "ascii")
    assert code == 1
    assert "would delete" in text


def test_check_of_some_records(tmp_path, capsys):
    write_lmdb(records(10), tmp_path / "words")
    assert "usable: 3 of 3 records" in run(capsys, "check", tmp_path, "--limit", "3")[1]
    assert spread(10, 3) == [0, 3, 6]
    assert spread(2, 5) == [0, 1]
    assert spread(0, 5) == []


def test_peek_draws_records_with_labels(tmp_path, capsys):
    source = folder(tmp_path / "words", "labels.tsv", "a.jpg\tfirst\nc.jpg\tlost\nb.jpg\tsecond\n")
    code, text = run(capsys, "peek", source, "-n", 5, "-o", tmp_path / "sheet.png")
    assert code == 0
    assert "   1 'first'  labels.tsv:1 a.jpg\n   2 'second'" in text.replace("words/", "")
    assert "unreadable: " in text
    assert "sheet.png: 2 of 3 records" in text
    assert Image.open(tmp_path / "sheet.png").size == (880, 92)


def test_a_sheet_frames_broken_images():
    sheet = np.array(contact_sheet([WordCrop(b"", "x", "0"), WordCrop(jpeg(0, 1000, 1), "y", "1")], columns=2))
    assert sheet.shape == (92, 440, 3)
    assert sheet[2, 10].tolist() == [255, 0, 0]
    assert (sheet[2, 222:430] < 60).all()  # the line of black pixels, scaled to the cell


@pytest.mark.parametrize(("form", "name"), [("lmdb", "new"), ("array_record", "new.array_record")])
def test_build_copies_what_can_be_read(tmp_path, capsys, form, name):
    folder(tmp_path / "words", "labels.tsv", "a.jpg\tCaf\u00e9\nc.jpg\tlost\nb.jpg\tb c\n")
    code, text = run(capsys, "build", tmp_path / "words", tmp_path / name, "--to", form)
    assert code == 0
    assert f"{name}: 2 records, 1 left out\nleft out: " in text
    assert "c.jpg" in text
    built = open_word_crops(tmp_path / name)
    assert [(record.label, record.image) for record in built] == [("Caf\u00e9", jpeg(0)), ("b c", jpeg(1))]


def test_build_refuses_to_make_nothing_and_to_overwrite(tmp_path, capsys):
    folder(tmp_path / "words", "labels.tsv", "nowhere.jpg\tx\n")
    code, text = run(capsys, "build", tmp_path / "words", tmp_path / "new")
    assert code == 1
    assert "no record can be read" in text
    assert not (tmp_path / "new").exists()
    code, text = run(capsys, "build", tmp_path / "words", tmp_path / "words")
    assert code == 1
    assert "words exists" in text
