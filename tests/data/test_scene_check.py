"""What images with text are surveyed for, drawn as, written as and converted from."""

import io
import json
import sys

import numpy as np
import pytest
from PIL import Image
from word_files import folder, jpeg, run

from tcm_jax.data.scenes.check import survey
from tcm_jax.data.scenes.sources import open_annotated_images
from tcm_jax.data.scenes.write import write_annotated_folder
from tcm_jax.data.tfds import open_tfds
from tcm_jax.images.decoding import ImageError
from tcm_jax.images.drawing import annotation_sheet, draw_polygons
from tcm_jax.records import AnnotatedImage, SourceError, TextRegion

GREEN, ORANGE = (40, 230, 90), (255, 110, 60)


class ListScenes:
    """A source of scenes in memory; an error in the list is raised."""

    name = "made"

    def __init__(self, *scenes: AnnotatedImage | Exception):
        self.scenes = scenes

    def __len__(self) -> int:
        return len(self.scenes)

    def __getitem__(self, index: int) -> AnnotatedImage:
        if isinstance(scene := self.scenes[index], Exception):
            raise scene
        return scene

    def regions(self, index: int) -> tuple[TextRegion, ...]:
        return self[index].regions

    def image_name(self, index: int) -> str:
        return self[index].name


def box(left: float, top: float, right: float, bottom: float, text: str = "", ignore: bool = False) -> TextRegion:
    return TextRegion(np.float32([[left, top], [right, top], [right, bottom], [left, bottom]]), text, ignore)


def scene(name: str, *regions: TextRegion, number: int = 0, width: int = 200, height: int = 100) -> AnnotatedImage:
    return AnnotatedImage(jpeg(number, width, height), regions, name)


def rotated_jpeg() -> bytes:
    file, exif = io.BytesIO(), Image.Exif()
    exif[0x0112] = 6
    Image.new("RGB", (200, 100), (9, 99, 199)).save(file, "JPEG", exif=exif)
    return file.getvalue()


def icdar2015(path, **annotations: str):
    """A folder of images img_1.jpg, ... and their gt_img_1.txt, ..."""
    path.mkdir(parents=True)
    for number, (stem, text) in enumerate(annotations.items()):
        (path / f"{stem}.jpg").write_bytes(jpeg(number, 200, 100))
        (path / f"gt_{stem}.txt").write_text(text)
    return path


def test_a_survey_counts_images_and_texts():
    source = ListScenes(
        scene("a.jpg", box(0, 0, 200, 20, "EXIT"), box(10, 50, 60, 60, "EXIT"), box(90, 50, 95, 55, ignore=True)),
        scene("b.jpg", number=1, height=300),
        scene("c.jpg", box(0, 0, 50, 40, "###", True), number=2),
        scene("d.jpg", TextRegion(np.float32([[0, 0], [90, 0], [90, 30]]), "3"), number=3),
    )
    result = survey(source, range(4))
    assert (result.inspected, result.usable, result.counts) == (4, 4, [(3, 1), (0, 0), (1, 1), (1, 0)])
    assert str(result).split("\n") == [
        "images: height 100 .. 300, median 100, 90 % within 100 .. 270",
        "        width 200 .. 200, median 200, 90 % within 200 .. 200",
        "texts:  5, 2 of them ignored; 0 .. 3, median 1, 90 % within 0 .. 3 in an image",
        "        1 images without text",
        "        1 images with ignored text only",
        "        points: 3 in 1, 4 in 4",
        "        shorter side 10 .. 28, median 20, 90 % within 11 .. 28 pixels, of those that count",
        "        transcribed: 3; often 'EXIT' 2, '3' 1",
        "usable: 4 of 4 records",
    ]


def test_a_survey_finds_what_is_odd():
    crossing = TextRegion(np.float32([[10, 10], [60, 40], [60, 10], [10, 40]]))
    twice = TextRegion(np.float32([[10, 10], [60, 10], [60, 10], [60, 30], [10, 30]]))  # a corner given twice
    far = TextRegion(np.float32([[1e9, 0], [2e9, 0], [2e9, 30]]))
    source = ListScenes(
        scene("a.jpg", crossing, box(-5, 0, 50, 20), box(200, 0, 230, 20), twice, far),
        scene("b.jpg", box(0, 0, 5, 5), box(0, 0, 5, 5, ignore=True)),
        AnnotatedImage(rotated_jpeg(), (), "c.jpg"),
        AnnotatedImage(jpeg(4, 200, 100)[:-300], (box(0, 0, 9, 9),), "d.jpg"),
        ImageError("e.jpg", "no such file"),
        SourceError("gt_f.txt:1: 3 fields"),
    )
    result = survey(source, range(6))
    assert result.places == {
        "text: outline crosses or touches itself": ["a.jpg #1"],
        "text: partly outside the image": ["a.jpg #2"],
        "text: wholly outside the image": ["a.jpg #3", "a.jpg #5"],
        "image: same as another": ["b.jpg = a.jpg"],
        "text: tiny (under 8 pixels), but not ignored": ["b.jpg #1"],
        "text: same outline as another": ["b.jpg #2 = b.jpg #1"],
        "image: with an EXIF orientation, which is ignored": ["c.jpg"],
    }
    lines = str(result).split("\n")
    assert "text: wholly outside the image: 2: a.jpg #3, a.jpg #5" in lines
    assert "unreadable: 3 of 6" in lines
    assert "  e.jpg: no such file" in lines
    assert "  gt_f.txt:1: 3 fields" in lines
    assert lines[-1] == "usable: 3 of 6 records"


