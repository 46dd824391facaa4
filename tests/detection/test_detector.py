"""The Python API of detection: every kind of input, canvases, threads, and what it says about bad input."""

import io
import json
import shutil
from concurrent.futures import ThreadPoolExecutor

import cv2
import jax
import numpy as np
import pytest
from PIL import Image

from tcm_jax import Detections, Detector, Recognizer
from tcm_jax.detection.interface import Instance
from tcm_jax.detection.model import DETECTORS
from tcm_jax.detection.streaming import valid
from tcm_jax.images.canvas import bucket_sizes, canvas_size, resized_size
from tcm_jax.images.decoding import ImageError, encode_png
from tests.conftest import channels_last, compare, read_json
from tests.tiny_detector import SCALE, write_tiny_detector


def photo(number: int, height: int = 90, width: int = 120) -> np.ndarray:
    """Smooth noise."""
    coarse = np.random.default_rng(number).integers(0, 256, (height // 12 + 2, width // 12 + 2, 3), np.uint8)
    return cv2.resize(coarse, (width, height), interpolation=cv2.INTER_CUBIC)


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    """Model directories by name: a detector of each family, and one whose text is the same for all photos."""
    folder = tmp_path_factory.mktemp("models")
    for family in DETECTORS:
        write_tiny_detector(folder / family, family)
    write_tiny_detector(folder / "constant", language_prompt=False)
    return folder


@pytest.fixture(scope="module")
def tiny(models):
    return Detector(models / "db", quiet=True)


@pytest.fixture
def folder(tmp_path):
    """Photos of six shapes and a text file."""
    sizes = [(90, 120), (120, 90), (40, 300), (64, 64), (200, 310), (300, 20)]
    for number, size in enumerate(sizes):
        (tmp_path / f"{number}.png").write_bytes(encode_png(photo(number, *size)))
    (tmp_path / "notes.txt").write_text("not an image")
    return tmp_path


def same(one: Detections, other: Detections) -> bool:
    """Equal but for the name."""
    return (
        (one.width, one.height, len(one.instances)) == (other.width, other.height, len(other.instances))
        and np.array_equal(one.score_map, other.score_map)
        and all(
            np.array_equal(a.polygon, b.polygon) and a.score == b.score
            for a, b in zip(one.instances, other.instances, strict=True)
        )
    )


@pytest.mark.parametrize("family", DETECTORS)
def test_families(models, family):
    found = Detector(models / family, quiet=True).detect(photo(0))
    assert (found.name, found.width, found.height) == ("image", 120, 90)
    assert found.instances
    for polygon, score in found.instances:
        assert polygon.ndim == 2 and polygon.shape[1] == 2 and len(polygon) >= 4
        assert 0 <= score <= 1.001
    assert found.score_map.shape == (3, 4) and np.abs(found.score_map).max() <= 1.001
    np.testing.assert_allclose(found.scale, 96 / 90, rtol=1e-6)


def test_kinds_of_input(tiny, folder):
    path = folder / "3.png"
    expected = tiny.detect(path)
    assert expected.name == str(path) and expected.instances
    inputs = [str(path), path.read_bytes(), Image.open(path), photo(3, 64, 64)]
    many = tiny.detect(inputs)
    assert all(same(found, expected) for found in many)
    assert [found.name for found in many] == [str(path), "image 1", str(path), "image 3"]
    assert tiny.detect([]) == []


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGBA", "CMYK", "I;16"])
def test_modes(tiny, mode):
    """Gray, transparent, palette and 16-bit photos; a PIL image gives what its file gives."""
    image = Image.fromarray(photo(1)).convert("L" if mode == "I;16" else mode)
    if mode == "I;16":
        image = Image.fromarray(np.array(image).astype(np.uint16) << 8)
    file = io.BytesIO()
    image.save(file, "TIFF")
    found = tiny.detect(file.getvalue())
    assert found.instances and same(found, tiny.detect(image))
    if mode in ("L", "I;16", "RGBA"):
        assert same(
            found, tiny.detect(photo(1) if mode == "RGBA" else np.array(Image.fromarray(photo(1)).convert("L")))
        )


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("form", ["PNG", "TIFF", "WEBP"])
def test_exif_orientation(tiny, orientation, form):
    """Polygons belong to the photo as viewers show it; `upright=False` takes the stored pixels."""
    exif, file = Image.Exif(), io.BytesIO()
    exif[0x0112] = orientation
    Image.fromarray(photo(2)).save(file, form, exif=exif, lossless=True)
    turned = [cv2.flip(photo(2), 1), cv2.rotate(photo(2), cv2.ROTATE_180), cv2.flip(photo(2), 0)]
    turned += [cv2.transpose(photo(2)), cv2.rotate(photo(2), cv2.ROTATE_90_CLOCKWISE)]
    turned += [cv2.rotate(turned[3], cv2.ROTATE_180), cv2.rotate(photo(2), cv2.ROTATE_90_COUNTERCLOCKWISE)]
    shown = tiny.detect([photo(2), *turned][orientation - 1])
    assert same(tiny.detect(file.getvalue()), shown)
    assert same(tiny.detect(Image.open(file)), shown)


def test_stored_orientation(models, tiny):
    exif, file = Image.Exif(), io.BytesIO()
    exif[0x0112] = 6
    Image.fromarray(photo(2)).save(file, "PNG", exif=exif)
    stored = Detector(models / "db", upright=False, quiet=True).detect(file.getvalue())
    assert (stored.width, stored.height) == (120, 90) and same(stored, tiny.detect(photo(2)))


@pytest.mark.parametrize(("height", "width"), [(1, 1), (3, 8000), (300, 8000), (1, 8000), (8000, 40)])
def test_extreme_sizes(tiny, height, width):
    found = tiny.detect(photo(0, height, width))
    assert (found.width, found.height) == (width, height)
    assert found.draw(photo(0, height, width)).dtype == np.uint8


def test_compiled_programs(models, folder):
    """At most as many as the canvases that are announced, whatever the photos."""
    few, exact = (Detector(models / "db", canvases=b, scale=(96, 64), quiet=True) for b in ("few", "exact"))
    for one in (few, exact):
        one._predict = jax.jit(one.model.predict)  # which no other test has used
    sizes = [(200, 200 + 10 * step) for step in range(30)]
    sizes += [(width, height) for height, width in sizes]
    few.detect([photo(0, *size) for size in sizes])
    canvases = {canvas_size(resized_size(size, few.options.scale), few.options.scale) for size in sizes}
    assert few._predict._cache_size() == len(canvases) <= len(bucket_sizes(few.options.scale))
    exact.detect([photo(0, 64, width) for width in (64, 70, 96)])
    assert exact._predict._cache_size() == 2  # 64 x 64 and 64 x 96


def test_others_make_no_difference(tiny, folder):
    together = tiny.detect(folder)
    assert [found.name for found in together] == [str(folder / f"{n}.png") for n in range(6)]
    assert all(same(found, tiny.detect(found.name)) for found in together)
    assert all(map(same, tiny.detect(reversed([found.name for found in together])), reversed(together)))


@pytest.mark.parametrize("family", DETECTORS)
@pytest.mark.parametrize("shape", [(96, 427), (427, 96)])
def test_larger_canvases_change_nothing(models, family, shape):
    """The maps of a photo are those of the original's padding, up to its border."""
    maps, canvases = [], []
    for buckets in ("few", "exact"):
        one = Detector(models / family, canvases=buckets, scale=(512, 96), quiet=True)
        prepared = one.images.prepare(photo(5, *shape), "").images[0]
        canvases.append(prepared.canvas.shape[:2])
        size = np.array([prepared.size], np.int32)
        output = jax.device_get(one._predict(one._variables, prepared.canvas[None], size, one._text))
        maps.append([valid(a[0], prepared) for a in jax.tree.leaves(output)])
    assert canvases[0] != canvases[1]
    for ours, original in zip(*maps, strict=True):
        compare(family, ours, original, 1e-5)


def test_network_input(detection_golden, models):
    """Resize, canvas and normalization together are the original's, zeros behind the photo included."""
    folder = detection_golden / "preprocess"
    config = read_json(folder / "config.json")
    inputs, outputs = np.load(folder / "inputs.npz"), np.load(folder / "outputs.npz")
    for key in outputs.files:
        case, _, rest = key.partition("_")
        family, found, _ = rest.partition("_network_input")
        if not found:
            continue
        one = Detector(models / family, canvases="exact", scale=config["cases"][case]["img_scale"], quiet=True)
        prepared = one.images.prepare(inputs[f"bgr_{case}"][..., ::-1], "").images[0]
        normalized = one.model.network.normalize(prepared.canvas[None], np.array([prepared.size]))
        compare(key, normalized, channels_last(outputs[key]), 2e-5)


def test_constant_text(models):
    """The text tower runs once, when the model is loaded."""
    one = Detector(models / "constant", quiet=True)
    assert one._text.shape == (1, 32) and one.detect(photo(0)).instances
    prepared = one.images.prepare(photo(0), "").images[0]
    lowered = one._predict.lower(one._variables, prepared.canvas[None], np.array([prepared.size], np.int32), one._text)
    assert "text_encoder" not in lowered.as_text(debug_info=True)


def test_without_text(tmp_path):
    write_tiny_detector(tmp_path / "baseline", text_matching=False)
    found = Detector(tmp_path / "baseline", quiet=True).detect(photo(0))
    assert found.score_map is None and found.instances
    assert found.draw(photo(0)).shape[1] < 700  # one panel


def test_threads(tiny):
    photos = [photo(n, 90, 90 + 20 * n) for n in range(4)]
    expected = tiny.detect(photos)
    with ThreadPoolExecutor(4) as pool:
        many = list(pool.map(lambda _: tiny.detect(photos), range(4)))
    assert all(same(found, right) for row in many for found, right in zip(row, expected, strict=True))


def test_stream_holds_few_photos(tiny):
    taken = []

    def photos():
        for number in range(1000):
            taken.append(number)
            yield photo(number % 3)

    stream = tiny.stream(photos())
    next(stream)
    assert len(taken) <= 2 * tiny.images.ahead + 2
    stream.close()
    assert len(taken) <= 2 * tiny.images.ahead + 2


def test_decoding(models, tiny):
    """Parameters by name; those of FCE that the device computes with as well."""
    scores = [instance.score for instance in tiny.detect(photo(0)).instances]
    limit = sorted(scores)[len(scores) // 2]
    strict = Detector(models / "db", score_threshold=limit, quiet=True)
    assert [i.score for i in strict.detect(photo(0)).instances] == [s for s in scores if s >= limit]
    few = Detector(models / "fce", alpha=8.0, beta=8, quiet=True)
    assert len(few.detect(photo(0)).instances) < len(Detector(models / "fce", quiet=True).detect(photo(0)).instances)


def test_scale(models):
    one = Detector(models / "db", scale=(300, 160), quiet=True)
    assert one.detect(photo(0)).score_map.shape == (5, 7)
    assert Detector(models / "db", scale=(160, 300), quiet=True).options.scales == [(300, 160)]
    assert Detector(models / "db", quiet=True).options.scales == [SCALE]


def test_to_dict():
    polygon = np.float32([[-3, 1.23456], [20, 2], [20, 12], [-3, 9]])
    found = Detections("a.jpg", 16, 10, (Instance(polygon, 0.87654321),), None, np.ones(2, np.float32))
    assert json.loads(json.dumps(found.to_dict())) == {
        "schema_version": 1,
        "image": "a.jpg",
        "width": 16,
        "height": 10,
        "instances": [{"polygon": [[0, 1.23], [16, 2], [16, 10], [0, 9]], "score": 0.8765}],
    }
    assert found.instances[0].polygon[0, 0] == -3  # as the model gave it


@pytest.mark.parametrize(
    ("image", "message"),
    [
        (b"", "image: empty file"),
        (b"no image", "image: not a readable image file"),
        (encode_png(photo(0))[:-300], "image: damaged or truncated PNG"),
        ("/nowhere/a.png", "/nowhere/a.png: No such file"),
        (np.zeros((2, 2, 3)), "image: array float64"),
        (np.zeros((0, 4, 3), np.uint8), "image: no pixels"),
        (Image.new("F", (4, 4)), "image: floating-point pixels"),
    ],
)
def test_bad_photo(tiny, image, message):
    with pytest.raises(ImageError, match=message):
        tiny.detect(image)
    first, broken, last = tiny.detect([photo(0), image, photo(1)], errors="return")
    assert isinstance(broken, ImageError)
    assert same(first, tiny.detect(photo(0))) and same(last, tiny.detect(photo(1)))
    with pytest.raises(ImageError):
        tiny.detect([photo(0), image, photo(1)])


@pytest.mark.filterwarnings("ignore:Corrupt EXIF")
def test_damaged_exif_is_no_damaged_photo(tiny):
    file = io.BytesIO()
    Image.fromarray(photo(0)).save(file, "PNG", exif=b"Exif\0\0II*\0\xff\xff\xff\xff")
    assert same(tiny.detect(file.getvalue()), tiny.detect(photo(0)))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"canvases": "many"}, "canvases is 'many'; expected one of few, exact"),
        ({"scale": (100,)}, "scale is .100,.; expected the longest and the shorter side"),
        ({"scale": (0, 0)}, "scale is .0, 0."),
        ({"scale": 640}, "scale is 640"),
        ({"dtype": "float16"}, "dtype is 'float16'; expected one of auto, float32, bfloat16"),
        ({"mask_treshold": 0.3}, "no parameter of a db detector's decoding; did you mean 'mask_threshold'"),
        ({"lateral_channels": 8}, "no parameter of a db detector's decoding; known are text_representation"),
        ({"mask_threshold": "0.3"}, "mask_threshold is '0.3'; expected float, such as 0.5"),
        ({"max_candidates": True}, "max_candidates is True; expected int"),
        ({"approximate": 1}, "approximate is 1; expected bool"),
        ({"text_representation": "box"}, 'text_representation is .box.; expected "quad" or "poly"'),
    ],
)
def test_bad_options(models, options, message):
    with pytest.raises(ValueError, match=message):
        Detector(models / "db", quiet=True, **options)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda c: c | {"preprocessing": {}}, "config.json describes no model for detection: 'mean'"),
        (lambda c: c | {"model": c["model"] | {"family": "east"}}, "family is 'east'; expected one of db"),
        (lambda c: c | {"model": c["model"] | {"detector": {"out_channel": 8}}}, "did you mean 'out_channels'"),
        (
            lambda c: c | {"model": c["model"] | {"detector": {"out_channels": 16}}},
            "has shape .*, but config.json asks",
        ),
        (
            lambda c: c | {"inference": {}},
            "scale is None",
        ),
    ],
)
def test_broken_model(models, tmp_path, change, message):
    shutil.copytree(models / "db", tmp_path / "model")
    config = read_json(tmp_path / "model/config.json")
    (tmp_path / "model/config.json").write_text(json.dumps(change(config)))
    with pytest.raises(ValueError, match=message):
        Detector(tmp_path / "model", quiet=True)


def test_models_of_another_task(models, tiny_model):
    with pytest.raises(ValueError, match="is a model for 'recognition'; detecting text needs one for 'detection'"):
        Detector(tiny_model)
    with pytest.raises(ValueError, match="is a model for 'detection'; reading words needs one for 'recognition'"):
        Recognizer(models / "db")
    with pytest.raises(FileNotFoundError, match="nowhere does not exist; expected a model directory"):
        Detector(models / "nowhere")


def test_says_where_it_runs(models, capsys):
    Detector(models / "db", scale=(200, 100))
    output = capsys.readouterr()
    assert output.out == "" and str(models / "db") in output.err and "float32" in output.err
    assert "images resized to a shorter side of 100, at most 200 pixels long" in output.err
    Detector(models / "db", quiet=True)
    assert capsys.readouterr().err == ""
