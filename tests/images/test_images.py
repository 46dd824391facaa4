import io
import pickle
import struct
import zlib

import numpy as np
import pytest
from PIL import Image

from tcm_jax.images.decoding import (
    CLIP_MEAN,
    CLIP_STD,
    MEAN_STD_0_5,
    ImageError,
    decode,
    encode_png,
    image_size,
    resize,
)

# Top row red, green; bottom row blue, white.
PIXELS = np.array([[[255, 0, 0], [0, 255, 0]], [[0, 0, 255], [255, 255, 255]]], np.uint8)


def file_of(image: Image.Image, form: str = "PNG", **options) -> bytes:
    file = io.BytesIO()
    image.save(file, form, **options)
    return file.getvalue()


def png_header(width: int, height: int) -> bytes:
    """A PNG file that promises `width` x `height` pixels and holds none."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    size = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", size) + chunk(b"IDAT", zlib.compress(b"")) + chunk(b"IEND", b"")


@pytest.mark.parametrize("form", ["PNG", "BMP", "TIFF", "PPM"])
def test_lossless_files_give_their_pixels(form):
    np.testing.assert_array_equal(decode(file_of(Image.fromarray(PIXELS), form)), PIXELS)
    assert image_size(file_of(Image.fromarray(PIXELS), form)) == (2, 2)


def test_arrays_become_rgb():
    gray = PIXELS[:, :, 0]
    for image in (gray, gray[:, :, None]):
        np.testing.assert_array_equal(decode(image), np.stack([gray] * 3, axis=2))
    rgba = np.concatenate([PIXELS, np.zeros((2, 2, 1), np.uint8)], axis=2)
    np.testing.assert_array_equal(decode(rgba), PIXELS)


def test_other_modes_become_rgb():
    picture = Image.fromarray(PIXELS)
    np.testing.assert_array_equal(decode(file_of(picture.quantize(4))), PIXELS)  # palette
    clear = picture.convert("RGBA")
    clear.putalpha(0)
    np.testing.assert_array_equal(decode(file_of(clear)), PIXELS)  # the colours under the transparency
    assert decode(file_of(picture.convert("CMYK"), "JPEG")).shape == (2, 2, 3)
    assert decode(file_of(picture.convert("1"))).tolist()[1][1] == [255, 255, 255]


def test_sixteen_bits_are_scaled_and_not_clipped():
    deep = Image.fromarray(np.array([[0, 256, 32768, 65535]], np.uint16))
    assert decode(file_of(deep))[0, :, 0].tolist() == [0, 1, 128, 255]


def test_an_animation_is_its_first_frame():
    frames = [Image.new("RGB", (4, 4), colour) for colour in ("red", "blue")]
    animated = file_of(frames[0], "GIF", save_all=True, append_images=frames[1:])
    assert decode(animated)[0, 0].tolist() == [255, 0, 0]


def test_the_exif_orientation_is_not_applied():
    exif = Image.Exif()
    exif[0x0112] = 6  # "rotate by 90 degrees to view"
    assert decode(file_of(Image.new("RGB", (8, 4)), "JPEG", exif=exif)).shape == (4, 8, 3)


@pytest.mark.parametrize(
    ("data", "problem"),
    [
        (b"", "empty file"),
        (b"not an image", "not a readable image"),
        (file_of(Image.fromarray(np.zeros((64, 64, 3), np.uint8)), "JPEG")[:-60], "truncated"),
        (file_of(Image.fromarray(PIXELS))[:50], "truncated"),
        (png_header(20_000, 20_000), "more than 80,000,000 pixels"),
        (png_header(9_000, 9_000), "9000 x 9000 is more than 80,000,000 pixels"),
        (png_header(0, 10), "image"),
        (file_of(Image.new("F", (2, 2)), "TIFF"), "floating-point"),
        (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 10 10\n", "not a readable image"),
        (np.zeros((0, 5, 3), np.uint8), "no pixels"),
        (np.zeros((5, 5, 2), np.uint8), "expected uint8"),
        (np.zeros((5, 5, 3), np.float32), "float32"),
    ],
)
def test_what_is_no_image_is_named(data, problem):
    with pytest.raises(ImageError, match="^set:7: .*" + problem) as caught:
        decode(data, "set:7")
    assert caught.value.name == "set:7"
    assert str(pickle.loads(pickle.dumps(caught.value))) == str(caught.value)  # workers send it to the main process


def test_encoded_pixels_come_back():
    np.testing.assert_array_equal(decode(encode_png(PIXELS)), PIXELS)


def test_resize_and_normalization_equal_the_reference(golden):
    inputs = np.load(golden / "preprocess" / "inputs.npz")
    outputs = np.load(golden / "preprocess" / "outputs.npz")
    compared = 0
    for key in outputs:
        if key.startswith("resized_pillow13"):  # the other order of the passes, which ours never is
            continue
        kind, *_, number = key.split("_")
        size = next(part for part in key.split("_") if "x" in part)
        resized = resize(inputs[f"image_{number}"], tuple(map(int, size.split("x"))))
        if kind == "resized":
            np.testing.assert_array_equal(resized, outputs[key])
        else:
            mean, std = (CLIP_MEAN, CLIP_STD) if "openai" in key else (MEAN_STD_0_5, MEAN_STD_0_5)
            step = 7 if "every7" in key else 1
            normalized = ((resized / 255 - mean) / std)[::step, ::step]
            np.testing.assert_allclose(normalized.transpose(2, 0, 1), outputs[key], atol=1e-5)
        compared += 1
    assert compared
