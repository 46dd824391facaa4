import numpy as np
import pytest
from PIL import Image, ImageEnhance, ImageFilter, ImageOps

from tcm_jax.data.words import augment
from tcm_jax.data.words.augment import OPERATIONS, RandAugment

NEAREST = Image.Resampling.NEAREST


def grey(rows) -> Image.Image:
    """An RGB image whose three channels are `rows`."""
    return Image.fromarray(np.repeat(np.array(rows, np.uint8)[..., None], 3, axis=2))


def channel(image: Image.Image) -> list[list[int]]:
    """The red channel, after a check that the others are equal to it."""
    pixels = np.asarray(image)
    assert (pixels == pixels[..., :1]).all()
    return pixels[..., 0].tolist()


def noise(h: int, w: int) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (h, w, 3), np.uint8)


def test_pixel_operations_by_hand():
    ramp = grey([[0, 63, 64, 127, 128, 255]])
    assert channel(ImageOps.invert(ramp)) == [[255, 192, 191, 128, 127, 0]]
    assert channel(ImageOps.posterize(ramp, 2)) == [[0, 0, 64, 64, 128, 192]]
    assert channel(ImageOps.posterize(ramp, 1)) == [[0, 0, 0, 0, 128, 128]]
    assert channel(ImageOps.solarize(ramp, 128)) == [[0, 63, 64, 127, 127, 0]]
    assert channel(augment.solarize_add(ramp, 55)) == [[55, 118, 119, 182, 128, 255]]
    assert channel(ImageEnhance.Brightness(ramp).enhance(0.5)) == [[0, 31, 32, 63, 64, 127]]


def test_auto_contrast_stretches_to_the_whole_range():
    assert channel(ImageOps.autocontrast(grey([[50, 100, 150]]))) == [[0, 127, 255]]
    assert channel(ImageOps.autocontrast(grey([[7, 7]]))) == [[7, 7]]  # nothing to stretch


def test_equalize_flattens_a_known_histogram():
    # 256 pixels of each of four values. A step is (1024 - 256) // 255 = 3 pixels, and a value goes to
    # (3 // 2 + number of darker pixels) // 3: 0, 257 // 3, 513 // 3, 769 // 3 and at most 255.
    image = grey(np.repeat([10, 11, 12, 13], 256).reshape(32, 32))
    assert sorted({v for row in channel(ImageOps.equalize(image)) for v in row}) == [0, 85, 171, 255]


def test_contrast_and_color_move_along_the_line_to_grey():
    assert channel(ImageEnhance.Contrast(grey([[100, 200]])).enhance(0.5)) == [[125, 175]]  # the mean is 150
    assert channel(ImageEnhance.Contrast(grey([[100, 200]])).enhance(1.5)) == [[75, 225]]
    red = Image.new("RGB", (1, 1), (255, 0, 0))  # its grey is 76
    assert ImageEnhance.Color(red).enhance(0.0).getpixel((0, 0)) == (76, 76, 76)
    assert ImageEnhance.Color(red).enhance(1.0).getpixel((0, 0)) == (255, 0, 0)
    assert ImageEnhance.Color(red).enhance(0.5).getpixel((0, 0)) == (165, 38, 38)


def test_geometry_by_whole_pixels_fills_with_grey():
    image = grey([[1, 2, 3], [4, 5, 6]])
    assert channel(augment.affine(image, (1, 0, 1, 0, 1, 0), NEAREST)) == [[2, 3, 128], [5, 6, 128]]
    assert channel(augment.affine(image, (1, 0, 0, 0, 1, -1), NEAREST)) == [[128, 128, 128], [1, 2, 3]]
    # A shear moves row y by factor * (y + 1/2) pixels.
    assert channel(augment.affine(image, (1, 0.7, 0, 0, 1, 0), NEAREST)) == [[1, 2, 3], [5, 6, 128]]


