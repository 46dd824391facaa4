"""The Python API: every kind of input, batches, threads, and what it says about bad input."""

import io
import json
import shutil
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor

import jax
import numpy as np
import pytest
from PIL import Image

import tcm_jax
from tcm_jax import Reading, Recognizer
from tcm_jax.images.decoding import MEAN_STD_0_5, ImageError, encode_png
from tcm_jax.models.decoding import decode
from tcm_jax.pretrained import find_model, load
from tcm_jax.recognition.loading import load_recognizer
from tcm_jax.recognition.model import Prediction
from tcm_jax.recognition.options import ReadingOptions
from tcm_jax.recognition.views import CropViews
from tcm_jax.recognition.words import words
from tcm_jax.text.charset import CHARSET_94, CharsetTokenizer


def picture(number: int) -> np.ndarray:
    return np.random.default_rng(number).integers(0, 256, (20 + number, 40, 3), np.uint8)


@pytest.fixture(scope="module")
def recognizer(tiny_model):
    return Recognizer(tiny_model, batch_size=4, quiet=True)


@pytest.fixture
def folder(tmp_path):
    """Six word images and a text file."""
    for number in range(6):
        (tmp_path / f"{number}.png").write_bytes(encode_png(picture(number)))
    (tmp_path / "notes.txt").write_text("not an image")
    return tmp_path


def same(one: Reading, other: Reading) -> bool:
    """Equal but for the name and the last digits."""
    return one.text == other.text and np.allclose(one.char_confidences, other.char_confidences, rtol=1e-4)


def test_kinds_of_input(recognizer, folder):
    path = folder / "3.png"
    expected = recognizer.read(path)
    assert expected.name == str(path)
    inputs = [str(path), path.read_bytes(), Image.open(path), picture(3)]
    readings = [recognizer.read(image) for image in inputs]
    assert all(same(reading, expected) for reading in readings)
    assert [reading.name for reading in readings] == [str(path), "image", str(path), "image"]
    many = recognizer.read(inputs)
    assert all(same(reading, expected) for reading in many)
    assert [reading.name for reading in many] == [str(path), "image 1", str(path), "image 3"]


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGBA", "CMYK", "I;16"])
def test_pil_modes(recognizer, mode):
    """A PIL image of any mode is read as the same image from a file."""
    array = np.full((8, 16), 40_000, np.uint16)
    array[2:6] = 9_000
    image = Image.fromarray(array) if mode == "I;16" else Image.fromarray(picture(1)).convert(mode)
    file = io.BytesIO()
    image.save(file, "TIFF")
    assert same(recognizer.read(image), recognizer.read(file.getvalue()))


def test_reading(recognizer):
    readings = recognizer.read([picture(n) for n in range(6)])
    assert len({reading.text for reading in readings}) > 3  # the tiny model looks at the image
    for reading in readings:
        assert len(reading.char_confidences) == len(reading.text)
        # The end of the word has a probability, too, unless the word fills all positions.
        assert 0 <= reading.confidence <= np.prod(reading.char_confidences) * (1 + 1e-6)
        assert all(isinstance(value, float) for value in (reading.confidence, *reading.char_confidences))


def test_to_dict():
    reading = Reading("ab", 0.4, (0.5, 0.8), "word.jpg")
    assert json.loads(json.dumps(reading.to_dict())) == {
        "schema_version": 1,
        "text": "ab",
        "confidence": 0.4,
        "char_confidences": [0.5, 0.8],
        "name": "word.jpg",
        "raw_text": None,
    }


def test_batches(recognizer, folder, monkeypatch):
    """Six images are a batch of four and one of two; each is read as if it were alone."""
    sizes = []
    predict = recognizer._predict

    def counting(variables, images, mask):
        sizes.append(len(images))
        return predict(variables, images, mask)

    monkeypatch.setattr(recognizer, "_predict", counting)
    together = recognizer.read(folder)
    assert sizes == [4, 2]
    assert [reading.name for reading in together] == [str(folder / f"{n}.png") for n in range(6)]
    alone = [recognizer.read(folder / f"{n}.png") for n in range(6)]
    assert sizes[2:] == [1] * 6
    assert all(map(same, together, alone))
    recognizer.read([picture(n) for n in range(3)])
    assert sizes[8:] == [4]  # padded
    assert recognizer.read([]) == []


def test_stream_is_lazy(recognizer):
    taken = []

    def images():
        for number in range(100):
            taken.append(number)
            yield picture(number % 6)

    next(recognizer.stream(images()))
    assert len(taken) == 8  # two batches


def test_threads(recognizer):
    expected = [recognizer.read(picture(n)) for n in range(6)]
    with ThreadPoolExecutor(6) as pool:
        numbers = list(range(6)) * 3
        many = list(pool.map(lambda n: recognizer.read([picture(n)] * 3), numbers))
        single = list(pool.map(lambda n: recognizer.read(picture(n)), numbers))
    for i, (three, one) in enumerate(zip(many, single, strict=True)):
        assert all(same(reading, expected[i % 6]) for reading in (*three, one))