def test_outlines_and_tags():
    image = np.full((100, 200, 3), 128, np.uint8)
    outside = np.float32([[-1e9, 50], [1e9, 50], [1e9, 1e9]])
    drawn = draw_polygons(image, [box(20, 40, 120, 80).polygon, outside], [GREEN, ORANGE], ["", "tag"])
    assert tuple(drawn[60, 20]) == tuple(drawn[60, 120]) == GREEN
    assert (drawn[62:75, 30:110] == 128).all()  # the letters stay as they are
    assert (image == 128).all()


def test_a_sheet_of_scenes():
    scenes = [
        AnnotatedImage(
            np.full((240, 320, 3), 128, np.uint8), (box(100, 50, 200, 100), box(10, 200, 60, 220, "#", True)), "a"
        ),
        AnnotatedImage(b"no image", (), "folder/" * 40 + "b.jpg"),
        scene("c.jpg"),
    ]
    sheet = np.array(annotation_sheet(scenes, columns=2))
    assert sheet.shape == (508 + 228, 2 * 646, 3)  # images grow to twice their size at most; rows are as high as needed
    for (y, x), colour in {(150, 200): GREEN, (420, 20): ORANGE}.items():
        np.testing.assert_allclose(sheet[y, x], colour, atol=25)
    assert tuple(sheet[1, 700]) == (255, 0, 0)
    assert np.array(annotation_sheet(scenes[:1])).shape == (508, 646, 3)


def test_a_written_folder_is_read_back(tmp_path):
    made = [
        scene("one/img_1.jpg", box(1.25, 2, 30.1, 20, 'Caf\u00e9, "x"'), box(-3, 0, 5, 6, "###", True)),
        scene("two/IMG_1.JPG", number=1),
        AnnotatedImage(np.full((20, 40, 3), 7, np.uint8), (box(0, 0, 9, 9),), "synthetic scenes/train:0:7"),
    ]
    assert write_annotated_folder(made, tmp_path / "new") == 3
    names = ["images/img_1.jpg", "images/IMG_1-2.JPG", "images/train_0_7.png"]
    rows = [json.loads(line) for line in (tmp_path / "new" / "labels.jsonl").read_text("utf-8").splitlines()]
    assert [row["image"] for row in rows] == names
    assert (rows[2]["width"], rows[2]["height"]) == (40, 20)
    assert rows[0]["instances"][0]["polygon"] == [[1.25, 2], [30.1, 2], [30.1, 20], [1.25, 20]]
    read = open_annotated_images(tmp_path / "new")
    for i, (record, name) in enumerate(zip(made, names, strict=True)):
        assert read.image_name(i).endswith(name)
        assert [(r.text, r.ignore) for r in read[i].regions] == [(r.text, r.ignore) for r in record.regions]
        for region, expected in zip(read[i].regions, record.regions, strict=True):
            np.testing.assert_array_equal(region.polygon, expected.polygon)
    assert read[0].image == made[0].image
    with pytest.raises(FileExistsError):
        write_annotated_folder(made, tmp_path / "new")


def test_check_of_a_folder_of_images(tmp_path, capsys):
    path = icdar2015(
        tmp_path / "photos",
        img_1="5,5,90,5,90,40,5,40,EXIT\n100,5,110,5,110,9,100,9,###\n",
        img_2="1,2,3\n5,5,90,5,90,40,5,40,SALE\n",
        img_3="5,5,5,5,5,5,5,5,gone\n",
    )
    code, text = run(capsys, "check", path)
    assert code == 0
    assert "recognised: icdar2015 " in text
    assert "without area" in text
    assert "texts:  3, 1 of them ignored" in text
    assert "often 'EXIT' 1, 'SALE' 1" in text
    assert "usable: 3 of 3 records" in text
    assert "problem: " in text
    assert "gt_img_2.txt:1: " in text
    assert "usable: 1 of 1 records" in run(capsys, "check", path, "--limit", 1)[1]
    assert "sheet.png: 3 of 3 records" in run(capsys, "check", path, "--draw", tmp_path / "sheet.png")[1]
    assert Image.open(tmp_path / "sheet.png").width > 600


def test_check_fails_when_no_image_can_be_read(tmp_path, capsys):
    path = icdar2015(tmp_path / "photos", img_1="5,5,90,5,90,40,5,40,EXIT\n")
    (path / "img_1.jpg").write_bytes(b"no image")
    code, text = run(capsys, "check", path)
    assert code == 1
    assert "unreadable: 1 of 1" in text
    assert "usable: 0 of 1 records" in text


