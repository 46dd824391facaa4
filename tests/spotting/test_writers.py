"""Files of what was read in photos."""

import json
import xml.etree.ElementTree as ElementTree
import zipfile

import numpy as np
import pytest
from PIL import Image

from tcm_jax.spotting import rrc
from tcm_jax.spotting.results import SpottedImage, SpottedWord
from tcm_jax.spotting.writers import ENDINGS, check_output, writer


def word(text, line, x=10.0, score=0.75, polygon=None):
    """A word whose box is 40 x 20 pixels, from x and a line of 30 pixels."""
    top = 30.0 * line
    box = [[x, top], [x + 40, top], [x + 40, top + 20], [x, top + 20]] if polygon is None else polygon
    return SpottedWord(np.float32(box), text, score, (score,) * len(text), 0.9, line)


CURVE = [[1.4, 60], [20, 50], [40, 60], [40, 80], [20, 70], [0, 80]]
SHOP = SpottedImage(
    "photos/shop.jpg", 120, 90, (word("Fish", 0), word("&", 0, 60), word('"Chips"', 1), word("<5", 2, polygon=CURVE))
)
EMPTY = SpottedImage("photos/empty.jpg", 4, 3, ())


def written(path, *photos):
    def read(photo):
        return np.zeros((photo.height, photo.width, 3), np.uint8)

    with writer(path, [photo.name for photo in photos], read) as add:
        for photo in photos:
            add(photo)
    assert [file.name for file in path.parent.iterdir()] == [path.name]
    return path


def test_json(tmp_path):
    document = json.loads(written(tmp_path / "a.json", SHOP, EMPTY).read_text())
    assert document == {"schema_version": 1, "photos": [SHOP.to_dict(), EMPTY.to_dict()]}
    assert json.loads(written(tmp_path / "a.json").read_text()) == {"schema_version": 1, "photos": []}


def test_jsonl(tmp_path):
    lines = written(tmp_path / "a.JSONL", SHOP, EMPTY).read_text().splitlines()
    assert [json.loads(line) for line in lines] == [SHOP.to_dict(), EMPTY.to_dict()]


def test_text(tmp_path):
    """A heading for each of several photos."""
    text = 'Fish &\n"Chips"\n<5\n'
    assert written(tmp_path / "a.txt", SHOP).read_text() == text
    both = written(tmp_path / "a.txt", SHOP, EMPTY, SHOP).read_text()
    assert both == f"== photos/shop.jpg ==\n{text}\n== photos/empty.jpg ==\n\n== photos/shop.jpg ==\n{text}"


@pytest.mark.parametrize("ending", ["hocr", "html", "xml"])
def test_hocr(tmp_path, ending):
    """It is XML, with pages of lines of words; boxes are rounded outwards, confidences are in per cent."""
    root = ElementTree.parse(written(tmp_path / f"a.{ending}", SHOP, EMPTY)).getroot()
    space = "{http://www.w3.org/1999/xhtml}"
    first, second = root.findall(f"{space}body/{space}div")
    assert first.attrib == {
        "class": "ocr_page",
        "id": "page_0",
        "title": 'image "photos/shop.jpg"; bbox 0 0 120 90; ppageno 0',
    }
    assert second.get("title") == 'image "photos/empty.jpg"; bbox 0 0 4 3; ppageno 1' and len(second) == 0
    lines = [[child.text for child in line] for line in first]
    assert lines == [["Fish", "&"], ['"Chips"'], ["<5"]]
    assert {line.get("class") for line in first} == {"ocr_line"}
    assert first[0].get("title") == "bbox 10 0 100 20"
    assert first[0][0].attrib == {
        "class": "ocrx_word",
        "id": "word_0_0_0",
        "title": "bbox 10 0 50 20; x_wconf 75; poly 10 0 50 0 50 20 10 20",
    }
    assert first[2][0].get("title") == "bbox 0 50 40 80; x_wconf 75; poly 1 60 20 50 40 60 40 80 20 70 0 80"
    ids = [element.get("id") for element in root.iter() if element.get("id")]
    assert len(set(ids)) == len(ids) == 2 + 3 + 4


