"""Image files to uint8 RGB arrays, and these to what a recognizer is shown."""

import contextlib
import io
from collections.abc import Sequence

import cv2
import numpy as np
from PIL import Image, ImageOps

CLIP_MEAN = (0.48145466, 0.4578275, 0.40821073)
CLIP_STD = (0.26862954, 0.26130258, 0.27577711)
SINGLE_VIEW = (0.0,)  # the margins of a word that is shown once, as it is
MEAN_STD_0_5 = (0.5, 0.5, 0.5)  # mean and standard deviation of the recognizers that start from other image towers

MAX_PIXELS = 80_000_000  # a decompression bomb above; Pillow itself only warns from 89 million
_FORMATS = ("JPEG", "PNG", "WEBP", "BMP", "GIF", "TIFF", "PPM")  # none that runs another program, as EPS does


class ImageError(ValueError):
    """The image of a record can't be had; `name` is the record's, `problem` says why."""

    def __init__(self, name: str, problem: str):
        super().__init__(name, problem)  # both are kept in args, so the error survives pickling
        self.name = name
        self.problem = problem

    def __str__(self) -> str:
        return f"{self.name}: {self.problem}"


def decode(image: bytes | np.ndarray, name: str = "image", upright: bool = False) -> np.ndarray:
    """The pixels of an image file, or of an array, as uint8 RGB [h, w, 3].

    Transparency is dropped (the stored colours count), 16-bit gray is divided by 256, and of an animation the
    first frame is read.

    Args:
        image: the bytes of a JPEG, PNG, WebP, BMP, GIF, TIFF or PPM file, or uint8 [h, w] or
            [h, w, 1] gray, [h, w, 3] RGB or [h, w, 4] RGBA.
        name: what errors call the image.
        upright: turn the image as its EXIF orientation says, as viewers do. The benchmarks and the models
            trained on them read the pixels as they are stored, and were annotated on these.

    Raises:
        ImageError: the file is empty, truncated, damaged or of another format, the image has no pixels, more
            than `MAX_PIXELS` pixels or floating-point pixels, or the array has another shape or type.
    """
    if isinstance(image, np.ndarray):
        return _rgb_array(image, name)
    file = _open(image, name)
    try:
        return np.array(_rgb(_turned(file) if upright else file, name))  # [h, w, 3]
    except ImageError:
        raise
    except Exception as error:  # decoders raise anything from OSError to struct.error on damaged files
        raise ImageError(name, f"damaged or truncated {file.format} file ({error})") from error


def image_size(image: bytes | np.ndarray, name: str = "image") -> tuple[int, int]:
    """Height and width in pixels, of a file from its header alone; raises ImageError as `decode` does."""
    if isinstance(image, np.ndarray):
        return _rgb_array(image, name).shape[:2]
    width, height = _open(image, name).size
    return height, width


def resize(image: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """`image`, uint8 RGB [h, w, 3], stretched to `size` = (H, W) by bicubic interpolation.

    Pillow rounds to 8 bits between the horizontal and the vertical pass, so their order shows in the pixels.
    Up to Pillow 12 the horizontal pass comes first always, from 13 on not always; two calls fix the order.
    """
    height, width = size
    picture = Image.fromarray(image)
    picture = picture.resize((width, picture.height), Image.Resampling.BICUBIC)
    return np.array(picture.resize((width, height), Image.Resampling.BICUBIC))  # [H, W, 3]


def pictures(image: np.ndarray, size: tuple[int, int], margins: Sequence[float]) -> np.ndarray:
    """What a recognizer is shown of `image`, uint8 RGB [h, w, 3]: uint8 [v, H, W, 3], one `resize` for each margin."""
    return np.stack([resize(framed(image, margin), size) for margin in margins])


def framed(image: np.ndarray, margin: float) -> np.ndarray:
    """`image`, uint8 RGB [h, w, 3], with a frame that repeats its border; a negative margin is cut off.

    margin: width of the frame as a share of the shorter side, above -0.5.
    """
    width = round(margin * min(image.shape[:2]))
    if width > 0:
        return cv2.copyMakeBorder(image, width, width, width, width, cv2.BORDER_REPLICATE)
    height, length = (side + 2 * max(width, -((side - 1) // 2)) for side in image.shape[:2])  # a pixel at least
    top, left = (image.shape[0] - height) // 2, (image.shape[1] - length) // 2
    return image[top : top + height, left : left + length]


def check_margins(margins: Sequence[float]) -> None:
    """Raises ValueError unless these are margins for `pictures`."""
    several = isinstance(margins, list | tuple) and len(margins) > 0
    if not several or not all(isinstance(margin, int | float) and -0.5 < margin <= 1 for margin in margins):
        raise ValueError(f"margins are {margins!r}; expected numbers above -0.5 and up to 1, such as [0, -0.08, 0.12]")


def encoded(image: bytes | np.ndarray) -> bytes:
    """The image file of a record: its bytes as they are, an array as PNG."""
    return image if isinstance(image, bytes) else encode_png(image)


def encode_png(image: np.ndarray) -> bytes:
    """The PNG file of `image`, uint8 RGB [h, w, 3]."""
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


def _turned(file: Image.Image) -> Image.Image:
    file.load()  # a damaged file raises here
    with contextlib.suppress(Exception):  # the image is fine where only its EXIF data are not
        ImageOps.exif_transpose(file, in_place=True)
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
        return file.convert("RGBA").convert("RGB")  # Pillow warns about the direct way
    return file.convert("RGB")


def _rgb_array(image: np.ndarray, name: str) -> np.ndarray:
    if image.dtype != np.uint8 or image.ndim not in (2, 3) or (image.ndim == 3 and image.shape[2] not in (1, 3, 4)):
        raise ImageError(name, f"array {image.dtype}{list(image.shape)}; expected uint8 [h, w, 3]")
    if image.size == 0:
        raise ImageError(name, f"no pixels, array {list(image.shape)}")
    if image.ndim == 2:
        image = image[:, :, None]  # [h, w, 1]
    if image.shape[2] == 1:
        image = np.repeat(image, 3, axis=2)  # [h, w, 3]
    return np.ascontiguousarray(image[:, :, :3])  # [h, w, 3]