def test_options_choose_the_kind(tmp_path, capsys):
    """A folder of words stays one of words, unless an option of scenes is given."""
    words = folder(tmp_path / "words", "labels.tsv", "a.jpg\tfirst\n")
    assert "recognised: label file" in run(capsys, "check", words)[1]
    assert run(capsys, "check", words, "--scenes")[0] == 1
    assert run(capsys, "peek", words, "--format", "jsonl")[0] == 1
    code, text = run(capsys, "check", words, "--charset", "36", "--format", "jsonl")
    assert code == 1
    assert "--charset is for crops, --format for annotated images" in text
    (tmp_path / "empty").mkdir()
    code, text = run(capsys, "check", tmp_path / "empty")
    assert code == 1
    assert "as words: " in text
    assert "as scenes: " in text


def test_peek_draws_images(tmp_path, capsys):
    path = icdar2015(tmp_path / "photos", img_1="5,5,90,5,90,40,5,40,EXIT\n", img_2="5,5,90,5,90,40,5,40,###\n")
    code, text = run(capsys, "peek", path, "-o", tmp_path / "sheet.png")
    assert code == 0
    assert "img_1.jpg  'EXIT'" in text
    assert "sheet.png: 2 of 2 records" in text
    assert Image.open(tmp_path / "sheet.png").size == (2 * 646, 228)


def test_build_writes_a_folder_of_scenes(tmp_path, capsys):
    path = icdar2015(tmp_path / "photos", img_1="5,5,90,5,90,40,5,40,EXIT\n", img_2="5,5,90,5,90,40,5,40,###\n")
    (path / "img_2.jpg").write_bytes(b"no image")
    code, text = run(capsys, "build", path, tmp_path / "new")
    assert code == 0
    assert "new: 1 records, 1 left out\nleft out: " in text
    assert "img_2.jpg" in text
    built = open_annotated_images(tmp_path / "new")
    assert [record.image for record in built] == [jpeg(0, 200, 100)]
    assert built.regions(0)[0].text == "EXIT"
    code, text = run(capsys, "build", path, tmp_path / "other", "--to", "lmdb")
    assert code == 1
    assert "--to lmdb is not for annotated images" in text
    words = folder(tmp_path / "words", "labels.tsv", "a.jpg\tfirst\n")
    code, text = run(capsys, "build", words, tmp_path / "other", "--to", "scenes")
    assert code == 1
    assert "--to scenes is not for crops" in text
    (path / "img_1.jpg").write_bytes(b"no image")
    code, text = run(capsys, "build", path, tmp_path / "other")
    assert code == 1
    assert "no record can be read" in text
    assert not (tmp_path / "other").exists()


def test_build_refuses_malformed_lines(tmp_path, capsys):
    path = icdar2015(tmp_path / "photos", img_1="5,5,90,5,90,40,5,40,EXIT\n1,2\n")
    code, text = run(capsys, "build", path, tmp_path / "new", "--format", "icdar2015")
    assert code == 1
    assert "gt_img_1.txt:2: " in text
    assert not (tmp_path / "new").exists()


def test_synth_renders_scenes(tmp_path, capsys):
    options = ("synth", "--scenes", "-n", 2, "--image-size", 96, 128, "--words", 2, 4, "--difficulty", 0)
    code, text = run(capsys, *options, "-o", tmp_path / "new")
    assert code == 0
    assert "new: 2 scenes from " in text
    made = open_annotated_images(tmp_path / "new")
    assert len(made) == 2
    assert Image.open(io.BytesIO(made[0].image)).size == (128, 96)
    assert run(capsys, *options, "-o", tmp_path / "sheet.png")[0] == 0
    assert Image.open(tmp_path / "sheet.png").size[0] == 2 * 646
    code, text = run(capsys, *options, "--charset", "36")
    assert code == 1
    assert "--charset is for crops" in text


def test_tfds_builds_a_data_set(tmp_path, capsys):
    icdar2015(tmp_path / "manual" / "own", img_1="5,5,90,5,90,40,5,40,EXIT\n5,5,5,5,5,5,5,5,gone\n")
    code, text = run(capsys, "tfds", "scene_text/folders", tmp_path / "manual", tmp_path / "tfds")
    assert code == 0
    assert "own: 1 images, 1 text instances (0 of them ignored); dropped 1 without area (gt_img_1.txt:2)\n" in text
    assert len(open_tfds(tmp_path / "tfds/scene_text/folders", "own")) == 1
    code, text = run(capsys, "tfds", "scene_text/icdar", tmp_path, tmp_path / "tfds")
    assert code == 1
    assert "no data set is called 'scene_text/icdar'; there are scene_text/icdar2013, " in text


def test_tfds_is_an_extra(tmp_path, capsys, monkeypatch):
    monkeypatch.setitem(sys.modules, "tensorflow_datasets", None)
    for name in [name for name in sys.modules if name.startswith("tcm_jax.data.tfds")]:
        monkeypatch.delitem(sys.modules, name)
    code, text = run(capsys, "tfds", "scene_text/folders", tmp_path, tmp_path / "tfds")
    assert code == 1
    assert "pip install 'tcm_jax[tfds]'" in text
