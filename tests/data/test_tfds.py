import json
import pickle
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from word_files import folder, jpeg, records

from tcm_jax.data.entries import Entry, parse_entries
from tcm_jax.data.scenes.build import DetectionEntry, training_images
from tcm_jax.data.tfds import SceneText, TfdsScenes, TfdsWords, WordImages, build_tfds, open_tfds
from tcm_jax.data.tfds.layouts import SCENES, Layout
from tcm_jax.data.words.build import training_crops
from tcm_jax.data.words.labels import LabelFilter
from tcm_jax.data.words.lmdb import write_lmdb
from tcm_jax.records import SourceError
from tcm_jax.text.charset import CHARSET_36

LINES = {
    "gt_img_1.txt": "1,2,9,2,9,6,1,6,Café, 24h\r\n1,2,5,2,5,4,1,4,###\r\n",
    "gt_img_2.txt": "",
    "gt_img_10.txt": "0,0,8,0,8,8,0,8,last\n3,3,3,3,3,3,3,3,dot\n",
}


@pytest.fixture(autouse=True)
def quiet():
    import tensorflow_datasets

    tensorflow_datasets.disable_progress_bar()


def icdar2015(manual: Path, photos: str = "ch4_training_images") -> Path:
    """A manual folder with three photos to train on; one of them has no text."""
    labels = manual / "ch4_training_localization_transcription_gt"
    labels.mkdir(parents=True)
    (manual / photos).mkdir()
    for number, (name, text) in enumerate(LINES.items()):
        (labels / name).write_text("\ufeff" + text, newline="")
        (manual / photos / name[3:].replace("txt", "jpg")).write_bytes(jpeg(number))
    return manual


def test_scenes_are_read_back_as_they_were(tmp_path):
    path, accounts = build_tfds("scene_text/icdar2015", icdar2015(tmp_path / "manual"), tmp_path / "tfds")
    assert path == tmp_path / "tfds/scene_text/icdar2015/1.0.0"
    assert accounts == {
        "train": "3 images, 3 text instances (1 of them ignored); dropped 1 without area (gt_img_10.txt:2)"
    }
    source = open_tfds(path, "train")
    assert isinstance(source, TfdsScenes)
    assert (source.name, len(source)) == ("icdar2015/train", 3)
    names = ["img_1.jpg", "img_2.jpg", "img_10.jpg"]  # in the order of the source
    assert [source.image_name(i) for i in range(3)] == [f"manual/ch4_training_images/{name}" for name in names]
    first, empty, last = (source[i] for i in range(3))
    assert first.image == jpeg(0)
    assert last.image == jpeg(2)
    assert [(region.text, region.ignore) for region in first.regions] == [("Café, 24h", False), ("###", True)]
    np.testing.assert_array_equal(first.regions[1].polygon, np.float32([[1, 2], [5, 2], [5, 4], [1, 4]]))
    assert first.regions[0].polygon.dtype == np.float32
    assert empty.regions == () == source.regions(1)
    assert [region.text for region in source.regions(2)] == ["last"]
    with pytest.raises(IndexError):
        source[3]


def test_polygons_of_several_lengths_stay_apart(tmp_path):
    line = (
        '{"image": "a.jpg", "instances": [{"polygon": [[0, 0], [9, 0], [4, 5.25]], "text": "three"}, '
        '{"polygon": [[-1, 0], [9, 0], [9, 9], [4, 12], [0, 9]], "text": "five"}]}'
    )
    folder(tmp_path / "manual/own", "labels.jsonl", line)
    path, _ = build_tfds("scene_text/folders", tmp_path / "manual", tmp_path / "tfds")
    three, five = open_tfds(path, "own").regions(0)
    assert three.polygon.tolist() == [[0, 0], [9, 0], [4, 5.25]]
    assert five.polygon.tolist() == [[-1, 0], [9, 0], [9, 9], [4, 12], [0, 9]]


def test_splits_in_one_file(tmp_path):
    images = {"1": "train", "2": "val", "3": "test"}
    document = {
        "imgs": {key: {"id": int(key), "file_name": f"COCO_{key}.jpg", "set": split} for key, split in images.items()},
        "anns": {
            str(i): {
                "id": i,
                "image_id": i,
                "mask": [0, 0, i, 0, i, 5],
                "legibility": "legible",
                "utf8_string": f"t{i}",
            }
            for i in (1, 2)
        },
    }
    folder(tmp_path / "manual", "cocotext.v2.json", json.dumps(document), images=("train2014/COCO_1.jpg",))
    with pytest.raises(SourceError, match=r"COCO_2.jpg"):
        build_tfds("scene_text/coco_text", tmp_path / "manual", tmp_path / "tfds")
    folder(tmp_path / "manual", "cocotext.v2.json", json.dumps(document), [f"train2014/COCO_{i}.jpg" for i in images])
    path, accounts = build_tfds("scene_text/coco_text", tmp_path / "manual", tmp_path / "tfds")
    assert list(accounts) == ["train", "val"]
    assert [open_tfds(path, split).regions(0)[0].text for split in accounts] == ["t1", "t2"]


