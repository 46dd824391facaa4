import multiprocessing
import os
import pickle

import pytest
from word_files import ListSource, folder, jpeg, raw_lmdb, records

from tcm_jax.data.sources import ConcatSource
from tcm_jax.data.words.array_record import ArrayRecordCrops, write_array_record
from tcm_jax.data.words.labels import LabelFilter
from tcm_jax.data.words.lmdb import LmdbSource, write_lmdb
from tcm_jax.data.words.sources import FilteredSource, open_word_crops
from tcm_jax.images.decoding import ImageError, decode
from tcm_jax.records import SourceError, WordCrop
from tcm_jax.text.charset import CHARSET_36


def labels_of(source) -> list[str]:
    """The labels, which a scan and access one by one must give alike."""
    assert list(source.labels()) == [source[i].label for i in range(len(source))]
    return list(source.labels())


@pytest.mark.parametrize(("write", "name"), [(write_lmdb, "words"), (write_array_record, "words.array_record")])
def test_what_is_written_is_read(tmp_path, write, name):
    made = [
        WordCrop(jpeg(i), label, f"made:{i}") for i, label in enumerate(["one", "", "zw\u00f6lf \u00b7 \u65e5\u672c"])
    ]
    assert write(iter(made), tmp_path / "deep" / name) == 3
    assert os.listdir(tmp_path / "deep") == [name]  # no temporary file is left
    source = open_word_crops(tmp_path / "deep" / name)
    assert labels_of(source) == [record.label for record in made]
    assert [source[i].image for i in range(3)] == [record.image for record in made]
    assert source.name == name
    with pytest.raises(IndexError):
        source[3]


def test_arrays_are_written_without_loss(tmp_path):
    pixels = decode(jpeg(7))
    write_lmdb([WordCrop(pixels, "x", "")], tmp_path / "words")
    assert (decode(open_word_crops(tmp_path / "words")[0].image) == pixels).all()


@pytest.mark.parametrize(("write", "name"), [(write_lmdb, "words"), (write_array_record, "words.array_record")])
def test_an_interrupted_write_leaves_nothing(tmp_path, write, name):
    def interrupted():
        yield records(1)[0]
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write(interrupted(), tmp_path / name)
    assert os.listdir(tmp_path) == []


def test_an_lmdb_is_not_overwritten(tmp_path):
    write_lmdb(records(1), tmp_path / "words")
    with pytest.raises(FileExistsError, match="words exists"):
        write_lmdb(records(1), tmp_path / "words")


def test_lmdb_by_file_by_folder_and_by_any_folder_above(tmp_path):
    write_lmdb(records(2), tmp_path / "train" / "real" / "B")
    write_lmdb(records(3), tmp_path / "train" / "real" / "A")
    inside = tmp_path / "train" / "real" / "A"
    assert len(open_word_crops(inside)) == len(open_word_crops(inside / "data.mdb")) == len(LmdbSource(inside)) == 3
    assert open_word_crops(inside)[1].name == "A:000000002"
    everything = open_word_crops(tmp_path / "train")
    assert labels_of(everything) == ["w0", "w1", "w2", "w0", "w1"]  # A comes before B
    assert everything[3].name == "train/real/B:000000001"
    with pytest.raises(IndexError):
        everything[5]


def first_label(source) -> str:
    return source[0].label


@pytest.mark.parametrize("method", ["fork", "spawn"])
def test_sources_work_in_other_processes(tmp_path, method):
    write_lmdb(records(2), tmp_path / "words")
    write_array_record(records(2), tmp_path / "words.array_record")
    sources = [LmdbSource(tmp_path / "words"), ArrayRecordCrops(tmp_path / "words.array_record")]
    assert [first_label(source) for source in sources] == ["w0", "w0"]  # open in this process
    with multiprocessing.get_context(method).Pool(1) as pool:
        assert pool.map(first_label, sources) == ["w0", "w0"]
    assert [first_label(pickle.loads(pickle.dumps(source))) for source in sources] == ["w0", "w0"]


def test_a_replaced_lmdb_is_read_anew(tmp_path):
    write_lmdb(records(1), tmp_path / "words")
    assert len(open_word_crops(tmp_path / "words")) == 1
    (tmp_path / "words").rename(tmp_path / "old")
    write_lmdb(records(2), tmp_path / "words")
    assert labels_of(open_word_crops(tmp_path / "words")) == ["w0", "w1"]


