import json
import pickle
from pathlib import Path

import numpy as np
import pytest
from word_files import jpeg

from tcm_jax.data.scenes.sources import open_annotated_images
from tcm_jax.images.decoding import ImageError
from tcm_jax.records import SourceError

QUAD = "1,2,30,2,30,9,1,9"


def write(root: Path, files: dict[str, str]) -> Path:
    """A folder with these files; those with a text of "" are images whose gray level is their position."""
    for number, (name, text) in enumerate(files.items()):
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(text.encode() if text else jpeg(number))
    return root


def row(image: str, *polygons: list) -> str:
    instances = [{"polygon": polygon, "text": f"w{i}", "ignore": i == 1} for i, polygon in enumerate(polygons)]
    return json.dumps({"image": image, "width": 20, "height": 10, "instances": instances})


def names(source) -> list[str]:
    return [source.image_name(i) for i in range(len(source))]


def test_images_and_annotations_in_two_folders(tmp_path):
    root = write(
        tmp_path / "ic15",
        {
            "imgs/img_10.jpg": "",
            "imgs/img_2.jpg": "",
            "gt/gt_img_2.txt": f"\ufeff{QUAD},two\r\n{QUAD},###\r\n",
            "gt/gt_img_10.txt": f"{QUAD},ten\n",
        },
    )
    source = open_annotated_images(root)
    assert (source.kind, source.name, len(source)) == ("icdar2015", "ic15", 2)
    assert names(source) == ["ic15/imgs/img_2.jpg", "ic15/imgs/img_10.jpg"]  # as people count
    scene = source[0]
    assert (scene.name, scene.image) == ("ic15/imgs/img_2.jpg", jpeg(1))
    assert [(region.text, region.ignore) for region in scene.regions] == [("two", False), ("###", True)]
    assert scene.regions[0].polygon.dtype == np.float32
    assert scene.regions[0].polygon.tolist() == [[1, 2], [30, 2], [30, 9], [1, 9]]
    assert str(source.report) == "2 images, 3 text instances (1 of them ignored)"
    with pytest.raises(IndexError):
        source[2]


@pytest.mark.parametrize(
    ("image", "annotation", "text", "kind"),
    [
        ("img_1.png", "gt_img_1.txt", f"{QUAD},word", "icdar2015"),
        ("100.jpg", "gt_100.txt", '1 2 30 9 "word"', "icdar2013"),
        ("tr_img_00001.jpg", "tr_img_00001.txt", f"{QUAD},Latin,word", "mlt"),
        ("IMG_0064.JPG", "IMG_0064.gt", "0 0 1 2 30 9 0.1", "td500"),
        ("IMG_0064.JPG", "IMG_0064.JPG.txt", f"{QUAD},0", "td500"),
        ("1001.jpg", "0001001.txt", "1,2," * 14 + "####word", "ctw1500"),
        ("0005.jpg", "0005.xml", f"<image><box><segs>{'1,2,' * 13}3,4</segs></box></image>", "ctw1500"),
        (
            "img11.jpg",
            "poly_gt_img11.txt",
            "x: [[1 30 30 1]], y: [[2 2 9 9]], ornt: [u'h'], transcriptions: [u'word']",
            "total_text",
        ),
    ],
)
def test_annotations_beside_images_are_recognised_by_name_and_content(tmp_path, image, annotation, text, kind):
    source = open_annotated_images(write(tmp_path, {image: "", annotation: text}))
    assert (source.kind, len(source)) == (kind, 1)
    assert open_annotated_images(tmp_path, kind).kind == kind


def test_a_labels_file_by_its_folder_and_by_its_name(tmp_path):
    lines = [row("images/a.jpg", [[1, 2], [9, 2], [9.5, 8]], [[0, 0], [5, 0], [5, 5]]), row("images/b.jpg")]
    root = write(tmp_path / "set", {"images/a.jpg": "", "images/b.jpg": "", "labels.jsonl": "\n".join(lines)})
    for path in (root, root / "labels.jsonl"):
        source = open_annotated_images(path)
        assert (source.kind, names(source)) == ("jsonl", ["set/images/a.jpg", "set/images/b.jpg"])
        assert [(region.text, region.ignore) for region in source.regions(0)] == [("w0", False), ("w1", True)]
        assert source.regions(0)[0].polygon.tolist() == [[1, 2], [9, 2], [9.5, 8]]
        assert source[1].regions == ()  # an image without text
        assert str(source.report) == "2 images, 2 text instances (1 of them ignored)"


def test_images_of_a_labels_file_may_be_elsewhere(tmp_path):
    files = {"photos/day/a.jpg": "", "photos/night/a.jpg": "", "annotations/labels.jsonl": row("a.jpg")}
    root = write(tmp_path / "set", files)
    assert names(open_annotated_images(root)) == ["set/photos/day/a.jpg"]
    source = open_annotated_images(root, images="photos/night", annotations="annotations/labels.jsonl")
    assert names(source) == ["set/photos/night/a.jpg"]
    assert source[0].image == jpeg(1)
    source = open_annotated_images(root / "annotations", images="../photos/night")
    assert names(source) == ["annotations/../photos/night/a.jpg"]