@pytest.mark.parametrize(
    "image, message",
    [
        (b"no image", "image: not a readable image file"),
        ("/nowhere/a.png", "/nowhere/a.png: No such file"),
        (np.zeros((2, 2, 3)), "image: array float64"),
        (np.zeros((0, 4, 3), np.uint8), "image: no pixels"),
        (Image.new("F", (4, 4)), "image: floating-point pixels"),
    ],
)
def test_bad_image(recognizer, image, message):
    with pytest.raises(ImageError, match=message):
        recognizer.read(image)


def test_bad_image_among_others(recognizer):
    images = [picture(0), b"no image", picture(1), 7, None]
    with pytest.raises(ImageError, match="image 1: not a readable image file"):
        recognizer.read(images)
    first, broken, second, number, nothing = recognizer.read(images, errors="return")
    assert same(first, recognizer.read(picture(0))) and same(second, recognizer.read(picture(1)))
    assert isinstance(broken, ImageError) and broken.name == "image 1"
    assert str(number) == "image 3: int; expected a path, bytes, a PIL image or an array"
    assert isinstance(nothing, ImageError)
    assert all(isinstance(e, ImageError) for e in recognizer.read([b"", b""], errors="return"))
    with pytest.raises(ValueError, match="errors is 'ignore'"):
        recognizer.read(images, errors="ignore")


def test_empty_folder(recognizer, tmp_path):
    with pytest.raises(ValueError, match="has no image files"):
        recognizer.read(tmp_path)


def test_says_where_it_runs(tiny_model, capsys):
    Recognizer(tiny_model)
    output = capsys.readouterr()
    assert output.out == "" and str(tiny_model) in output.err and "float32" in output.err
    assert "normalization checkpoint (mean 0.4815" in output.err
    Recognizer(tiny_model, quiet=True)
    assert capsys.readouterr().err == ""


def test_of_several_pictures_of_a_word_the_likeliest_reading_counts(tiny_model, tmp_path):
    margins, images = (0.0, -0.2, 0.3), [picture(n) for n in range(6)]
    each = [Recognizer(tiny_model, batch_size=4, views=(margin,), quiet=True).read(images) for margin in margins]
    best = [max(readings, key=lambda reading: reading.confidence) for readings in zip(*each, strict=True)]
    assert not all(map(same, best, each[0]))
    several = Recognizer(tiny_model, batch_size=4, views=margins, quiet=True)
    assert all(map(same, several.read(images), best))

    model = shutil.copytree(tiny_model, tmp_path / "model")
    config = json.loads((model / "config.json").read_text())
    config["inference"] = {"views": margins}
    (model / "config.json").write_text(json.dumps(config))
    assert all(map(same, Recognizer(model, batch_size=4, quiet=True).read(images), best))
    assert all(map(same, Recognizer(model, batch_size=4, views=(0,), quiet=True).read(images), each[0]))


def test_of_both_branches_the_likelier_reading_counts(tiny_model, tmp_path):
    model = shutil.copytree(tiny_model, tmp_path / "model")
    config = json.loads((model / "config.json").read_text())
    config["inference"] = {"branches": "both"}
    (model / "config.json").write_text(json.dumps(config))
    recognizer, images = Recognizer(model, views=(0, 0.3), quiet=True), [picture(n) for n in range(6)]
    read = recognizer.read(images)

    task, variables = recognizer.model.network, recognizer.model.contents.variables
    seen = np.concatenate([CropViews(task.config.clip.image_size, (0, 0.3))(image) for image in images])
    decoded = jax.jit(lambda v, x: decode(task.model, v, task.normalize(x)))(variables, seen)
    branches = [
        words(task.tokenizer, Prediction(logits.argmax(-1), jax.nn.softmax(logits).max(-1)))
        for logits in (decoded.visual[-1], decoded.cross[-1])
    ]
    for i, reading in enumerate(read):
        hypotheses = [branch[2 * i + view] for branch in branches for view in (0, 1)]
        best = max(hypotheses, key=lambda word: word.confidence)
        assert (reading.text, reading.confidence) == (best.text, pytest.approx(best.confidence, rel=1e-4))
    crossed = Recognizer(tiny_model, views=(0, 0.3), quiet=True).read(images)
    assert not all(map(same, read, crossed))


def test_a_known_word_takes_the_place_of_an_unsure_reading(tiny_model, monkeypatch):
    """As tests/recognition/test_words.py computes by hand; here, what of it a user sees and can change."""
    ids = np.zeros((1, 1, 8, 3), int)
    probabilities = np.zeros(ids.shape)
    ids[0, 0, :5, 0] = CharsetTokenizer(CHARSET_94).encode(["Stcp"], 4)[0, 1:]
    ids[0, 0, 2, 1] = CHARSET_94.index("o") + 1
    probabilities[..., 0], probabilities[0, 0, 2] = 1, (0.6, 0.3, 0.1)

    def read(**options):
        recognizer = Recognizer(tiny_model, quiet=True, **options)
        monkeypatch.setattr(recognizer, "_predict", lambda *_: Prediction(ids, probabilities))
        return recognizer.read(picture(0))

    reading = read(dictionary_prior=8)
    assert (reading.text, reading.raw_text, reading.confidence) == ("Stop", "Stcp", 0.3)
    assert reading.char_confidences == (1, 1, 0.3, 1)
    assert (read().text, read(dictionary_prior=1).text, read(dictionary_prior=1.5).text) == ("Stcp",) * 3
    reading = read(dictionary_prior=8, on_disallowed="drop", allow="a-z")
    assert (reading.text, reading.raw_text) == ("top", "Stcp")