@pytest.mark.parametrize(
    ("entries", "problem"),
    [
        ({}, "has no key 'num-samples' but 0 entries"),
        ({"0001": b"x"}, r"has no key 'num-samples' but 1 entries, the first \[b'0001'\]"),
        ({"num-samples": b"0"}, "is empty: 'num-samples' is 0"),
        ({"num-samples": b"many"}, "'num-samples' is b'many'; expected a decimal number"),
        (
            {"num-samples": b"2", "image-000000001": b"x", "label-000000001": b"a"},
            r"'num-samples' is 2, but key 'image-000000002' is missing \(3 entries; expected 5\)",
        ),
        ({"num-samples": b"1", "image-000000001": b"x"}, "key 'label-000000001' is missing"),
    ],
)
def test_a_broken_lmdb_says_what_is_missing(tmp_path, entries, problem):
    with pytest.raises(SourceError, match="words.*" + problem):
        open_word_crops(raw_lmdb(tmp_path / "words", entries))


def test_single_broken_lmdb_records(tmp_path):
    entries = {
        "num-samples": b"2",
        "image-000000001": b"x",
        "label-000000001": b"\xff",
        "label-000000002": b"b",
    }
    source = open_word_crops(raw_lmdb(tmp_path / "words", entries | {"meta": b""}))
    with pytest.raises(SourceError, match="label-000000001 is not UTF-8"):
        source[0]
    with pytest.raises(ImageError, match="words:000000002: key 'image-000000002' is missing"):
        source[1]


def test_no_lmdb_at_all(tmp_path):
    (tmp_path / "data.mdb").write_bytes(b"nothing of the kind" * 100)
    with pytest.raises(SourceError, match=r"data.mdb is not a readable LMDB"):
        open_word_crops(tmp_path)


def test_broken_array_records(tmp_path):
    path = tmp_path / "words.array_record"
    write_array_record([], path)
    with pytest.raises(SourceError, match=r"words.array_record is empty"):
        open_word_crops(path)
    path.write_bytes(b"something else")
    with pytest.raises(SourceError, match="not an ArrayRecord file"):
        ArrayRecordCrops(path)


@pytest.mark.parametrize(
    ("name", "content", "expected"),
    [
        ("labels.tsv", 'a.jpg\tsay "hi", you\nb.jpg\t\n', ['say "hi", you', ""]),
        ("labels.tsv", "text\timage\nHello\ta.jpg\n", ["Hello"]),
        ("gt.txt", b'\xef\xbb\xbfa.jpg, "A, B"\r\nb.jpg, "\\"[06]\\""\r\n', ["A, B", '"[06]"']),
        ("gt.txt", "a.jpg You\nb.jpg two words\n", ["You", "two words"]),
        ("gt.txt", "a.jpg\ttab\tin text\n", ["tab\tin text"]),
        ("labels.csv", 'filename,words\na.jpg,"1,000"\nb.jpg,"say ""hi"""\n', ["1,000", 'say "hi"']),
        ("words.csv", "a.jpg,one\n\nb.jpg,two\n", ["one", "two"]),
        ("x.jsonl", '{"file":"a.jpg","text":"x\u2028y"}\n\n{"path":"b.jpg","word":"z"}', ["x\u2028y", "z"]),
        ("labels.json", '{"a.jpg": "one", "b.jpg": "two"}', ["one", "two"]),
    ],
)  # fmt: skip
def test_label_files(tmp_path, name, content, expected):
    source = open_word_crops(folder(tmp_path, name, content))
    assert labels_of(source) == expected
    assert source[0].image == jpeg(0)


def test_records_of_a_label_file_are_named_by_line(tmp_path):
    folder(tmp_path / "set", "labels.tsv", "image\ttext\nsub/a b.jpg\tone\n", images=("sub/a b.jpg",))
    assert open_word_crops(tmp_path / "set" / "labels.tsv")[0].name == "labels.tsv:2 sub/a b.jpg"
    assert open_word_crops(tmp_path)[0].name.endswith("/set/labels.tsv:2 sub/a b.jpg")


def test_images_may_lie_in_a_folder_that_the_label_file_does_not_name(tmp_path):
    folder(tmp_path, "labels.json", '{"a.jpg": "one"}', images=("images/a.jpg",))
    assert open_word_crops(tmp_path)[0].image == jpeg(0)


