"""The images that the Python API takes: paths, bytes, PIL images, arrays, and folders of files."""

import io
import os
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np
from PIL import Image, ImageOps

from tcm_jax.files import as_path, is_remote, wrap_remote_errors
from tcm_jax.images.decoding import ImageError, decode

IMAGE_SUFFIXES = (".jpg", ".jpeg", ".png", ".webp", ".bmp", ".gif", ".tif", ".tiff", ".ppm")

Input = str | os.PathLike | bytes | np.ndarray | Image.Image
Errors = Literal["raise", "return"]  # what an unreadable image does among many


def image_files(folder: str | os.PathLike) -> list[Path]:
    """The image files in `folder`, sorted by name, without subfolders.

    Raises:
        ValueError: there are none.
    """
    with wrap_remote_errors(folder):
        images = (path for path in as_path(folder).iterdir() if path.suffix.lower() in IMAGE_SUFFIXES)
        files = sorted(path for path in images if is_remote(path) or path.is_file())  # remote: a request for each
    if not files:
        raise ValueError(f"{folder} has no image files ({', '.join(IMAGE_SUFFIXES)})")
    return files


def is_single(images: Any) -> bool:
    """Whether `images` is one image, and neither a folder nor an iterable of images."""
    return isinstance(images, Input) and not _is_folder(images)


def named_images(images: Input | Iterable[Input]) -> Iterator[tuple[Input, str]]:
    """One image, the images of an iterable or the files of a folder, each with its name in results.

    Raises:
        ValueError: a folder without images.
    """
    many: Any = images
    if is_single(images):
        return iter([(many, _name(many, "image"))])
    if _is_folder(images):
        many = image_files(many)
    return ((image, _name(image, f"image {i}")) for i, image in enumerate(many))


def load_image(image: Input, name: str, upright: bool = False) -> np.ndarray:
    """Loads an image as uint8 RGB [h, w, 3]; `upright` rotates it as its EXIF orientation says.

    Raises:
        ImageError: it is unreadable; the message begins with `name`.
    """
    return decode(_content(image, name, upright), name, upright)


def check_errors(errors: str) -> None:
    """Raises ValueError unless `errors` is one of `Errors`."""
    if errors not in get_args(Errors):
        raise ValueError(f'errors is {errors!r}; expected "raise" or "return"')


def _is_folder(images: Any) -> bool:
    if not isinstance(images, str | os.PathLike):
        return False
    with wrap_remote_errors(images):
        return as_path(images).is_dir()


def _name(image: Input, otherwise: str) -> str:
    if isinstance(image, str | os.PathLike):
        return os.fspath(image)
    return getattr(image, "filename", "") or otherwise


def _content(image: Input, name: str, upright: bool) -> bytes | np.ndarray:
    """What `decode` takes."""
    if isinstance(image, bytes | np.ndarray):
        return image
    if isinstance(image, Image.Image):
        # TIFF stores all kinds of pixels without loss, so that `decode` alone converts pixels to RGB. The orientation
        # is not stored there, and Pillow would apply that of TIFF files by itself.
        file = io.BytesIO()
        try:
            (ImageOps.exif_transpose(image) if upright else image).save(file, "TIFF")
        except Exception as error:  # an image of an unusual mode, or a damaged file that is only read now
            raise ImageError(name, f"PIL image of mode {image.mode} can't be read ({error})") from error
        return file.getvalue()
    if isinstance(image, str | os.PathLike):
        try:
            with wrap_remote_errors(image):
                return as_path(image).read_bytes()
        except OSError as error:
            raise ImageError(name, error.strerror or str(error)) from error
    raise ImageError(name, f"{type(image).__name__}; expected a path, bytes, a PIL image or an array")