def test_textocr(tmp_path):
    instance = {"id": "a_1", "image_id": "a", "points": [0, 0, 9, 0, 9, 5], "utf8_string": "."}
    document = {"imgs": {"a": {"id": "a", "file_name": "train/a.jpg"}}, "anns": {"a_1": instance}}
    (tmp_path / "manual").mkdir()
    (tmp_path / "manual/TextOCR_0.1_val.json").write_text(json.dumps(document))
    with pytest.raises(SourceError, match=r"empty\):\n  validation: train_images$"):
        build_tfds("scene_text/textocr", tmp_path / "manual", tmp_path / "tfds")
    folder(tmp_path / "manual/train_images", "readme.md", "", images=("a.jpg",))
    path, _ = build_tfds("scene_text/textocr", tmp_path / "manual", tmp_path / "tfds")
    assert open_tfds(path, "validation")[0].regions[0].ignore


def test_words_are_read_back_as_they_were(tmp_path):
    write_lmdb(records(3), tmp_path / "manual/test/SVT")
    folder(tmp_path / "manual/test/CUTE80", "labels.tsv", "a.jpg\tRONALDO\ngone.jpg\tmissing\n")
    path, accounts = build_tfds("word_images/benchmarks", tmp_path / "manual", tmp_path / "tfds")
    source = open_tfds(path, "SVT")
    assert isinstance(source, TfdsWords)
    assert list(source.labels()) == ["w0", "w1", "w2"]
    assert source[1].image == jpeg(1)
    assert source[1].name == "benchmarks/SVT:000000001 SVT:000000002"
    assert list(open_tfds(path, "CUTE80").labels()) == ["RONALDO"]
    assert accounts["SVT"] == "3 records"
    assert "left out 1 without an image (CUTE80/labels.tsv:2 gone.jpg" in accounts["CUTE80"]


def test_a_part_of_a_split_and_pickled_sources(tmp_path):
    write_lmdb(records(10), tmp_path / "manual/train")
    path, _ = build_tfds("word_images/folders", tmp_path / "manual", tmp_path / "tfds")
    part = pickle.loads(pickle.dumps(open_tfds(path.parent, "train[80%:]")))
    assert list(part.labels()) == ["w8", "w9"]


def test_builders_are_known_to_tfds(tmp_path):
    import tensorflow_datasets as tfds

    path, _ = build_tfds("scene_text/icdar2015", icdar2015(tmp_path / "manual"), tmp_path / "tfds")
    builder = tfds.builder("scene_text/icdar2015", data_dir=tmp_path / "tfds")
    assert Path(builder.data_dir) == path
    example = builder.as_data_source("train")[0]
    assert example["image"].shape == (10, 20, 3)
    assert example["points"].shape == (8, 2)


def test_missing_files_are_listed(tmp_path):
    with pytest.raises(SourceError) as error:
        build_tfds("scene_text/icdar2015", tmp_path / "nowhere", tmp_path / "tfds")
    assert str(error.value) == (
        f"{tmp_path}/nowhere lacks these files (not there, or empty):\n"
        "  train: ch4_training_images, ch4_training_localization_transcription_gt\n"
        "  test: ch4_test_images, Challenge4_Test_Task1_GT"
    )
    manual = icdar2015(tmp_path / "manual")
    (manual / "ch4_test_images").mkdir()
    (manual / "ch4_test_images/img_1.jpg").write_bytes(jpeg(1))
    with pytest.raises(SourceError, match=r"empty\):\n  test: Challenge4_Test_Task1_GT$"):
        build_tfds("scene_text/icdar2015", manual, tmp_path / "tfds")


def test_missing_photos_are_listed(tmp_path):
    manual = icdar2015(tmp_path / "manual")
    for name in ("img_2.jpg", "img_10.jpg"):
        (manual / "ch4_training_images" / name).unlink()
    with pytest.raises(SourceError, match=r"lacks 2 annotated images \(gt_img_2.txt, gt_img_10.txt\)"):
        build_tfds("scene_text/icdar2015", manual, tmp_path / "tfds")
    assert list((tmp_path / "tfds/scene_text/icdar2015").iterdir()) == []


