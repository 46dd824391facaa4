"""Evaluation of a detector on photos: by hand, and what may not change the result."""

import json
from dataclasses import asdict

import numpy as np
import pytest

from tcm_jax import Detector
from tcm_jax.detection.evaluate import evaluate_scenes
from tcm_jax.detection.interface import Instance
from tcm_jax.detection.streaming import Detections
from tcm_jax.images.decoding import ImageError, encode_png
from tcm_jax.metrics.detection import ImagePolygons, Score, hmean_iou, threshold_search
from tcm_jax.records import AnnotatedImage, TextRegion
from tests.conftest import in_two_processes
from tests.tiny_detector import SCALE, write_tiny_detector


def box(x: float, width: float = 10, height: float = 10) -> np.ndarray:
    """A rectangle at (x, 0)."""
    return np.array([[x, 0], [x + width, 0], [x + width, height], [x, height]], np.float32)


def text(*where: float) -> TextRegion:
    return TextRegion(box(*where))


def no_text(*where: float) -> TextRegion:
    return TextRegion(box(*where), ignore=True)


class Scenes:
    """A source in memory. Photo i has one pixel, its number, for `FakeStream`; the photos in `broken` have none."""

    name = "made"

    def __init__(self, *regions: list[TextRegion], broken: tuple[int, ...] = ()):
        self._regions, self._broken = [tuple(r) for r in regions], broken

    def __len__(self):
        return len(self._regions)

    def __getitem__(self, index):
        if index in self._broken:
            raise ImageError(self.image_name(index), "No such file")
        return AnnotatedImage(np.full((1, 1, 3), index, np.uint8), self.regions(index), self.image_name(index))

    def regions(self, index):
        return self._regions[index]

    def image_name(self, index):
        return f"made/{index}.png"


class FakeStream:
    """Finds in photo i of `Scenes` found[i], a list of ((x, ...), score)."""

    def __init__(self, *found):
        self.found = found
        self.read = []

    def stream(self, photos, errors):
        assert errors == "return"
        for read, name in photos:
            try:
                number = int(read()[0, 0, 0])
            except ImageError as error:
                yield error
                continue
            self.read.append(number)
            instances = tuple(Instance(box(*where), score) for where, score in self.found[number])
            yield Detections(name, 1, 1, instances, None, np.ones(2, np.float32))


# Three photos: a word found twice and one missed; a word that isn't there; one in a region that doesn't count.
SCENES = [text(0), text(20)], [], [no_text(0, 30), text(50)]
FOUND = [((0,), 0.9), ((0.5,), 0.45)], [((0,), 0.35)], [((5,), 0.8), ((50,), 0.2)]


def test_by_hand():
    photos = []
    result = evaluate_scenes(FakeStream(*FOUND), Scenes(*SCENES), on_image=photos.append)
    assert (result.name, result.num_photos, result.num_truth, result.num_ignored) == ("made", 3, 3, 1)
    assert result.fixed == Score(3, 4, 2, 2, 2 / 4, 2 / 3, pytest.approx(4 / 7))
    # The second word has a score of less than MMOCR's floor; the others go as the threshold rises.
    counts = [(score.num_predictions, score.matched_truth) for score in result.search.values()]
    assert counts == [(3, 1), (2, 1), (1, 1), (1, 1), (1, 1), (1, 1), (1, 1)]
    assert result.best_threshold == 0.5 and result.best == Score(3, 1, 1, 1, 1, 1 / 3, 0.5)
    assert result.deteval is None and result.undecodable == 0
    assert [photo.index for photo in photos] == [0, 1, 2]
    assert [photo.fixed.hmean for photo in photos] == [0.5, 0, 1]
    assert [len(photo.counted) for photo in photos] == [2, 1, 2]
    assert photos[2].regions == tuple(SCENES[2]) and photos[2].detections.name == "made/2.png"


def test_least_score():
    photos = []
    result = evaluate_scenes(FakeStream(*FOUND), Scenes(*SCENES), min_score=0.45, on_image=photos.append)
    assert result.fixed == Score(3, 2, 1, 1, 1 / 2, 1 / 3, pytest.approx(0.4))
    assert result.best_threshold == 0.5  # the search is what it was
    assert [len(photo.counted) for photo in photos] == [2, 0, 1]
    assert [len(photo.detections.instances) for photo in photos] == [2, 1, 2]