def test_rotation_keeps_every_corner():
    image = grey([[1, 2, 3], [4, 5, 6]])
    assert channel(augment.rotate(image, 0, NEAREST)) == [[1, 2, 3], [4, 5, 6]]
    assert channel(augment.rotate(image, 90, NEAREST)) == [[3, 6], [2, 5], [1, 4]]
    h, w = 30, 100
    turned = augment.rotate(Image.new("RGB", (w, h), "white"), 15, Image.Resampling.BILINEAR)
    sin, cos = np.sin(np.radians(15)), np.cos(np.radians(15))
    assert abs(turned.width - (w * cos + h * sin)) <= 2
    assert abs(turned.height - (w * sin + h * cos)) <= 2
    assert turned.getpixel((0, turned.height // 3)) == (128, 128, 128)
    assert np.count_nonzero(np.asarray(turned)[..., 0] == 255) > 0.95 * w * h


def test_blur_and_noise_are_limited_by_the_size_of_the_image():
    small, wide = Image.fromarray(noise(20, 60)), Image.fromarray(noise(20, 100))
    assert augment.gaussian_blur(small, 2) == small.filter(ImageFilter.GaussianBlur(1))  # round(0.02 * 60)
    assert augment.gaussian_blur(wide, 2) == wide.filter(ImageFilter.GaussianBlur(2))

    middle = np.full((200, 200, 3), 128, np.uint8)
    change = np.asarray(augment.poisson_noise(Image.fromarray(middle), 20, np.random.default_rng(0))).astype(int) - 128
    assert (change == change[..., :1]).all()
    assert np.abs(change).mean() == pytest.approx(21, abs=0.1)  # 20, made odd
    assert np.abs(change)[..., 0].var() == pytest.approx(21, rel=0.05)
    assert (change > 0).mean() == pytest.approx(0.5, abs=0.02)
    tiny = augment.poisson_noise(Image.new("RGB", (5, 5), (128, 128, 128)), 20, np.random.default_rng(0))
    assert np.abs(np.asarray(tiny).astype(int) - 128).max() < 8  # a mean of 1


def test_strengths_at_half_level():
    class Fixed:  # a generator that always takes the positive sign
        def random(self):
            return 0.0

        def integers(self, n):
            return 0

    image, bilinear, rng = Image.fromarray(noise(40, 100)), Image.Resampling.BILINEAR, Fixed()
    expected = {
        "rotate": augment.rotate(image, 15, bilinear),
        "posterize": ImageOps.posterize(image, 2),
        "solarize": ImageOps.solarize(image, 128),
        "solarize_add": augment.solarize_add(image, 55),
        "color": ImageEnhance.Color(image).enhance(1.45),
        "contrast": ImageEnhance.Contrast(image).enhance(1.45),
        "brightness": ImageEnhance.Brightness(image).enhance(1.45),
        "shear_x": augment.affine(image, (1, 0.45, 0, 0, 1, 0), bilinear),
        "shear_y": augment.affine(image, (1, 0, 0, 0.1, 1, 0), bilinear),
        "translate_x": augment.affine(image, (1, 0, 5, 0, 1, 0), bilinear),
        "translate_y": augment.affine(image, (1, 0, 0, 0, 1, 6), bilinear),
        "gaussian_blur": augment.gaussian_blur(image, 2),
        "auto_contrast": ImageOps.autocontrast(image),
        "equalize": ImageOps.equalize(image),
        "invert": ImageOps.invert(image),
    }
    assert {*expected, "poisson_noise"} == set(OPERATIONS)
    for name, result in expected.items():
        assert OPERATIONS[name](image, 0.5, rng) == result, name


@pytest.mark.parametrize("name", OPERATIONS)
@pytest.mark.parametrize("shape", [(1, 1), (1, 9), (9, 1), (2, 3), (32, 100)])
def test_every_operation_takes_every_size(name, shape):
    for level in (0.0, 0.5, 1.0):
        result = OPERATIONS[name](Image.fromarray(noise(*shape)), level, np.random.default_rng(0))
        assert result.mode == "RGB"
        assert min(result.size) >= 1
        flat = Image.new("RGB", shape[::-1], (9, 9, 9))
        assert OPERATIONS[name](flat, level, np.random.default_rng(0)).mode == "RGB"


def test_equal_generators_give_equal_images_and_the_input_is_kept():
    image = noise(32, 100)
    kept, randaugment = image.copy(), RandAugment()
    for seed in range(50):
        first = randaugment(image, np.random.default_rng(seed))
        second = randaugment(image, np.random.default_rng(seed))
        assert first.dtype == np.uint8
        assert first.shape[2] == 3
        np.testing.assert_array_equal(first, second)
        first[:] = 0
        np.testing.assert_array_equal(image, kept)


def test_three_different_operations_each_with_probability_one_half(monkeypatch):
    calls: list[str] = []
    for name in OPERATIONS:
        monkeypatch.setitem(OPERATIONS, name, lambda image, level, rng, name=name: calls.append(name) or image)
    randaugment, rng, rounds = RandAugment(num_ops=3), np.random.default_rng(0), 4000
    counts = []
    image = noise(2, 2)
    for _ in range(rounds):
        before = len(calls)
        randaugment(image, rng)
        assert len(set(calls[before:])) == len(calls) - before  # none twice
        counts.append(len(calls) - before)
    # Binomial(3, 1/2), and every operation equally often.
    np.testing.assert_allclose(np.bincount(counts) / rounds, [1 / 8, 3 / 8, 3 / 8, 1 / 8], atol=0.03)
    for name in OPERATIONS:
        assert calls.count(name) / rounds == pytest.approx(3 / 2 / len(OPERATIONS), abs=0.02)


def test_impossible_settings():
    with pytest.raises(ValueError, match=r"num_ops 17; expected 0 .. 16"):
        RandAugment(num_ops=17)
    with pytest.raises(ValueError, match="magnitude 11"):
        RandAugment(magnitude=11)
    np.testing.assert_array_equal(RandAugment(num_ops=0)(noise(4, 5), np.random.default_rng(0)), noise(4, 5))