@pytest.mark.parametrize(
    ("name", "content", "problem"),
    [
        ("labels.csv", "a.jpg,1,000\nb.jpg,x\n", r"labels.csv:1: 3 fields .*; expected 2; .*must be quoted"),
        ("labels.csv", "image,text\na.jpg\nb.jpg,x\n", r"labels.csv:2: 1 fields \['a.jpg'\]; expected 2$"),
        ("labels.tsv", "a.jpg\tx\nb.jpg y\nc.jpg\n", r"labels.tsv:2: 1 fields .* \(and 1 more lines\)"),
        ("gt.txt", "a.jpg x\nb.jpg\n", r"gt.txt:2: 'b.jpg'; expected 'image<TAB>text'"),
        ("gt.jsonl", '{"image": "a.jpg", "text": "x"}\n{"image"\n', "gt.jsonl:2: not JSON"),
        (
            "gt.jsonl",
            '{"image": "a.jpg", "text": 7}\n',
            r"gt.jsonl:1: object with \['image', 'text'\]; expected strings",
        ),
        ("labels.json", "7", "labels.json holds int; expected"),
        ("labels.json", "{", "labels.json is not JSON"),
        ("gt.txt", b"a.jpg x\nb.jpg caf\xe9\n", "gt.txt:2: byte 0xe9 is not UTF-8"),
        ("gt.txt", "\n\n", "gt.txt lists no images"),
    ],
)
def test_a_broken_label_file_is_named_with_its_line(tmp_path, name, content, problem):
    with pytest.raises(SourceError, match=problem):
        open_word_crops(folder(tmp_path, name, content))


def test_problems_can_be_collected_and_the_rest_used(tmp_path):
    folder(tmp_path / "good", "labels.csv", "a.jpg,x\nb.jpg\n")
    raw_lmdb(tmp_path / "empty", {"num-samples": b"0"})
    problems = []
    assert labels_of(open_word_crops(tmp_path, problems)) == ["x"]
    assert len(problems) == 2
    assert "data.mdb is empty" in problems[0]
    assert "labels.csv:2" in problems[1]


def test_a_missing_image_is_an_error_of_its_record(tmp_path):
    source = open_word_crops(folder(tmp_path, "labels.tsv", "a.jpg\tx\nc.jpg\ty\n"))
    with pytest.raises(ImageError, match=r"labels.tsv:2 c.jpg: can't read .*No such file"):
        source[1]


def test_several_tables_in_one_folder(tmp_path):
    folder(tmp_path, "coords.txt", "a.jpg,1,2,3,4\n")
    folder(tmp_path, "gt.txt", 'a.jpg, "word"\n')
    assert labels_of(open_word_crops(tmp_path)) == ["word"]  # the usual name wins
    (tmp_path / "gt.txt").rename(tmp_path / "val.txt")
    with pytest.raises(SourceError, match=r"several label files, give the path of one: coords.txt, val.txt"):
        open_word_crops(tmp_path)


def test_wrong_places(tmp_path):
    folder(tmp_path / "set", "labels.tsv", "images/a.jpg\tx\n", images=("images/a.jpg",))
    with pytest.raises(SourceError, match=r"no label file.* labels.tsv lies one level up, so give .*set$"):
        open_word_crops(tmp_path / "set" / "images")
    with pytest.raises(SourceError, match=r"a.jpg is a single file without records; give its folder"):
        open_word_crops(tmp_path / "set" / "images" / "a.jpg")
    with pytest.raises(
        SourceError, match=f"set/typo/x does not exist; the nearest folder that does is {tmp_path}/set$"
    ):
        open_word_crops(tmp_path / "set" / "typo" / "x")
    (tmp_path / "bare").mkdir()
    with pytest.raises(SourceError, match="bare holds no files; expected an LMDB"):
        open_word_crops(tmp_path / "bare")
    assert labels_of(open_word_crops(tmp_path)) == ["x"]  # from above, all is found


def test_filtered_source_keeps_what_can_be_learned():
    labels = ["Good", "--", "x" * 26, "fine!", ""]
    source = ListSource([WordCrop(jpeg(i), label, f"made:{i}") for i, label in enumerate(labels)])
    filtered = FilteredSource(source, LabelFilter(CHARSET_36))
    assert labels_of(filtered) == ["good", "fine"]
    assert filtered[1].name == "made:3"
    assert filtered.index.tolist() == [0, 3]
    assert str(filtered.report).startswith("kept 2, dropped 3: ")


def test_filtered_source_can_ask_for_the_size_of_images(tmp_path):
    made = [WordCrop(jpeg(0, 20, 10), "a", "0"), WordCrop(jpeg(0, 8, 10), "b", "1"), WordCrop(b"", "c", "2")]
    filtered = FilteredSource(ListSource(made), LabelFilter(CHARSET_36, min_image_size=9))
    assert labels_of(filtered) == ["a"]
    assert filtered.report.dropped == {"with an image under 9 pixels": 1, "with an unreadable image": 1}


def test_concatenation_counts_through():
    source = ConcatSource([ListSource(records(2)), ListSource([]), ListSource(records(1))], "all")
    assert labels_of(source) == ["w0", "w1", "w0"]
    assert len(ConcatSource([], "none")) == 0