def test_hocr_of_names_and_texts_that_xml_lacks(tmp_path):
    photo = SpottedImage('a"\udce9\x01.jpg', 9, 9, (word("\x00é\ufffe", 0),))
    root = ElementTree.parse(written(tmp_path / "a.xml", photo)).getroot()
    assert root[1][0].get("title").startswith('image "a%22\ufffd\ufffd.jpg"; ')
    assert root[1][0][0][0].text == "\ufffdé\ufffd"


def test_names_that_are_no_text(tmp_path):
    """JSON gives the name back that the file system has."""
    photo = SpottedImage("caf\udce9.jpg", 9, 9, ())
    assert json.loads(written(tmp_path / "a.json", photo).read_text())["photos"][0]["image"] == "caf\udce9.jpg"
    (tmp_path / "a.json").unlink()
    assert zipfile.ZipFile(written(tmp_path / "a.zip", photo)).namelist() == ["res_caf\\udce9.txt"]


def test_submission(tmp_path):
    """Four corners each; a text in quotation marks gets another pair, which the competition takes away."""
    archive = zipfile.ZipFile(written(tmp_path / "a.zip", SHOP, EMPTY))
    assert archive.namelist() == ["res_shop.txt", "res_empty.txt"] and archive.read("res_empty.txt") == b""
    lines = archive.read("res_shop.txt").decode().splitlines()
    assert lines[:3] == [
        "10,0,50,0,50,20,10,20,Fish",
        "60,0,100,0,100,20,60,20,&",
        '10,30,50,30,50,50,10,50,"\\"Chips\\""',
    ]
    *corners, text = lines[3].split(",")
    assert text == "<5" and len(corners) == 8
    again = written(tmp_path / "a.zip", SHOP, EMPTY).read_bytes()
    assert again == written(tmp_path / "a.zip", SHOP, EMPTY).read_bytes()


def test_corners_are_clockwise():
    box = np.float32([[10, 0], [50, 0], [50, 20], [10, 20]])
    for points in (box, box[::-1], np.roll(box[::-1], 1, 0), np.insert(box, 1, [30, 0], 0)):
        corners = np.array(rrc.line(points, "a,b").split(",")[:8], int).reshape(4, 2)
        x, y = corners.T
        assert sorted(map(tuple, corners)) == sorted(map(tuple, box.astype(int)))
        # The competition's own sum: positive is the other direction on a picture, whose y goes down.
        assert ((np.roll(x, -1) - x) * (np.roll(y, -1) + y)).sum() < 0
    assert rrc.line(box, 'say "a"') == '10,0,50,0,50,20,10,20,say "a"\n'
    assert rrc.line(np.zeros((1, 2)), "dot") == "0,0,0,0,0,0,0,0,dot\n"


@pytest.mark.parametrize(("ending", "kind"), [("png", "PNG"), ("jpg", "JPEG"), ("jpeg", "JPEG")])
def test_pictures(tmp_path, ending, kind):
    with Image.open(written(tmp_path / f"a.{ending}", SHOP)) as picture:
        assert picture.format == kind and picture.width > 600


@pytest.mark.parametrize(
    ("name", "photos", "message"),
    [
        ("a.doc", ["x.jpg"], r"--output .*a.doc: unknown ending '.doc'; expected one of .json, .jsonl, .txt, .hocr"),
        ("a", ["x.jpg"], "unknown ending ''"),
        ("a.png", ["x.jpg", "y.jpg"], "holds one picture, and there are 2 images; try --out FOLDER"),
        ("a.zip", ["x/a.jpg", "y/b.jpg", "y/a.png"], "x/a.jpg and y/a.png would both be res_a.txt"),
        ("no/a.txt", ["x.jpg"], "the folder .*no doesn't exist"),
    ],
)
def test_what_is_told_before_the_work(tmp_path, name, photos, message):
    with pytest.raises((ValueError, OSError), match=message):
        check_output(tmp_path / name, photos)


@pytest.mark.parametrize("ending", [ending for ending in ENDINGS if ending not in (".jpg", ".jpeg", ".png")])
def test_nothing_is_left_of_what_fails(tmp_path, ending):
    with pytest.raises(RuntimeError), writer(tmp_path / f"a{ending}", ["a", "b"], None) as add:
        add(SHOP)
        raise RuntimeError
    assert not list(tmp_path.iterdir())
