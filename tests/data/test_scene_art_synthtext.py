"""ArT's JSON and SynthText's gt.mat."""

import numpy as np
import pytest
import scipy.io
from scene_files import CORNERS, boxes, cells, gt_mat, read, write

from tcm_jax.data.scenes.formats.art import ART
from tcm_jax.data.scenes.formats.synthtext import SYNTHTEXT
from tcm_jax.data.scenes.regions import AnnotationReport
from tcm_jax.records import SourceError

# ArT


def test_art(tmp_path):
    word = {"transcription": "Straße", "points": CORNERS, "language": "Latin", "illegibility": False}
    path = write(
        tmp_path / "train_labels.json",
        {
            "gt_1726": [word, {**word, "illegibility": True}, {**word, "transcription": "###"}],
            "gt_2": [],
        },
    )
    assert read(ART, path) == {
        "gt_1726.jpg": [(CORNERS, "Straße", False), (CORNERS, "Straße", True), (CORNERS, "###", True)],
        "gt_2.jpg": [],
    }


@pytest.mark.parametrize(
    ("entry", "problem"),
    [
        ({"points": CORNERS}, 'expected {"transcription"'),
        ({"transcription": "a"}, 'expected {"transcription"'),
        ({"transcription": 5, "points": CORNERS}, 'expected {"transcription"'),
        ("a", 'expected {"transcription"'),
        ({"transcription": "a", "points": [[1, 2], [3]]}, "'points' is [[1, 2], [3]]; expected x and y of all points"),
        ({"transcription": "a", "points": [[1, "2"]]}, "'points' is [[1, '2']]; expected"),
        ({"transcription": "a", "points": [1, 2, 3]}, "'points' is [1, 2, 3]; expected"),
        ({"transcription": "a", "points": None}, "'points' is None; expected"),
    ],
)
def test_art_malformed_instances_are_named(tmp_path, entry, problem):
    word = {"transcription": "a", "points": CORNERS, "illegibility": False}
    path = write(tmp_path / "labels.json", {"gt_1": [word, entry, word]})
    with pytest.raises(SourceError, match=r"labels.json: gt_1:2: ") as error:
        read(ART, path)
    assert problem in str(error.value)
    problems: list[str] = []
    assert len(read(ART, path, problems=problems)["gt_1.jpg"]) == 2
    assert problems == [str(error.value)]


def test_broken_json_is_named_with_its_line(tmp_path):
    with pytest.raises(SourceError, match=r"labels.json:2: not JSON \(Expecting"):
        read(ART, write(tmp_path / "labels.json", '{"gt_1": [],\n "gt_2": ]}'))
    with pytest.raises(SourceError, match="holds a list; expected one JSON object"):
        ART.read(write(tmp_path / "labels.json", "[]"), "", None, AnnotationReport())
    with pytest.raises(SourceError, match="'gt_1' is a dict; expected a list of text instances"):
        ART.read(write(tmp_path / "labels.json", {"gt_1": {}}), "", None, AnnotationReport())
    (tmp_path / "labels.json").write_bytes(b'{"gt_1": [],\n "\xe9": []}')
    with pytest.raises(SourceError, match=r"labels.json:2: byte 0xe9 is not UTF-8"):
        read(ART, tmp_path / "labels.json")
    with pytest.raises(SourceError, match=r"none.json can't be read: No such file"):
        ART.read(tmp_path / "none.json", "", None, AnnotationReport())


# SynthText


def corners(left: float) -> list[list[float]]:
    return [[left, 1], [left + 8, 1], [left + 8, 5], [left, 5]]


def test_synthtext(tmp_path):
    # Rows are padded with blanks to the longest; a row may hold several lines and words.
    path = gt_mat(
        tmp_path / "gt.mat",
        [
            ("8/ballet_106_0.jpg", boxes(10, 20, 30, 40, 50), ["Lines:\nI lost", "Kevin        ", " will        "]),
            ("8/ballet_107_0.jpg", boxes(1)[:, :, 0], ["one"]),  # a single word: [2, 4]
        ],
    )
    assert read(SYNTHTEXT, path) == {
        "8/ballet_106_0.jpg": [
            (corners(10), "Lines:", False),
            (corners(20), "I", False),
            (corners(30), "lost", False),
            (corners(40), "Kevin", False),
            (corners(50), "will", False),
        ],
        "8/ballet_107_0.jpg": [(corners(1), "one", False)],
    }


def test_synthtext_faulty_images_and_unequal_numbers_of_words_are_left_out_and_counted(tmp_path):
    path = gt_mat(
        tmp_path / "gt.mat",
        [
            ("67/fruits_129_40.jpg", boxes(1), ["a"]),
            ("1/two_words.jpg", boxes(1, 2, 3), ["a b"]),
            ("194/window_19_96.jpg", boxes(1), ["a"]),
            ("1/no_words.jpg", np.empty((2, 4, 0)), [""]),
            ("1/good.jpg", boxes(1, 2), ["a b"]),
        ],
    )
    report = AnnotationReport()
    assert [(image, len(words)) for image, words in read(SYNTHTEXT, path, report=report).items()] == [
        ("1/no_words.jpg", 0),
        ("1/good.jpg", 2),
    ]
    assert report.dropped == {"known to be faulty": 2, "with unequal numbers of words and boxes": 1}
    assert report.where["with unequal numbers of words and boxes"] == ["1/two_words.jpg: 2, 3"]


def test_synthtext_broken_files(tmp_path):
    path = gt_mat(tmp_path / "gt.mat", [("1/a.jpg", boxes(1).transpose(1, 0, 2), ["a"]), ("1/b.jpg", boxes(1), ["b"])])
    with pytest.raises(SourceError, match=r"gt.mat: image 1: '1/a.jpg' with wordBB \[4, 2.*expected a name and"):
        read(SYNTHTEXT, path)
    problems: list[str] = []
    assert list(read(SYNTHTEXT, path, problems=problems)) == ["1/b.jpg"]
    assert len(problems) == 1

    with pytest.raises(SourceError, match="has 1 imnames, 2 wordBB, 1 txt; expected one of each"):
        read(SYNTHTEXT, gt_mat(path, [("1/a.jpg", boxes(1), ["a"])], wordBB=cells([boxes(1)] * 2)))
    scipy.io.savemat(path, {"imnames": cells(["1/a.jpg"]), "txt": cells(["a"])})
    with pytest.raises(SourceError, match="has no variable 'wordBB'; expected imnames, wordBB and txt"):
        read(SYNTHTEXT, path)
    path.write_bytes(path.read_bytes()[:250])
    with pytest.raises(SourceError, match=r"gt.mat is not a readable MATLAB file"):
        SYNTHTEXT.read(path, "", None, AnnotationReport())


@pytest.mark.parametrize("compressed", [True, False])
@pytest.mark.parametrize("first", ["charBB", "imnames", "txt", "wordBB"])
def test_synthtext_is_recognised_by_its_first_variable(tmp_path, first, compressed):
    noise = np.random.default_rng(0).random((2, 4, 500))  # the beginning holds a part of it
    path = tmp_path / "gt.mat"
    scipy.io.savemat(path, {first: cells([noise]), "other": noise}, do_compression=compressed)
    head = path.read_bytes()[:4096]
    assert len(head) == 4096
    assert SYNTHTEXT.recognises(head)
    scipy.io.savemat(path, {"polygt": cells([noise])}, do_compression=compressed)
    assert not SYNTHTEXT.recognises(path.read_bytes()[:4096])