def test_a_lexicon_is_the_only_dictionary():
    assert Recognizer(quiet=True).model.network.dictionary_prior is not None
    assert Recognizer(quiet=True, lexicon=["Stop"]).model.network.dictionary_prior is None
    assert Recognizer(quiet=True, lexicon=["Stop"], dictionary_prior=8).model.network.dictionary_prior is not None


def test_normalization_and_dtype(tiny_model, recognizer):
    half = Recognizer(tiny_model, batch_size=4, normalization="half", dtype="bfloat16", quiet=True)
    assert half.model.network.mean == half.model.network.std == MEAN_STD_0_5
    assert half.model.dtype == "bfloat16"
    images = [picture(n) for n in range(4)]
    assert not all(map(same, half.read(images), recognizer.read(images)))


@pytest.mark.parametrize(
    "options, message",
    [
        ({"normalization": "clip"}, "normalization is 'clip'; expected one of checkpoint, half"),
        ({"dtype": "float16"}, "dtype is 'float16'; expected one of auto, float32, bfloat16"),
        ({"batch_size": 0}, "batch_size is 0"),
        ({"dictionary_prior": 0.5}, "^dictionary_prior is 0.5; expected at least 1"),
        ({"views": (0, -0.5)}, r"^views are \(0, -0.5\); expected margins above -0.5"),
    ],
)
def test_bad_options(tiny_model, options, message):
    with pytest.raises(ValueError, match=message):
        Recognizer(tiny_model, **options)


def test_find_model(tiny_model, tmp_path):
    assert find_model(tiny_model) == tiny_model
    run = tmp_path / "run"
    shutil.copytree(tiny_model, run / "last")
    (run / "config.json").write_text("{}")  # of the training run
    assert find_model(run) == run / "last"
    shutil.copytree(tiny_model, run / "best")
    assert find_model(str(run)) == run / "best"


def test_no_model(tmp_path):
    with pytest.raises(FileNotFoundError, match="nowhere does not exist; expected a model directory"):
        find_model(tmp_path / "nowhere")
    with pytest.raises(FileNotFoundError, match="has no config.json and weights.safetensors"):
        find_model(tmp_path)
    (tmp_path / "model.ckpt").write_bytes(b"")
    with pytest.raises(FileNotFoundError, match="is a file; .* converted with `tcm-jax convert`"):
        find_model(tmp_path / "model.ckpt")


@pytest.mark.parametrize(
    "change, message",
    [
        (lambda c: c | {"task": "clip"}, "is a model for 'clip'"),
        (lambda c: c | {"preprocessing": {}}, "config.json describes no model for recognition: 'mean'"),
        (lambda c: c | {"model": c["model"] | {"charsett": "ab"}}, "did you mean 'charset'"),
        (
            lambda c: c | {"model": c["model"] | {"charset": "ab"}},
            "cross_decoder/head/bias has shape .95,., but",
        ),
        (lambda c: c | {"model": c["model"] | {"decoder_depth": 2}}, "has shape None, but"),
        (lambda c: c | {"format": "other"}, "format is 'other'"),
        (
            lambda c: c | {"inference": {"views": ["a"]}},
            "config.json describes no model for recognition: views are",
        ),
    ],
)
def test_broken_model(tiny_model, tmp_path, change, message):
    model = tmp_path / "model"
    shutil.copytree(tiny_model, model)
    config = json.loads((model / "config.json").read_text())
    (model / "config.json").write_text(json.dumps(change(config)))
    with pytest.raises(ValueError, match=message):
        load_recognizer(model, ReadingOptions())


def test_caption_charset(tiny_model):
    assert load_recognizer(tiny_model, ReadingOptions(caption_charset="abc")).network.config.caption_charset == "abc"
    assert load_recognizer(tiny_model, ReadingOptions()).contents.source == load(tiny_model).source


def test_import_is_light():
    """Neither the package nor its classes load what they do not need."""
    code = """if True:
        import sys
        import tcm_jax
        assert not {"jax", "flax", "PIL"} & set(sys.modules)
        from tcm_jax import Detector, Recognizer, Spotter
        heavy = {"torch", "tensorflow", "apache_beam", "orbax", "grain", "tcm_jax.render"} & set(sys.modules)
        assert not heavy, heavy
    """
    subprocess.run([sys.executable, "-c", code], check=True)
    assert tcm_jax.__version__
    with pytest.raises(AttributeError, match="no attribute 'Reader'"):
        _ = tcm_jax.Reader
