"""RandAugment for crops: the operations and strengths that the original trains with.

Sources: strhub/data/augment.py and aa_overrides.py of the original; timm's auto_augment.py for what the
operations mean; RandAugment, https://arxiv.org/abs/1909.13719.
"""

from collections.abc import Callable

import numpy as np
from PIL import Image, ImageEnhance, ImageFilter, ImageOps

_FILL = (128, 128, 128)  # pixels beyond the image
_FULL = 10.0  # the magnitude at which an operation has its full strength
_PROBABILITY = 0.5  # that a chosen operation is applied
_INTERPOLATIONS = (Image.Resampling.BILINEAR, Image.Resampling.BICUBIC)

Operation = Callable[[Image.Image, float, np.random.Generator], Image.Image]


def rotate(image: Image.Image, degrees: float, resample: Image.Resampling) -> Image.Image:
    """Counter-clockwise; the image grows so that no corner is cut off."""
    return image.rotate(degrees, resample=resample, expand=True, fillcolor=_FILL)


def solarize_add(image: Image.Image, amount: int) -> Image.Image:
    """Adds `amount` to the values below 128."""
    return image.point([min(255, i + amount) if i < 128 else i for i in range(256)] * 3)


def affine(image: Image.Image, matrix: tuple[float, ...], resample: Image.Resampling) -> Image.Image:
    """Output pixel (x, y) shows the input at (a x + b y + c, d x + e y + f), `matrix` = (a, ..., f)."""
    return image.transform(image.size, Image.Transform.AFFINE, matrix, resample=resample, fillcolor=_FILL)


def gaussian_blur(image: Image.Image, radius: float) -> Image.Image:
    """A standard deviation of `radius` pixels, at most 2 % of the longer side (or one pixel)."""
    return image.filter(ImageFilter.GaussianBlur(_limited(radius, image, 0.02)))


def poisson_noise(image: Image.Image, lam: float, rng: np.random.Generator) -> Image.Image:
    """Adds to every pixel, alike in its channels, a Poisson number of mean `lam` with a random sign.

    `lam` is at most 20 % of the longer side and is made odd.
    """
    pixels = np.asarray(image)
    noise = rng.poisson(_limited(lam, image, 0.2) | 1, pixels.shape[:2]).astype(np.int16)
    noise *= rng.integers(0, 2, noise.shape, np.int8) * 2 - 1
    return Image.fromarray(np.clip(pixels + noise[..., None], 0, 255).astype(np.uint8))


def _limited(level: float, image: Image.Image, share: float) -> int:
    return round(min(level, max(1, share * max(image.size))))


def _signed(value: float, rng: np.random.Generator) -> float:
    return -value if rng.random() > 0.5 else value


def _moved(image: Image.Image, rng: np.random.Generator, *matrix: float) -> Image.Image:
    """`affine` with a random interpolation."""
    return affine(image, matrix, _INTERPOLATIONS[int(rng.integers(2))])


def _enhanced(enhancer: Callable[[Image.Image], ImageEnhance._Enhance]) -> Operation:
    """An operation with a random factor around 1, which changes nothing."""
    return lambda image, level, rng: enhancer(image).enhance(max(0.1, 1 + _signed(0.9 * level, rng)))


# name -> (image, level in 0 .. 1, rng) -> image. Strengths are those of level 1.
OPERATIONS: dict[str, Operation] = {
    "auto_contrast": lambda image, level, rng: ImageOps.autocontrast(image),
    "equalize": lambda image, level, rng: ImageOps.equalize(image),
    "invert": lambda image, level, rng: ImageOps.invert(image),
    "rotate": lambda image, level, rng: rotate(image, _signed(30 * level, rng), _INTERPOLATIONS[int(rng.integers(2))]),
    "posterize": lambda image, level, rng: ImageOps.posterize(image, 4 - int(4 * level)),
    "solarize": lambda image, level, rng: ImageOps.solarize(image, 256 - int(256 * level)),
    "solarize_add": lambda image, level, rng: solarize_add(image, int(110 * level)),
    "color": _enhanced(ImageEnhance.Color),
    "contrast": _enhanced(ImageEnhance.Contrast),
    "brightness": _enhanced(ImageEnhance.Brightness),
    "shear_x": lambda image, level, rng: _moved(image, rng, 1, _signed(0.9 * level, rng), 0, 0, 1, 0),
    "shear_y": lambda image, level, rng: _moved(image, rng, 1, 0, 0, _signed(0.2 * level, rng), 1, 0),
    "translate_x": lambda image, level, rng: _moved(image, rng, 1, 0, _signed(0.1 * level, rng) * image.width, 0, 1, 0),
    "translate_y": lambda image, level, rng: _moved(
        image, rng, 1, 0, 0, 0, 1, _signed(0.3 * level, rng) * image.height
    ),
    "gaussian_blur": lambda image, level, rng: gaussian_blur(image, 4 * level),
    "poisson_noise": lambda image, level, rng: poisson_noise(image, 40 * level, rng),
}


class RandAugment:
    """Applies `num_ops` different operations, each with probability 1/2, at `magnitude` of 10.

    Raises:
        ValueError: more operations than there are, or a magnitude outside 0 .. 10.
    """

    def __init__(self, num_ops: int = 3, magnitude: float = 5) -> None:
        if not 0 <= num_ops <= len(OPERATIONS):
            raise ValueError(f"num_ops {num_ops}; expected 0 .. {len(OPERATIONS)}")
        if not 0 <= magnitude <= _FULL:
            raise ValueError(f"magnitude {magnitude}; expected 0 .. {_FULL:g}")
        self.num_ops, self.level = num_ops, magnitude / _FULL
        self._operations = tuple(OPERATIONS.values())

    def __call__(self, image: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        """A changed copy of `image`, uint8 RGB [h, w, 3]; a rotation makes it larger."""
        augmented = Image.fromarray(image)
        for chosen in rng.choice(len(self._operations), self.num_ops, replace=False):
            if rng.random() < _PROBABILITY:
                augmented = self._operations[chosen](augmented, self.level, rng)
        return np.array(augmented)
