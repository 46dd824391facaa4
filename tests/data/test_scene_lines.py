from pathlib import Path

import numpy as np
import pytest

from tcm_jax.data.scenes.formats import FORMATS
from tcm_jax.records import SourceError

BOM = b"\xef\xbb\xbf"


def parse(format: str, data: str | bytes, problems=None, path="gt_img_1.txt"):
    """Polygons as lists, texts and ignore marks."""
    data = data if isinstance(data, bytes) else data.encode()
    found = FORMATS[format].parse(data, Path(path), problems)
    return [(np.asarray(points).round(6).tolist(), text, ignore) for points, text, ignore, _ in found]


def test_icdar2015_has_a_byte_order_mark_crlf_and_commas_in_texts():
    lines = (
        b"377,117,463,117,465,130,378,130,Genaxis Theatre\r\n"
        b"374,155,409,155,409,170,374,170,###\r\n"
        b'1,2,30,2,30,9,1,9,"1,000", \xc3\xa9\r\n\r\n'
    )
    assert parse("icdar2015", BOM + lines) == [
        ([[377, 117], [463, 117], [465, 130], [378, 130]], "Genaxis Theatre", False),
        ([[374, 155], [409, 155], [409, 170], [374, 170]], "###", True),
        ([[1, 2], [30, 2], [30, 9], [1, 9]], '"1,000", \u00e9', False),
    ]


def test_places_name_the_file_and_the_line():
    found = FORMATS["icdar2015"].parse(b"\n0,0,9,0,9,9,0,9,a\n", Path("somewhere/gt_img_7.txt"), None)
    assert [where for *_, where in found] == ["gt_img_7.txt:2"]


def test_a_line_separator_inside_a_text_ends_no_line():
    assert [text for _, text, _ in parse("icdar2015", "0,0,9,0,9,9,0,9,a\u2028b")] == ["a\u2028b"]


@pytest.mark.parametrize(
    "line",
    ['158 128 411 181 "Footpath"', '158, 128, 411, 181, "Footpath"', '158,128,411,181,"Footpath"'],
    ids=["training", "test", "without blanks"],
)
def test_icdar2013_boxes_of_both_splits(line):
    box = [[158, 128], [411, 128], [411, 181], [158, 181]]
    assert parse("icdar2013", line + "\r\n") == [(box, "Footpath", False)]


def test_icdar2013_texts_are_escaped():
    assert parse("icdar2013", r'0, 0, 9, 9, "a \"b\" c\\d, e"')[0][1] == r'a "b" c\d, e'


def test_mlt_has_a_script_and_commas_in_texts():
    lines = "0,0,9,0,9,9,0,9,Latin,a,b\n1,1,9,1,9,9,1,9,None,###\n1,1,9,1,9,9,1,9,Chinese,\u65e5\u672c"
    assert [(text, ignore) for _, text, ignore in parse("mlt", lines)] == [
        ("a,b", False),
        ("###", True),
        ("\u65e5\u672c", False),
    ]


def test_td500_boxes_turn_around_their_centre():
    # A box of 40 x 20 with centre (120, 60); by a quarter turn its upper left corner goes to the upper right.
    upright, turned = parse("td500", f"0 0 100 50 40 20 0\n1 1 100 50 40 20 {np.pi / 2}\n")
    assert upright == ([[100, 50], [140, 50], [140, 70], [100, 70]], "", False)
    assert turned == ([[130, 40], [130, 80], [110, 80], [110, 40]], "", True)


def test_td500_small_angles_turn_from_x_to_y():
    (points, _, _), *_ = parse("td500", f"0 0 0 0 40 20 {np.arctan2(3, 4)}")
    # The upper edge leads along (0.8, 0.6): 40 px to the right and down.
    assert np.subtract(points[1], points[0]).round(3).tolist() == [32, 24]
    assert np.mean(points, axis=0).round(3).tolist() == [20, 10]


def test_td500_as_db_and_tcm_write_it():
    assert parse("td500", "1,2,30,2,30,9,1,9,0\n1,2,30,2,30,9,1,9,1\n") == [
        ([[1, 2], [30, 2], [30, 9], [1, 9]], "", False),
        ([[1, 2], [30, 2], [30, 9], [1, 9]], "", True),
    ]