def test_deteval_reads_whole_pixels_and_knows_splits():
    scenes = Scenes([text(0, 20)], [text(0)], [text(0)])
    found = [((0, 10), 0.9), ((10, 10), 0.9)], [((0, 10, 7.4), 0.9)], [((0,), 0.1)]
    result = evaluate_scenes(FakeStream(*found), scenes, min_score=0.5, deteval=True)
    # A split counts 0.8; 7.4 pixels of 10 are 7, which is not more than 0.7.
    assert result.deteval == Score(
        3, 3, 0.8, 1.6, pytest.approx(1.6 / 3), pytest.approx(0.8 / 3), pytest.approx(16 / 45)
    )
    assert result.fixed.matched_truth == 1  # no more than a half of the split word, but 7.4 of the other's 10


def test_broken_photo_is_one_without_predictions(caplog):
    found = [((0,), 0.9)], [((0,), 0.9)]
    photos = []
    result = evaluate_scenes(
        FakeStream(*found), Scenes([text(0)], [text(0)], broken=(1,)), deteval=True, on_image=photos.append
    )
    assert (result.num_photos, result.undecodable) == (2, 1)
    assert result.fixed == result.best == Score(2, 1, 1, 1, 1, 0.5, pytest.approx(2 / 3))
    assert result.deteval.recall == 0.5
    assert photos[1].detections is None and photos[1].counted == ()
    assert "made: 1 images can't be decoded and count as images without text: made/1.png" in caplog.text


def test_no_text_anywhere():
    assert evaluate_scenes(FakeStream([]), Scenes([])).fixed.hmean == 1  # as in MMOCR
    with pytest.raises(ValueError, match="made has no images to score"):
        evaluate_scenes(FakeStream(), Scenes())


def test_lost_photos_are_an_error():
    stream = FakeStream(*FOUND)
    whole = stream.stream
    stream.stream = lambda *args, **kw: list(whole(*args, **kw))[:2]
    with pytest.raises(RuntimeError, match="made: 2 images were scored; expected 3"):
        evaluate_scenes(stream, Scenes(*SCENES))


def test_a_detector(tmp_path):
    """What the Python API finds, scored at once by the metrics."""
    write_tiny_detector(tmp_path / "model")
    detector = Detector(tmp_path / "model", upright=False, scale=SCALE, quiet=True)
    rng = np.random.default_rng(0)
    pixels = [np.kron(rng.integers(0, 256, (8, 10, 3), np.uint8), np.ones((12, 12, 1), np.uint8)) for _ in range(3)]
    found = detector.detect(pixels)
    regions = [(text(3, 30, 20), no_text(60, 40, 60)), *([TextRegion(f.instances[0].polygon)] for f in found[1:])]

    class Photos(Scenes):
        def __getitem__(self, index):
            return AnnotatedImage(encode_png(pixels[index]), self.regions(index), self.image_name(index))

    result = evaluate_scenes(detector.images, Photos(*regions))
    images = []
    for photo, here in zip(found, regions, strict=True):
        truth, ignored = ([r.polygon for r in here if r.ignore == ignore] for ignore in (False, True))
        polygons, scores = zip(*photo.instances, strict=True)
        images.append(ImagePolygons(truth, ignored, polygons, scores))
    assert result.fixed == hmean_iou(images).total and result.fixed.matched_truth >= 2
    assert dict(result.search) == {t: e.total for t, e in threshold_search(images).evaluations.items()}


_PROCESS = """
import json
from dataclasses import asdict
from tcm_jax.distributed import initialize
initialize()
from tests.detection.test_detection_evaluate import FOUND, SCENES, FakeStream, Scenes, evaluate_scenes
stream = FakeStream(*FOUND)
result = evaluate_scenes(stream, Scenes(*SCENES), deteval=True)
print(json.dumps([asdict(result), stream.read]))
"""


@pytest.mark.slow
def test_two_processes():
    """Each reads every other photo, and both know the whole result."""
    outputs = in_two_processes(_PROCESS)
    alone = asdict(evaluate_scenes(FakeStream(*FOUND), Scenes(*SCENES), deteval=True))
    results, read = zip(*outputs, strict=True)
    assert all(result == json.loads(json.dumps(alone)) for result in results)
    assert read == ([0, 2], [1])
