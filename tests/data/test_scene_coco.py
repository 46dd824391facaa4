"""Forms of COCO's JSON: CurvedSynText150k, TextOCR, COCO-Text."""

import numpy as np
import pytest
from scene_files import BOX, CORNERS, STRAIGHT, coco_text, curved, read, word_on_curves, write

from tcm_jax.data.scenes.formats.coco import COCO_TEXT, CURVED_SYNTHTEXT, TEXTOCR
from tcm_jax.records import SourceError

# CurvedSynText150k


def test_curved_synthtext(tmp_path):
    # A quarter arc on top: at its middle a cubic is at (p0 + 3 p1 + 3 p2 + p3) / 8.
    arc = [0, 40, 0, 0, 80, 0, 80, 40, 80, 60, 60, 60, 20, 60, 0, 60]
    path = write(
        tmp_path / "train.json",
        curved([word_on_curves(), word_on_curves(bezier_pts=arc, iscrowd=1, rec=[95, 33, 96, 0])]),
    )
    ((straight, text, ignore), (bent, other_text, other_ignore)) = read(CURVED_SYNTHTEXT, path)["0000000.jpg"]
    assert (text, ignore) == ("Hi ~", False)
    assert (other_text, other_ignore) == ("\ufffdA", True)
    x = [90 * i / 7 for i in range(8)]
    np.testing.assert_allclose(straight, [[a, 0] for a in x] + [[a, 20] for a in reversed(x)], atol=1e-4)
    assert bent[0] == [0, 40]
    assert bent[7] == [80, 40]
    assert bent[8] == [80, 60]
    assert bent[15] == [0, 60]
    # t = 3/7: y = 40 ((4/7)^3 + (3/7)^3) = 40 * 91 / 343
    np.testing.assert_allclose(bent[3][1], 40 * 91 / 343, rtol=1e-5)


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        ({"bezier_pts": STRAIGHT[:14]}, "'bezier_pts' has 14 numbers; expected 16"),
        ({"bezier_pts": [*STRAIGHT[:15], "x"]}, "expected x and y of all points"),
        ({"rec": [97]}, "'rec' has 97; expected 0 to 96"),
        ({"rec": "word"}, "annotation 3"),
        ({"image_id": 7}, "'image_id' is 7; no such image"),
    ],
)
def test_curved_synthtext_malformed(tmp_path, change, problem):
    path = write(tmp_path / "train.json", curved([word_on_curves(), word_on_curves(**change)]))
    with pytest.raises(SourceError, match=r"train.json: annotation 3: ") as error:
        read(CURVED_SYNTHTEXT, path)
    assert problem in str(error.value)
    problems: list[str] = []
    assert len(read(CURVED_SYNTHTEXT, path, problems=problems)["0000000.jpg"]) == 1
    assert len(problems) == 1


def test_another_coco_file_is_not_curved_synthtext(tmp_path):
    other = word_on_curves(segmentation=[BOX])
    del other["bezier_pts"]
    with pytest.raises(SourceError, match=r"annotation 3: .*no 'bezier_pts'; found image_id, id, rec"):
        read(CURVED_SYNTHTEXT, write(tmp_path / "instances.json", curved([other])))
    with pytest.raises(SourceError, match="there is no 'annotations'; expected a list of objects"):
        read(CURVED_SYNTHTEXT, write(tmp_path / "instances.json", {"images": [{"file_name": "a.jpg"}]}))


# TextOCR


@pytest.mark.parametrize("index", ["imgToAnns", "img2Anns"])  # releases and descriptions differ
@pytest.mark.parametrize("file_name", ["file_name", "filename"])
def test_textocr(tmp_path, index, file_name):
    image = {"width": 20, "height": 10, "set": "train"}
    annotation = {"image_id": "a4ea", "bbox": [1, 1, 8, 4], "points": BOX, "utf8_string": "a, b", "area": 32.0}
    document = {
        "imgs": {
            "a4ea": {"id": "a4ea", file_name: "train/a4ea.jpg", **image},
            "b5": {"id": "b5", file_name: "train/b5.jpg", **image},
        },
        "anns": {
            "a4ea_1": {"id": "a4ea_1", **annotation},
            "a4ea_2": {"id": "a4ea_2", **annotation, "utf8_string": "."},
        },
        index: {"a4ea": ["a4ea_1", "a4ea_2"]},
    }
    assert read(TEXTOCR, write(tmp_path / "TextOCR_0.1_train.json", document)) == {
        "a4ea.jpg": [(CORNERS, "a, b", False), (CORNERS, ".", True)],  # whatever the folder of images is called
        "b5.jpg": [],
    }


def test_textocr_malformed(tmp_path):
    def document(**change):
        annotation = {"id": "a_1", "image_id": "a", "points": BOX, "utf8_string": "x"} | change
        return {"imgs": {"a": {"id": "a", "set": "val", "file_name": "a.jpg"}}, "anns": {"a_1": annotation}}

    path = tmp_path / "val.json"
    with pytest.raises(
        SourceError, match=r"val.json: annotation a_1: .*'points' is \[1, 1, 9, 1, 9, 5, 1\]; expected x and y"
    ):
        read(TEXTOCR, write(path, document(points=BOX[:-1])))
    with pytest.raises(SourceError, match=r"annotation a_1: .*'utf8_string' is None; expected a string"):
        read(TEXTOCR, write(path, document(utf8_string=None)))
    with pytest.raises(SourceError, match="annotation a_1: 'image_id' is 'c'; no such image"):
        read(TEXTOCR, write(path, document(image_id="c")))
    with pytest.raises(SourceError, match="expected an image with 'id' and 'file_name'"):
        read(TEXTOCR, write(path, document() | {"imgs": {"a": {"id": "a", "set": "val"}}}))
    with pytest.raises(SourceError, match="'anns' is a list; expected a dict of objects"):
        read(TEXTOCR, write(path, document() | {"anns": []}))


# COCO-Text


def test_coco_text_has_its_parts_in_one_file(tmp_path):
    path = write(tmp_path / "cocotext.v2.json", coco_text())
    assert COCO_TEXT.parts == ("train", "val", "test")
    assert read(COCO_TEXT, path, "train") == {
        "COCO_train2014_000000522579.jpg": [(CORNERS, "the", False), (CORNERS, "", True)],
        "COCO_train2014_000000000008.jpg": [],
    }
    assert read(COCO_TEXT, path, "val") == {"COCO_train2014_000000000007.jpg": [(CORNERS, "", False)]}
    with pytest.raises(SourceError, match="has no annotation for its 1 images of 'test'"):
        read(COCO_TEXT, path, "test")


def test_coco_text_malformed(tmp_path):
    document = coco_text()
    del document["anns"]["45347"]["legibility"]
    document["anns"]["45346"]["image_id"] = 3
    problems: list[str] = []
    read(COCO_TEXT, write(tmp_path / "c.json", document), "train", problems)
    assert [problem.removeprefix(str(tmp_path)) for problem in problems] == [
        "/c.json: annotation 45346: 'image_id' is 3; no such image",
        f"/c.json: annotation 45347: {str(document['anns']['45347'])[:80]} (no 'legibility'; found mask, class, bbox, "
        "language, area, image_id, id); expected 'mask' and 'legibility'",
    ]
