"""Reading photos from Python: one and many, threads, order, options, and images that nobody would make on purpose."""

import io
import threading
from concurrent.futures import ThreadPoolExecutor

import cv2
import jax
import numpy as np
import pytest
from PIL import Image

from tcm_jax import Detector, Recognizer, SpottedImage, Spotter, compilation
from tcm_jax.images.decoding import ImageError, encode_png


def photo(number: int, height: int = 90, width: int = 120) -> np.ndarray:
    """Smooth noise, in which the random models find and read something."""
    coarse = np.random.default_rng(number).integers(0, 256, (height // 12 + 2, width // 12 + 2, 3), np.uint8)
    return cv2.resize(coarse, (width, height), interpolation=cv2.INTER_CUBIC)


@pytest.fixture(scope="module")
def spotter(tiny_detector, tiny_model):
    return Spotter(Detector(tiny_detector, quiet=True), Recognizer(tiny_model, batch_size=4, quiet=True), min_score=0)


@pytest.fixture(scope="module")
def photos():
    """Of four shapes."""
    return [photo(0), photo(4), photo(1, 120, 90), photo(2, 64, 64), photo(3, 40, 300)]


def plain(found: SpottedImage | ImageError) -> dict:
    assert isinstance(found, SpottedImage)
    return found.to_dict() | {"image": ""}


def test_a_photo(spotter, photos):
    found = spotter(photos[0])
    assert (found.name, found.width, found.height) == ("image", 120, 90)
    assert len(found.words) > 1
    for word in found.words:
        assert word.text and len(word.char_scores) == len(word.text)
        assert 0 < word.score <= 1 and 0 < word.detection_score <= 1
        assert word.polygon.min() >= 0 and (word.polygon <= (120, 90)).all()
    assert found.texts == [word.text for word in found.words]
    assert found.text.split() == found.texts
    assert [word.line for word in found.words] == sorted(word.line for word in found.words)


def test_many_photos_are_read_as_one_each(spotter, photos):
    """The words of all of them share batches of four."""
    alone = [plain(spotter(image)) for image in photos]
    assert [plain(found) for found in spotter(photos)] == alone
    assert [plain(found) for found in spotter.stream(iter(photos))] == alone
    assert len({len(one["words"]) for one in alone}) > 2


def test_photos_without_text_among_others(spotter, tiny_detector, photos):
    """Only the word that is found best counts, so that four of five photos have none."""
    scores = [max(word.detection_score for word in spotter(image).words) for image in photos]
    strict = Detector(tiny_detector, quiet=True, score_threshold=max(scores) - 1e-6)
    found = Spotter(strict, spotter.recognizer, min_score=0)([*photos, *photos])
    assert [len(one.words) for one in found] == 2 * [int(score == max(scores)) for score in scores]


def test_eight_threads_read_what_one_reads(spotter, photos):
    alone = [plain(spotter(image)) for image in photos]
    start = threading.Barrier(8)

    def read(number: int) -> bool:
        start.wait()
        order = np.random.default_rng(number).permutation(2 * len(photos)) % len(photos)
        return all(plain(spotter(photos[i])) == alone[i] for i in order)

    with ThreadPoolExecutor(8) as pool:
        assert all(pool.map(read, range(8)))


def test_folders_and_files(spotter, photos, tmp_path):
    for name, image in zip("ab", photos, strict=False):
        (tmp_path / f"{name}.png").write_bytes(encode_png(image))
    assert [found.name for found in spotter(tmp_path)] == [str(tmp_path / "a.png"), str(tmp_path / "b.png")]
    assert plain(spotter(tmp_path / "a.png")) == plain(spotter(photos[0]))


def test_a_broken_photo_stops_nothing_but_itself(spotter, photos):
    outcomes = spotter([photos[0], b"no image", photos[2]], errors="return")
    assert [isinstance(outcome, ImageError) for outcome in outcomes] == [False, True, False]
    assert outcomes[1].name == "image 1"
    stream = spotter.stream([photos[0], b"no image", photos[2]])
    assert plain(next(stream)) == plain(outcomes[0])
    with pytest.raises(ImageError, match="image 1"):
        next(stream)


def test_unlikely_words_are_left_out(spotter, photos):
    words = spotter(photos[0]).words
    middle = sorted(word.score for word in words)[len(words) // 2]
    strict = Spotter(spotter.detector, spotter.recognizer, min_score=middle)
    kept = strict(photos[0]).words
    assert {word.text for word in kept} == {word.text for word in words if word.score >= middle}
    with pytest.raises(ValueError, match="min_score is 2; expected a probability"):
        Spotter(spotter.detector, spotter.recognizer, min_score=2)


def test_expected_characters_and_words(tiny_detector, tiny_model, photos):
    """Options go to the detector or the recognizer that they belong to."""
    options = {"min_score": 0, "batch_size": 4, "scale": (128, 96)}
    spotter = Spotter.load(tiny_detector, tiny_model, allow="0-9", lexicon=["2026"], lexicon_distance=1, **options)
    assert spotter.detector.options.scales == [(128, 96)]
    words = spotter(photos[0]).words
    assert words and all(word.text == "2026" for word in words)
    assert all((word.raw_text or "2026").isdigit() for word in words)
    with pytest.raises(ValueError, match="'score_treshold' is no parameter .* did you mean 'score_threshold'"):
        Spotter.load(tiny_detector, tiny_model, score_treshold=0.5)


def test_the_first_photo_after_a_warmup_compiles_nothing(tiny_detector, tiny_model, photos, caplog):
    spotter = Spotter(
        Detector(tiny_detector, scale=(176, 88), quiet=True),
        Recognizer(tiny_model, batch_size=4, quiet=True),
        min_score=0,
    )
    spotter.detector._predict = jax.jit(spotter.detector.model.predict)  # which no other test has used
    spotter.warmup([(90, 120)])
    with jax.log_compiles(), caplog.at_level("WARNING"):
        spotter(photos[0])
        assert not [record for record in caplog.records if "Compiling" in record.getMessage()]
        spotter(photos[2])  # another shape
        assert [record for record in caplog.records if "Compiling" in record.getMessage()]


def test_programs_are_kept_where_the_user_says(monkeypatch, tmp_path):
    """A configured folder stays; an empty variable switches it off."""
    before = jax.config.jax_compilation_cache_dir
    try:
        monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
        monkeypatch.delenv(compilation.VARIABLE)
        compilation.enable_compilation_cache()
        assert jax.config.jax_compilation_cache_dir == before
        jax.config.update("jax_compilation_cache_dir", None)
        monkeypatch.setenv(compilation.VARIABLE, "")
        compilation.enable_compilation_cache()
        assert jax.config.jax_compilation_cache_dir is None
        monkeypatch.delenv(compilation.VARIABLE)
        compilation.enable_compilation_cache()
        assert jax.config.jax_compilation_cache_dir == str(tmp_path / "tcm_jax")
    finally:
        jax.config.update("jax_compilation_cache_dir", before)


def mutated(number: int) -> bytes | np.ndarray | Image.Image:
    """An odd image: damaged files, cut files, unusual modes, sizes and arrays."""
    rng = np.random.default_rng(number)
    height, width = rng.choice([1, 2, 7, 33, 64, 90]), rng.choice([1, 3, 17, 64, 120, 200])
    pixels = photo(number, int(height), int(width))
    if number % 4 == 0:
        return [pixels[..., 0], pixels[..., :1], pixels[::-1], pixels[:0], np.dstack([pixels, pixels[..., 0]])][
            number // 4 % 5
        ]
    modes = ("RGB", "L", "1", "P", "CMYK", "LA", "RGBA", "I;16", "F", "YCbCr", "HSV")
    image = Image.fromarray(pixels).convert("L" if number % 4 == 1 else "RGB")
    if number % 4 == 1:
        return image.convert(mode) if (mode := modes[number // 4 % len(modes)]) != "I;16" else image.convert("I")
    file = io.BytesIO()
    image.save(file, ("PNG", "JPEG", "WEBP", "GIF", "BMP", "TIFF")[number // 4 % 6])
    data = bytearray(file.getvalue())
    if number % 4 == 2:  # some bits flipped
        for at in rng.integers(0, len(data), rng.integers(1, 20)):
            data[at] ^= 1 << rng.integers(8)
        return bytes(data)
    return bytes(data[: rng.integers(0, len(data))])


@pytest.mark.filterwarnings("ignore::UserWarning")  # Pillow's, of damaged TIFF tags
@pytest.mark.parametrize("count", [100, pytest.param(1000, marks=pytest.mark.slow)])
def test_odd_images(spotter, count):
    """Each is read or reported by name; none ends the stream."""
    images = [mutated(number) for number in range(count)]
    outcomes = list(spotter.stream(images, errors="return"))
    assert len(outcomes) == count
    reported = [outcome for outcome in outcomes if isinstance(outcome, ImageError)]
    assert 0.2 < len(reported) / count < 0.8
    assert all(outcome.name.startswith("image ") and outcome.problem for outcome in reported)
    assert sum(len(outcome.words) for outcome in outcomes if isinstance(outcome, SpottedImage)) > 100