def test_what_has_no_counterpart_is_counted(tmp_path):
    files = {"img_1.jpg": "", "img_3.jpg": "", "gt_img_1.txt": f"{QUAD},word", "gt_img_9.txt": f"{QUAD},word"}
    source = open_annotated_images(write(tmp_path / "ic15", files))
    assert len(source) == 1
    assert "1 without an annotation (img_3.jpg)" in str(source.report)
    assert "1 annotation without an image (gt_img_9.txt)" in str(source.report)
    labels = "\n".join([row("images/a.jpg"), row("images/gone.jpg", [[1, 2], [9, 2], [9, 8]])])
    source = open_annotated_images(write(tmp_path / "lines", {"images/a.jpg": "", "labels.jsonl": labels}))
    assert str(source.report) == (
        "1 images, 0 text instances (0 of them ignored); dropped 1 annotation without an image (images/gone.jpg)"
    )


def test_an_empty_annotation_file_is_an_image_without_text(tmp_path):
    files = {"img_1.jpg": "", "img_2.jpg": "", "gt_img_1.txt": "\r\n", "gt_img_2.txt": f"{QUAD},word"}
    source = open_annotated_images(write(tmp_path, files))
    assert [len(source.regions(i)) for i in range(2)] == [0, 1]


def test_polygons_that_cannot_be_used_are_dropped_and_counted(tmp_path):
    lines = [
        f"{QUAD},good",
        "1,2,1,2,1,2,1,2,point",
        "1,1,5,5,9,9,3,3,line",
        "nan,2,30,2,30,9,1,9,nan",
        "0,0,9,9,9,0,0,9,crossing",
        "-50,-50,-10,-50,-10,-40,-50,-40,outside",
    ]
    source = open_annotated_images(write(tmp_path, {"img_1.jpg": "", "gt_img_1.txt": "\n".join(lines)}))
    assert [region.text for region in source.regions(0)] == ["good", "crossing", "outside"]
    assert source.report.where == {
        "without area": ["gt_img_1.txt:2", "gt_img_1.txt:3"],
        "with coordinates that are not finite": ["gt_img_1.txt:4"],
    }


def test_malformed_lines_are_an_error_or_problems(tmp_path):
    files = {"img_1.jpg": "", "gt_img_1.txt": f"{QUAD},word\n{QUAD},a\n1,2,3\n", "img_2.jpg": "", "gt_img_2.txt": "x"}
    root = write(tmp_path, files)
    with pytest.raises(SourceError, match=r"gt_img_1.txt:3: '1,2,3' \(3 fields instead of 9\); expected x1,y1"):
        open_annotated_images(root)
    problems = []
    source = open_annotated_images(root, problems=problems)
    assert [len(source.regions(i)) for i in range(2)] == [2, 0]
    assert [problem.split(": ")[0] for problem in problems] == [f"{root}/gt_img_1.txt:3", f"{root}/gt_img_2.txt:1"]


def test_an_image_whose_annotation_cannot_be_decoded_is_left_out(tmp_path):
    root = write(tmp_path, {"img_1.jpg": "", "gt_img_1.txt": f"{QUAD},word", "img_2.jpg": ""})
    (root / "gt_img_2.txt").write_bytes(f"{QUAD},caf\xe9".encode("latin-1"))
    problems = []
    assert names(open_annotated_images(root, problems=problems)) == [f"{root.name}/img_1.jpg"]
    assert problems == [f"{root}/gt_img_2.txt:1: byte 0xe9 is not UTF-8; save the file as UTF-8"]
    with pytest.raises(SourceError, match="not UTF-8"):
        open_annotated_images(root)


@pytest.mark.parametrize(
    ("line", "problem"),
    [
        ("{", "Expecting property name"),
        ('{"instances": []}', "no 'image'; found instances"),
        ('{"image": "a.jpg", "instances": [{"text": "a"}]}', "no 'polygon'; found text"),
        ('{"image": "a.jpg", "instances": [{"polygon": [[1, 2], [3]]}]}', "expected x and y of all points"),
        (
            '{"image": "a.jpg", "instances": [{"polygon": [], "ignore": "no"}]}',
            "'ignore' is 'no'; expected true or false",
        ),
        ('{"image": 7, "instances": []}', "'image' is 7; expected a string"),
    ],
)
def test_malformed_rows_of_a_labels_file(tmp_path, line, problem):
    root = write(tmp_path, {"a.jpg": "", "labels.jsonl": f"{row('a.jpg')}\n{line}\n"})
    with pytest.raises(SourceError, match=f"labels.jsonl:2: .*{problem}.*; expected {{"):
        open_annotated_images(root)
    problems = []
    open_annotated_images(root, problems=problems)
    assert len(problems) == 1


