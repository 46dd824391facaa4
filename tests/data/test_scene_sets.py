"""Formats with one annotation file for all images, as users have them, and their annotations in memory."""

import pickle

import numpy as np
from scene_files import BOX, CORNERS, boxes, coco_text, curved, gt_mat, word_on_curves, write
from word_files import jpeg

from tcm_jax.data.scenes.formats.packed import PackedAnnotations
from tcm_jax.data.scenes.regions import AnnotationReport, usable_regions
from tcm_jax.data.scenes.sources import open_annotated_images


def test_sets_are_opened_from_their_folders(tmp_path):
    word = {"transcription": "a", "points": CORNERS, "illegibility": False}
    image = {"id": "b5", "set": "train", "file_name": "train/b5.jpg"}
    annotation = {"id": "b5_1", "image_id": "b5", "points": BOX, "utf8_string": "."}
    samples = {
        "art/train_labels.json": ({f"gt_{i}": [word] for i in range(3)}, "train_images/gt_1.jpg", ""),
        "textocr/TextOCR_0.1_train.json": (
            {"imgs": {"b5": image}, "anns": {"b5_1": annotation}},
            "train_images/b5.jpg",
            "",
        ),
        "curved/train.json": (curved([word_on_curves()]), "syntext_word_eng/0000000.jpg", ""),
        "coco/cocotext.v2.json": (coco_text(), "val2014/COCO_train2014_000000000007.jpg", "coco_text:val"),
    }
    opened = {}
    for name, (document, image, format) in samples.items():
        for path in (tmp_path / name, (tmp_path / name).parent / image):
            path.parent.mkdir(parents=True, exist_ok=True)
        write(tmp_path / name, document)
        path.write_bytes(jpeg(1))
        opened[name.split("/")[0]] = open_annotated_images((tmp_path / name).parent, format or "auto")
    (tmp_path / "synth/8").mkdir(parents=True)
    (tmp_path / "synth/8/b.jpg").write_bytes(jpeg(1))
    gt_mat(tmp_path / "synth/gt.mat", [("8/a.jpg", boxes(1), ["a"]), ("8/b.jpg", boxes(1, 2), ["a b"])])
    opened["synth"] = open_annotated_images(tmp_path / "synth")

    assert {name: (source.kind, len(source), len(source[0].regions)) for name, source in opened.items()} == {
        "art": ("art", 1, 1),
        "textocr": ("textocr", 1, 1),
        "curved": ("curved_synthtext", 1, 1),
        "coco": ("coco_text", 1, 1),
        "synth": ("synthtext", 1, 2),
    }
    assert opened["art"].report.dropped == {"annotation without an image": 2}
    assert opened["synth"].image_name(0) == "synth/8/b.jpg"
    assert str(opened["textocr"].report).startswith("1 images, 1 text instances (1 of them ignored)")


def test_few_of_many_annotated_images_are_found(tmp_path):
    """As of NightTime-ArT, whose images are some of ArT's."""
    word = {"transcription": "a", "points": CORNERS, "illegibility": False}
    write(tmp_path / "train_labels.json", {f"gt_{i}": [word] for i in range(300)})
    (tmp_path / "night").mkdir()
    (tmp_path / "night/gt_250.jpg").write_bytes(jpeg(1))
    source = open_annotated_images(tmp_path)
    assert [source.image_name(i) for i in range(len(source))] == [f"{tmp_path.name}/night/gt_250.jpg"]


def test_packed_annotations_are_those_given_and_count_as_each_by_itself():
    rng = np.random.default_rng(0)
    shapes = [
        np.zeros((0, 2)),
        np.array([[1, 2], [3, 4]]),
        np.array([[1, 2], [3, 4], [5, 6]]),  # no area
        np.array([[0, 0], [9, 9], [9, 0], [0, 9]]),  # its crossing cancels the area, yet it can be used
        np.array([[0, 0], [9, np.nan], [9, 0]]),
        np.array([[0, 0], [9, 0], [9, np.inf]]),
        np.array([[np.nan, 0], [9, 0], [9, 9]]),
        np.array(CORNERS),
    ]
    images = []
    for number in range(40):
        chosen = rng.integers(len(shapes), size=rng.integers(0, 6))
        words = [(shapes[k].astype(np.float32), "wört"[: k % 5], bool(k % 2)) for k in chosen]
        images.append((f"{number}.jpg", words))
    packed = pickle.loads(pickle.dumps(PackedAnnotations(iter(images))))
    assert packed.images == [f"{number}.jpg" for number in range(40)]
    for index, (image, words) in enumerate(images):
        found = list(packed.instances(index))
        assert [entry[1:] for entry in found] == [
            (text, ignore, f"{image}:{k}") for k, (_, text, ignore) in enumerate(words, start=1)
        ]
        for entry, (polygon, _, _) in zip(found, words, strict=True):
            np.testing.assert_array_equal(entry[0], polygon)

    for chosen_images in ([], [0], range(40), [39, 3, 17]):
        expected, report = AnnotationReport(), AnnotationReport()
        for index in chosen_images:
            usable_regions(packed.instances(index), expected)
        packed.count(chosen_images, report)
        assert report == expected
    assert report.dropped  # there was something to find

    with_places = [("a.jpg", [(*word, f"gt.txt:{7 * k}") for k, word in enumerate(words)]) for _, words in images]
    kept = PackedAnnotations(with_places, keep_places=True)
    for index, (_, words) in enumerate(images):
        assert [entry[3] for entry in kept.instances(index)] == [f"gt.txt:{7 * k}" for k in range(len(words))]
