"""Total-Text: records of the text files, rows of the MATLAB files."""

import io
from pathlib import Path

import numpy as np
import pytest
import scipy.io
from word_files import jpeg

from tcm_jax.data.scenes.formats.total_text import TOTAL_TEXT
from tcm_jax.data.scenes.regions import AnnotationReport, usable_regions
from tcm_jax.data.scenes.sources import open_annotated_images
from tcm_jax.records import SourceError

PLAIN = "x: [[10 60 58 12]], y: [[5 8 30 28]], ornt: [u'm'], transcriptions: [u'CAFE']\n"


def parse(data: str | bytes, problems: list[str] | None = None):
    data = data.encode() if isinstance(data, str) else data
    assert TOTAL_TEXT.recognises(data)
    return TOTAL_TEXT.parse(data, Path("gt/poly_gt_img7.txt"), problems)


def mat(rows: list[list], key: str = "polygt") -> bytes:
    """A file as the data set's: rows of "x:", x [1, n], "y:", y [1, n], text, orientation."""
    table = np.empty((len(rows), len(rows[0])), object)
    for i, row in enumerate(rows):
        for j, cell in enumerate(row):
            table[i, j] = cell
    file = io.BytesIO()
    scipy.io.savemat(file, {key: table}, do_compression=True)
    return file.getvalue()


def row(x: list[int], y: list[int], text: str, orientation: str, dtype=np.int16) -> list:
    return ["x:", np.array([x], dtype), "y:", np.array([y], dtype), text, orientation]


def test_a_record_is_a_polygon_with_its_text():
    ((polygon, text, ignore, where),) = parse(PLAIN)
    assert polygon.tolist() == [[10, 5], [60, 8], [58, 30], [12, 28]]
    assert (text, ignore, where) == ("CAFE", False, "poly_gt_img7.txt:1")


def test_a_record_may_go_on_for_several_lines():
    first, second = parse(
        "\ufeffx: [[ 100  120  140\r\n   160  150 130]], y: [[1 2 3\r\n 4 5 6]],\r\n"
        f" ornt: [u'c'], transcriptions: [u'long']\r\n{PLAIN}"
    )
    assert first[0].tolist() == [[100, 1], [120, 2], [140, 3], [160, 4], [150, 5], [130, 6]]
    assert (first[1], first[3]) == ("long", "poly_gt_img7.txt:1")
    assert (second[1], second[3]) == ("CAFE", "poly_gt_img7.txt:5")


@pytest.mark.parametrize(
    ("orientation", "literal", "text", "ignore"),
    [
        ("u'#'", "u'#'", "#", True),  # not to be counted
        ("u'#'", "u'word'", "word", True),
        ("u'h'", "u'#'", "#", True),
        ("u'h'", "u''", "", True),
        ("", "", "", True),
        ("u'h'", "u','", ",", False),
        ("u'h'", "u'1,000'", "1,000", False),
        ("u'h'", 'u"JOE\'S"', "JOE'S", False),
        ("u'h'", "u'JOE'S'", "JOE'S", False),  # not escaped, as hand-made files have it
        ("u'h'", r"u'JOE\'S'", "JOE'S", False),
        ("u'h'", r"u'CAF\xc9 \u20ac'", "CAFÉ €", False),
        ("u'h'", "u'[A]]'", "[A]]", False),
        ("'h'", "'plain'", "plain", False),
    ],
)
def test_text_is_what_python_2_printed(orientation, literal, text, ignore):
    line = f"x: [[0 9 9]], y: [[0 0 9]], ornt: [{orientation}], transcriptions: [{literal}]"
    assert [found[1:3] for found in parse(line)] == [(text, ignore)]


@pytest.mark.parametrize(
    ("line", "problem"),
    [
        ("x: [[1 2 3]], y: [[1 2]], ornt: [u'h'], transcriptions: [u'a']", "3 x and 2 y"),
        ("x: [[1 2 O]], y: [[1 2 3]], ornt: [u'h'], transcriptions: [u'a']", "could not convert string to float: 'O'"),
        ("x: [[1 2 3]], y: [[1 2 3]]", 'expected "x: [[1 2 3 4]], y:'),
        ("x: [[1 2 3]], ornt: [u'h'], transcriptions: [u'a']", 'expected "x: [[1 2 3 4]], y:'),
    ],
)
def test_malformed_records_are_named_with_their_line(line, problem):
    with pytest.raises(SourceError, match=r"gt/poly_gt_img7.txt:2: ") as error:
        parse(PLAIN + line + "\n" + PLAIN)
    assert problem in str(error.value)
    problems: list[str] = []
    assert [found[3] for found in parse(PLAIN + line + "\n" + PLAIN, problems)] == [
        "poly_gt_img7.txt:1",
        "poly_gt_img7.txt:3",
    ]
    assert len(problems) == 1