BOTH_SPLITS = {
    "imgs/training/img_1.jpg": "",
    "imgs/test/img_1.jpg": "",
    "annotations/training/gt_img_1.txt": f"{QUAD},train",
    "annotations/test/gt_img_1.txt": f"{QUAD},test",
}


def test_two_splits_below_one_folder_are_told_apart_by_name(tmp_path):
    root = write(tmp_path, BOTH_SPLITS)
    with pytest.raises(SourceError, match=r"may belong to .*imgs/test/img_1.jpg and to .*training.*images=..."):
        open_annotated_images(root)
    with pytest.raises(SourceError, match=r"img_1.jpg has two annotations, .*annotations=..."):
        open_annotated_images(root, images="imgs/test")
    source = open_annotated_images(root, images="imgs/test", annotations="annotations/test")
    assert [region.text for region in source.regions(0)] == ["test"]
    assert names(source) == [f"{root.name}/imgs/test/img_1.jpg"]


def test_images_to_train_and_to_test_are_not_mixed(tmp_path):
    files = {"train/1.jpg": "", "train/1.txt": f"{QUAD},a", "test/2.jpg": "", "test/2.txt": f"{QUAD},b"}
    with pytest.raises(SourceError, match=r"images to train \(train\) and to test \(test\)"):
        open_annotated_images(write(tmp_path, files))
    assert len(open_annotated_images(tmp_path / "train")) == 1


@pytest.mark.parametrize(
    ("files", "arguments", "problem"),
    [
        ({}, {}, "has no images"),
        ({"a.jpg": ""}, {}, "has 1 images, such as a.jpg, but .* no annotations of any format"),
        ({"a.jpg": "", "b.txt": f"{QUAD},word"}, {}, "such as b.txt, is named as one of the 1 images"),
        ({"a.jpg": "", "a.txt": "free text"}, {}, "a.txt begins with b'free text', which is none of the formats"),
        ({"a.jpg": "", "a.txt": "free text"}, {"format": "jsonl"}, "no annotation file of the format jsonl"),
        ({"a.jpg": "", "a.txt": "free text"}, {"format": "voc"}, "unknown format 'voc'"),
        ({"a.jpg": "", "a.txt": "free text"}, {"format": "mlt:val"}, "format mlt has no part 'val'"),
        ({"a.jpg": "", "x/a.txt": f"{QUAD},1", "y/a.txt": f"{QUAD},1"}, {}, "a.jpg has two annotations"),
        ({"a.jpg": "", "a.jsonl": row("a.jpg"), "b.jsonl": row("a.jpg")}, {}, "name one .*: a.jsonl, b.jsonl"),
        ({"a.jpg": "", "a.jsonl": row("b.jpg")}, {}, "none of the 1 images that .*a.jsonl names, such as b.jpg, is in"),
        ({"a.jpg": "", "a.txt": "x"}, {"annotations": "a.txt"}, "a.txt is not recognised as a file that annotates"),
        ({"a.jpg": "", "a.txt": "x"}, {"images": "photos"}, "photos does not exist"),
    ],
)
def test_what_cannot_be_opened_says_why(tmp_path, files, arguments, problem):
    with pytest.raises(SourceError, match=problem):
        open_annotated_images(write(tmp_path, files), **arguments)


def test_a_part_of_a_set_has_to_be_chosen(tmp_path):
    word = {"image_id": 7, "id": 1, "mask": [1, 2, 9, 2, 9, 8], "utf8_string": "a", "legibility": "legible"}
    document = {
        "imgs": {"7": {"id": 7, "set": "val", "width": 20, "height": 10, "file_name": "a.jpg"}},
        "anns": {"1": word},
        "imgToAnns": {"7": [1]},
        "cats": {},
    }
    root = write(tmp_path, {"a.jpg": "", "cocotext.v2.json": json.dumps(document)})
    with pytest.raises(SourceError, match="several parts; choose one by the format coco_text:train or coco_text:val"):
        open_annotated_images(root, "coco_text")
    assert [region.text for region in open_annotated_images(root, "coco_text:val").regions(0)] == ["a"]


def test_an_image_that_vanished(tmp_path):
    source = open_annotated_images(write(tmp_path, {"img_1.jpg": "", "gt_img_1.txt": f"{QUAD},word"}))
    (tmp_path / "img_1.jpg").unlink()
    with pytest.raises(ImageError, match=r"img_1.jpg: can't read .*No such file"):
        source[0]


def test_sources_are_pickled(tmp_path):
    source = open_annotated_images(write(tmp_path, {"img_1.jpg": "", "gt_img_1.txt": f"{QUAD},word"}))
    copy = pickle.loads(pickle.dumps(source))
    assert copy.image_name(0) == source.image_name(0)
    assert copy.regions(0)[0].text == "word"