CIRCLE = [x for k in range(14) for x in (50 + k, 80 - k * k)]  # any 14 points
NUMBERS = ",".join(map(str, CIRCLE))
XML = f"""<Annotations><image file="0200.jpg">
<box height="197" left="131" top="49" width="399"><label>OLATHE &amp; CO</label><segs>{NUMBERS}</segs>
<pts x="183" y="95" /><pts x="251" y="89" /></box>
<box height="9" left="1" top="4" width="9"><label>###</label><segs>1,2,3</segs></box>
</image></Annotations>"""


def test_ctw1500_training_xml():
    problems = []
    [(points, text, ignore)] = parse("ctw1500", BOM + XML.encode(), problems, "0200.xml")
    assert (np.ravel(points).tolist(), text, ignore) == (CIRCLE, "OLATHE & CO", False)
    assert problems == [
        "0200.xml: box 2: {'label': '###', 'segs': '1,2,3'} (3 numbers instead of 28); expected <segs> with 28 integers"
    ]


def test_ctw1500_xml_that_is_cut_off():
    with pytest.raises(SourceError, match=r"0200.xml:4: not XML"):
        parse("ctw1500", XML[: XML.index("<segs>1,2")], path="0200.xml")


def test_ctw1500_test_lines_count_also_without_a_transcription():
    found = parse("ctw1500", f"{NUMBERS},####Latin, 9\n{NUMBERS},#######\n{NUMBERS},####\n")
    assert [(text, ignore) for _, text, ignore in found] == [("Latin, 9", False), ("###", False), ("", False)]
    assert all(np.ravel(points).tolist() == CIRCLE for points, _, _ in found)


def test_ctw1500_of_the_first_release_is_relative_to_a_box():
    [(points, text, ignore)] = parse("ctw1500", f"100,200,190,260,{NUMBERS}")
    assert (np.array(points) - [100, 200]).ravel().tolist() == CIRCLE
    assert (text, ignore) == ("", False)


@pytest.mark.parametrize(
    ("format", "line", "problem"),
    [
        ("icdar2015", "1,2,30,2,30,9,1,9", "8 fields instead of 9"),
        ("icdar2015", "1,2,30,2,x,9,1,9,word", "could not convert string to float: 'x'"),
        ("icdar2013", "1 2 30 9 word", "no text in quotes"),
        ("icdar2013", '1 2 30 "word"', "3 numbers instead of 4"),
        ("mlt", "1,2,30,2,30,9,1,9,word", "9 fields instead of 10"),
        ("td500", "0 2 1 2 30 9 0", "difficulty '2' is neither 0 nor 1"),
        ("td500", "0 0 1 2 30 9", "6 fields instead of 7 or 9"),
        ("ctw1500", "1,2,30,2,30,9,1,9,word", "9 numbers instead of 32"),
    ],
)
def test_a_malformed_line_is_named_and_left_out(format, line, problem):
    with pytest.raises(SourceError) as error:
        parse(format, f"\n{line}\n")
    assert str(error.value).startswith(f"gt_img_1.txt:2: {line!r} ({problem}); expected ")
    problems = []
    assert parse(format, line, problems) == []
    assert [message.split(" (")[1].split(");")[0] for message in problems] == [problem]


def test_bytes_that_are_not_text():
    with pytest.raises(SourceError, match=r"gt_img_1.txt:2: byte 0xe9 is not UTF-8"):
        parse("icdar2015", b"0,0,9,0,9,9,0,9,a\n0,0,9,0,9,9,0,9,caf\xe9\n")


def recognised(data: str) -> str | None:
    return next((name for name, format in FORMATS.items() if format.recognises(data.encode())), None)


def test_formats_are_told_apart():
    quad = "1,2,30,2,30,9,1,9"
    assert recognised(f"{quad},word\n{quad},Latin,9\n{quad},###") == "icdar2015"
    assert recognised(f"{quad},Latin,word\n{quad},None,###\n") == "mlt"
    assert recognised(f"{quad},0\n{quad},1\n") == "td500"
    assert recognised("0 1 100 50 40 20 -0.3") == "td500"
    assert recognised('158 128 411 181 "Footpath"') == "icdar2013"
    assert recognised(XML) == recognised(f"{NUMBERS},####word") == recognised(f"1,2,3,4,{NUMBERS}") == "ctw1500"
    assert recognised('{"image": "a.jpg", "instances": []}') == "jsonl"
    assert recognised("Photos of the street, taken in 2015.") is None