def test_malformed_annotations_are_named_with_their_line(tmp_path):
    manual = icdar2015(tmp_path / "manual")
    file = manual / "ch4_training_localization_transcription_gt/gt_img_2.txt"
    file.write_text("1,2,3,4\n")
    with pytest.raises(SourceError, match=r"gt_img_2.txt:1: "):
        build_tfds("scene_text/icdar2015", manual, tmp_path / "tfds")


def test_splits_that_share_files():
    layout = Layout({"train": ("photos", "train.json"), "val": ("photos", "val.json")})
    assert layout._own("train") == ["train.json"]
    assert SCENES["coco_text"]._own("val") == ["train2014", "cocotext.v2.json"]  # nothing is its alone


def test_a_split_without_files_of_its_own_is_left_out(tmp_path):
    folder(tmp_path / "photos", "a.txt", "")
    (tmp_path / "val.json").write_text("{}")
    layout = Layout({"train": ("photos", "train.json"), "val": ("photos", "val.json")})
    assert list(layout.present(tmp_path)) == ["val"]


def test_folders_that_cannot_name_a_split(tmp_path):
    (tmp_path / "my set").mkdir()
    with pytest.raises(SourceError, match="'my set' can't name a split"):
        Layout().present(tmp_path)
    with pytest.raises(SourceError, match="nowhere holds no folders; expected one for each split"):
        Layout().present(tmp_path / "nowhere")


def test_nothing_left_is_an_error(tmp_path):
    folder(tmp_path / "manual/train", "labels.tsv", "x.jpg\tone\ny.jpg\ttwo\n", images=("z.jpg",))
    with pytest.raises(SourceError, match="train: no record is left of 2 records; left out 2 without an image"):
        build_tfds("word_images/folders", tmp_path / "manual", tmp_path / "tfds")


def test_wrong_names_and_folders(tmp_path):
    with pytest.raises(ValueError, match=r"no data set is called 'scene_text/icdar2016'; there are .*/icdar2015,"):
        build_tfds("scene_text/icdar2016", tmp_path, tmp_path)
    with pytest.raises(SourceError, match="holds no data set of TFDS"):
        open_tfds(tmp_path, "train")
    write_lmdb(records(2), tmp_path / "manual/train")
    path, _ = build_tfds("word_images/folders", tmp_path / "manual", tmp_path / "tfds")
    with pytest.raises(SourceError, match="'test'"):
        open_tfds(path, "test")
    with pytest.raises(FileExistsError, match="remove it to build word_images/folders again"):
        build_tfds("word_images/folders", tmp_path / "manual", tmp_path / "tfds")


def test_every_format_has_a_builder_config():
    from tcm_jax.data.scenes.formats import FORMATS

    configs = {config.layout.format.partition(":")[0] for config in SceneText.BUILDER_CONFIGS}
    assert configs == set(FORMATS) - {"jsonl"} | {"auto"}  # "folders" recognises labels.jsonl
    assert [config.name for config in WordImages.BUILDER_CONFIGS] == ["training", "benchmarks", "folders"]


def test_tensorflow_is_not_imported(tmp_path):
    folder(tmp_path / "manual/own", "labels.tsv", "a.jpg\tone\n")
    program = f"""
import sys
from tcm_jax.data.tfds import build_tfds, open_tfds
path, _ = build_tfds("word_images/folders", {str(tmp_path / "manual")!r}, {str(tmp_path / "tfds")!r})
print(open_tfds(path, "own")[0].label, "tensorflow" in sys.modules)
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert done.stdout.endswith("one False\n"), done.stderr


def test_entries_of_a_config_name_a_split(tmp_path):
    build_tfds("scene_text/icdar2015", icdar2015(tmp_path / "photos"), tmp_path / "tfds")
    write_lmdb(records(3), tmp_path / "words/test/SVT")
    build_tfds("word_images/benchmarks", tmp_path / "words", tmp_path / "tfds")
    scenes = {"path": "tfds/scene_text/icdar2015", "split": "train"}
    words = {"path": "tfds/word_images/benchmarks", "split": "SVT"}
    letters = LabelFilter(CHARSET_36, 5)
    assert len(training_images(DetectionEntry(**scenes), tmp_path)) == 3
    assert list(training_crops(Entry(**words), letters, tmp_path).labels()) == ["w0", "w1", "w2"]
    with pytest.raises(SourceError, match="benchmarks holds words; expected scenes"):
        training_images(DetectionEntry(**words), tmp_path)
    with pytest.raises(SourceError, match="icdar2015 holds scenes; expected words"):
        training_crops(Entry(**scenes), letters, tmp_path)
    with pytest.raises(ValueError, match="split is of a path"):
        parse_entries([{"synthetic": {"size": 3}, "split": "train"}], "config.data.train", DetectionEntry)
