"""Decoding, encoding and resizing of images."""

import contextlib
import io

import numpy as np
from PIL import Image, ImageOps

CLIP_MEAN = (0.48145466, 0.4578275, 0.40821073)
CLIP_STD = (0.26862954, 0.26130258, 0.27577711)
MEAN_STD_0_5 = (0.5, 0.5, 0.5)  # mean and standard deviation of recognizers with other image encoders

MAX_PIXELS = 80_000_000  # larger files are refused as decompression bombs; Pillow itself only warns from 89 million
_FORMATS = ("JPEG", "PNG", "WEBP", "BMP", "GIF", "TIFF", "PPM")  # none that runs another program, as EPS does


class ImageError(ValueError):
    """The image of a record is unavailable; `name` is the record's, `problem` says why."""

    def __init__(self, name: str, problem: str) -> None:
        super().__init__(name, problem)  # both are kept in args, so the error survives pickling
        self.name = name
        self.problem = problem

    def __str__(self) -> str:
        return f"{self.name}: {self.problem}"


def decode(image: bytes | np.ndarray, name: str = "image", upright: bool = False) -> np.ndarray:
    """Decodes an image file or converts an array to uint8 RGB [h, w, 3].

    Transparency is dropped (the stored colours count), 16-bit grey is divided by 256, and an animation gives its
    first frame.

    Args:
        image: the bytes of a JPEG, PNG, WebP, BMP, GIF, TIFF or PPM file, or uint8 [h, w] or [h, w, 1] grey,
            [h, w, 3] RGB or [h, w, 4] RGBA.
        name: the image's name in errors.
        upright: rotate the image as its EXIF orientation says, as viewers do. The benchmarks, and models trained on
            them, use the pixels as they are stored, to which the annotations refer.

    Raises:
        ImageError: the file is empty, truncated, damaged or of another format, the image has no pixels, more
            than `MAX_PIXELS` pixels or floating-point pixels, or the array has another shape or type.
    """
    if isinstance(image, np.ndarray):
        return _rgb_array(image, name)
    file = _open(image, name)
    try:
        if upright:
            file.load()  # a damaged file raises here
            with contextlib.suppress(Exception):  # the image is intact where only its EXIF data are damaged
                ImageOps.exif_transpose(file, in_place=True)
        return np.array(_rgb(file, name))  # [h, w, 3]
    except ImageError:
        raise
    except Exception as error:  # decoders raise anything from OSError to struct.error on damaged files
        raise ImageError(name, f"damaged or truncated {file.format} file ({error})") from error


def image_size(image: bytes | np.ndarray, name: str = "image") -> tuple[int, int]:
    """Height and width in pixels, of a file from its header alone; raises `ImageError` as `decode` does."""
    if isinstance(image, np.ndarray):
        return _rgb_array(image, name).shape[:2]
    width, height = _open(image, name).size
    return height, width


def resize(image: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Resizes `image`, uint8 RGB [h, w, 3], to `size` = (H, W) by bicubic interpolation; its aspect ratio may change.

    Pillow rounds to 8 bits between the horizontal and the vertical pass, so their order affects the pixels. Up to
    Pillow 12 the horizontal pass always comes first, from 13 on not always; two calls fix the order.
    """
    height, width = size
    stretched = Image.fromarray(image).resize((width, image.shape[0]), Image.Resampling.BICUBIC)
    return np.array(stretched.resize((width, height), Image.Resampling.BICUBIC))  # [H, W, 3]


def encoded(image: bytes | np.ndarray) -> bytes:
    """The bytes of a record's image file: unchanged, or the PNG file of an array."""
    return image if isinstance(image, bytes) else encode_png(image)


def encode_png(image: np.ndarray) -> bytes:
    """The bytes of the PNG file of `image`, uint8 RGB [h, w, 3]."""
    file = io.BytesIO()
    Image.fromarray(image).save(file, "PNG")
    return file.getvalue()


def _open(data: bytes, name: str) -> Image.Image:
    """The image file with its header read and its size checked; pixels are read later."""
    if not data:
        raise ImageError(name, "empty file")
    try:
        file = Image.open(io.BytesIO(data), formats=_FORMATS)
    except Image.DecompressionBombError as error:
        raise ImageError(name, f"more than {MAX_PIXELS:,} pixels") from error
    except Exception as error:
        raise ImageError(name, f"not a readable image file ({len(data):,} bytes, {data[:8]!r}...)") from error
    if min(file.size) < 1:
        raise ImageError(name, f"no pixels ({file.width} x {file.height})")
    if file.width * file.height > MAX_PIXELS:
        raise ImageError(name, f"{file.width} x {file.height} is more than {MAX_PIXELS:,} pixels")
    return file


def _rgb(file: Image.Image, name: str) -> Image.Image:
    if file.mode == "RGB":
        return file
    if file.mode.startswith("I"):  # Pillow would clip to 255 instead of scaling
        pixels = np.array(file).astype(np.int64)
        if pixels.min() < 0 or pixels.max() > 65535:
            raise ImageError(name, f"pixels from {pixels.min()} to {pixels.max()}; expected 8 or 16 bits")
        return Image.fromarray((pixels >> 8).astype(np.uint8)).convert("RGB")
    if file.mode == "F":
        raise ImageError(name, "floating-point pixels have no fixed range; store 8 or 16 bit pixels")
    if file.mode == "P" and "transparency" in file.info:
        file = file.convert("RGBA")  # Pillow warns about the direct conversion
    return file.convert("RGB")


def _rgb_array(image: np.ndarray, name: str) -> np.ndarray:
    if image.dtype != np.uint8 or image.ndim not in (2, 3) or (image.ndim == 3 and image.shape[2] not in (1, 3, 4)):
        raise ImageError(name, f"array {image.dtype}{list(image.shape)}; expected uint8 [h, w, 3]")
    if image.size == 0:
        raise ImageError(name, f"no pixels, array {list(image.shape)}")
    image = np.atleast_3d(image)
    image = np.repeat(image, 3, axis=2) if image.shape[2] == 1 else image[:, :, :3]
    return np.ascontiguousarray(image)  # [h, w, 3]