def test_unusable_polygons_are_left_to_the_caller_to_drop_and_count():
    report = AnnotationReport()
    text = "x: [[{}]], y: [[{}]], ornt: [u'h'], transcriptions: [u'a']\n"
    shapes = [("1 2", "1 2"), ("1 nan 3", "1 2 3"), ("1 5 9", "2 2 2"), ("", ""), ("0 9 0 9", "0 0 9 9")]
    regions = usable_regions(parse("".join(text.format(*shape) for shape in shapes)), report)
    assert [region.polygon.tolist() for region in regions] == [[[0, 0], [9, 0], [0, 9], [9, 9]]]  # it crosses itself
    assert report.dropped == {
        "with fewer than 3 points": 2,
        "with coordinates that are not finite": 1,
        "without area": 1,
    }


@pytest.mark.parametrize("key", ["polygt", "gt"])
def test_mat_files_of_both_releases(key):
    found = parse(mat([row([200, 250, 240], [5, 5, 90], "PETRO", "c"), row([1, 9, 9, 1], [1, 1, 9, 9], "#", "#")], key))
    assert [entry[0].tolist() for entry in found] == [
        [[200, 5], [250, 5], [240, 90]],
        [[1, 1], [9, 1], [9, 9], [1, 9]],
    ]
    assert [entry[1:] for entry in found] == [
        ("PETRO", False, "poly_gt_img7.txt:1"),
        ("#", True, "poly_gt_img7.txt:2"),
    ]


def test_mat_coordinates_are_no_bytes_and_cells_may_be_empty():
    found = parse(mat([row([200, 250, 240], [5, 5, 90], "a", "", np.uint8), row([1, 9, 9], [1, 1, 9], "", "h")]))
    assert found[0][0].dtype == np.float32
    assert [entry[1:3] for entry in found] == [("a", False), ("", True)]
    without_orientation = parse(mat([row([1, 9, 9], [1, 1, 9], "a", "h")[:5]]))
    assert without_orientation[0][1:3] == ("a", False)


def test_broken_mat_files():
    with pytest.raises(SourceError, match=r'img7.txt:2: .*letters.* expected "x:", x, "y:", y, text, orientation'):
        parse(mat([row([1, 9, 9], [1, 1, 9], "a", "h"), ["x:", "letters", "y:", "letters", "a", "h"]]))
    with pytest.raises(SourceError, match=r"img7.txt:1: .*3 x and 2 y"):
        parse(mat([row([1, 9, 9], [1, 1], "a", "h")]))
    other = mat([row([1, 9, 9], [1, 1, 9], "a", "h")], "wordBB")
    assert not TOTAL_TEXT.recognises(other)
    with pytest.raises(SourceError, match=r"img7.mat: holds wordBB; expected the variable 'polygt' or 'gt'"):
        TOTAL_TEXT.parse(other, Path("img7.mat"), None)
    with pytest.raises(SourceError, match=r"img7.mat is not a readable MATLAB file"):
        TOTAL_TEXT.parse(mat([row([1, 9, 9], [1, 1, 9], "a", "h")])[:-40], Path("img7.mat"), None)
    with pytest.raises(SourceError, match=r"is of MATLAB 7.3"):
        TOTAL_TEXT.parse(b"MATLAB 7.3 MAT-file".ljust(124) + b"\x00\x02IM" + bytes(200), Path("img7.mat"), None)


def test_other_formats_are_not_taken_for_it():
    assert not TOTAL_TEXT.recognises(b"377,117,463,117,465,130,378,130,Genaxis Theatre\r\n")
    assert not TOTAL_TEXT.recognises(b"MATLAB 5.0 MAT-file, cut")


@pytest.mark.parametrize("suffix", ["txt", "mat"])
def test_total_text_is_opened_from_its_folders(tmp_path, suffix):
    images, annotations = tmp_path / "Images/Train", tmp_path / "Groundtruth/Polygon/Train"
    for folder in (images, annotations):
        folder.mkdir(parents=True)
    contents = PLAIN.encode() if suffix == "txt" else mat([row([1, 9, 9], [1, 1, 9], "CAFE", "h")])
    for number in (11, 7):
        (images / f"img{number}.jpg").write_bytes(jpeg(number))
        (annotations / f"poly_gt_img{number}.{suffix}").write_bytes(contents)
    source = open_annotated_images(tmp_path)
    assert source.kind == "total_text"
    assert [Path(source[i].name).name for i in range(len(source))] == ["img7.jpg", "img11.jpg"]
    assert [region.text for region in source[0].regions] == ["CAFE"]
