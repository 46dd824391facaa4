"""`tcm_jax.commands.crops`: pictures of the words of photos with known text."""

import json

import cv2
import numpy as np
import pytest

from tcm_jax import Detector
from tcm_jax.commands import crops
from tcm_jax.data.words.sources import open_word_crops
from tcm_jax.images.decoding import decode, encode_png
from tests.tiny_detector import write_tiny_detector

PALE, DARK = (220, 220, 220), (40, 60, 200)


def box(x, y, w, h):
    return [[x, y], [x + w, y], [x + w, y + h], [x, y + h]]


def write_photos(folder, photos) -> None:
    """Photos of 120 x 96 pixels, each [(polygon, text)]; a text None is to be ignored. Words are filled with colour."""
    (folder / "images").mkdir(parents=True)
    rows = []
    for i, words in enumerate(photos):
        photo = np.full((96, 120, 3), PALE, np.uint8)
        for polygon, _ in words:
            cv2.fillPoly(photo, [np.array(polygon, np.int32)], DARK)
        (folder / f"images/{i}.png").write_bytes(encode_png(photo))
        instances = [{"polygon": p, "text": text or "###", "ignore": text is None} for p, text in words]
        rows.append({"image": f"images/{i}.png", "width": 120, "height": 96, "instances": instances})
    (folder / "labels.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))


@pytest.fixture
def photos(tmp_path):
    """Three photos with the words 1, 2 and 3, 4 and 5."""
    first = [(box(10, 10, 60, 20), "one")]
    second = [(box(20, 10, 40, 10), "two"), (box(0, 40, 20, 10), None), (box(20, 40, 50, 20), "three")]
    third = [(box(10, 10, 60, 20), "four"), (box(90, 10, 10, 60), "upright"), (box(70, 10, 10, 60), "I")]
    write_photos(tmp_path / "photos", [first, second, third])
    return tmp_path / "photos"


def cut(photos, *options) -> list[tuple[str, np.ndarray]]:
    destination = photos.parent / f"cut{len(list(photos.parent.iterdir()))}"
    crops.main([str(photos), str(destination), *options])
    source = open_word_crops(destination)
    return [(record.label, decode(record.image, record.name)) for record in (source[i] for i in range(len(source)))]


def test_words_are_cut_out_with_a_margin(photos, capsys):
    found = cut(photos)
    assert [text for text, _ in found] == ["one", "two", "three", "four", "I"]
    shapes = [picture.shape[:2] for _, picture in found]
    assert shapes == [(28, 68), (14, 44), (28, 58), (28, 68), (64, 14)]  # a fifth of their heights on every side
    picture = found[0][1]
    assert (picture[4:-4, 4:-4] == DARK).all()
    assert (picture[0] == PALE).all()
    assert (picture[:, -1] == PALE).all()
    text = capsys.readouterr().out
    assert "5 crops of 6 words; 6 have a text" in text
    assert "1 crops of words that may be turned" in text


def test_margins_and_outlines_are_drawn_anew_for_each_copy(photos):
    options = ("--margin", "0", "0.5", "--jitter", "0.1", "--copies", "3")
    pictures = [picture for text, picture in cut(photos, *options) if text == "one"]
    assert len({picture.shape for picture in pictures}) == 3
    again = [picture for text, picture in cut(photos, *options) if text == "one"]
    assert all(map(np.array_equal, pictures, again))
    others = [picture for text, picture in cut(photos, *options, "--seed", "1") if text == "one"]
    assert not any(map(np.array_equal, pictures, others))


def test_held_out_photos_and_words_are_left_out(photos):
    assert [text for text, _ in cut(photos, "--hold-out", "2")] == ["one"]  # neither the second photo nor words 4 and 6
    assert [text for text, _ in cut(photos, "--hold-out", "4")] == ["one", "two", "three", "I"]


def test_by_the_outlines_of_a_detector(tmp_path):
    """The truth is what the detector finds, moved by a pixel, so that each word is found; and one word elsewhere."""
    write_tiny_detector(tmp_path / "detector")
    detector = Detector(tmp_path / "detector", upright=False, quiet=True)
    coarse = np.random.default_rng(0).integers(0, 256, (10, 12, 3), np.uint8)
    photo = cv2.resize(coarse, (120, 96), interpolation=cv2.INTER_CUBIC)
    found = detector.detect(photo).instances
    words = [((np.asarray(x.polygon) + np.array([0.5, 0])).tolist(), f"w{i}") for i, x in enumerate(found)]
    write_photos(tmp_path / "photos", [[*words, (box(110, 90, 4, 3), "no")]])
    (tmp_path / "photos/images/0.png").write_bytes(encode_png(photo))
    texts = [text for text, _ in cut(tmp_path / "photos", "--detector", str(tmp_path / "detector"))]
    assert texts
    assert "no" not in texts
    assert set(texts) <= {text for _, text in words}


def test_what_is_wrong_is_told(photos, tmp_path, capsys):
    (photos / "images/0.png").write_bytes(b"broken")
    assert next(text for text, _ in cut(photos)) == "two"
    assert "left out: " in capsys.readouterr().out

    write_photos(tmp_path / "empty", [[(box(10, 10, 60, 20), None)]])
    for options, message in (
        ([tmp_path / "empty", tmp_path / "x"], "has no words with a text"),
        ([photos, tmp_path / "x", "--margin", "0.3", "0.1"], "expected 0 <= margin"),
        ([photos, tmp_path / "x", "--hold-out", "1"], "--hold-out is 1; expected 2 or more"),
        ([photos, photos], "exists"),
        ([tmp_path / "nowhere", tmp_path / "x"], "nowhere"),
    ):
        with pytest.raises(SystemExit, match=message):
            crops.main(list(map(str, options)))
    assert not (tmp_path / "x").exists()
