"""RandAugment for word crops: the operations and strengths that the original trains with.

Sources: strhub/data/augment.py and aa_overrides.py of the original; timm's auto_augment.py for what the
operations mean; RandAugment, https://arxiv.org/abs/1909.13719.
"""

from collections.abc import Callable

import numpy as np
from PIL import Image, ImageEnhance, ImageFilter, ImageOps

_FILL = (128, 128, 128)  # what comes into the picture from outside
_FULL = 10.0  # the magnitude at which an operation has its full strength
_PROBABILITY = 0.5  # that a chosen operation is applied
_INTERPOLATIONS = (Image.Resampling.BILINEAR, Image.Resampling.BICUBIC)

Operation = Callable[[Image.Image, float, np.random.Generator], Image.Image]


def auto_contrast(image: Image.Image) -> Image.Image:
    """Stretches every channel to 0 .. 255."""
    return ImageOps.autocontrast(image)


def equalize(image: Image.Image) -> Image.Image:
    """Flattens the histogram of every channel."""
    return ImageOps.equalize(image)


def invert(image: Image.Image) -> Image.Image:
    return ImageOps.invert(image)


def rotate(image: Image.Image, degrees: float, resample: Image.Resampling) -> Image.Image:
    """Counter-clockwise; the image grows so that no corner is cut off."""
    return image.rotate(degrees, resample=resample, expand=True, fillcolor=_FILL)


def posterize(image: Image.Image, bits: int) -> Image.Image:
    """Keeps the `bits` highest bits of every value."""
    return image.point([i & ~(0xFF >> bits) for i in range(256)] * 3)


def solarize(image: Image.Image, threshold: int) -> Image.Image:
    """Inverts the values of `threshold` and above."""
    return ImageOps.solarize(image, threshold)


def solarize_add(image: Image.Image, amount: int) -> Image.Image:
    """Adds `amount` to the values below 128."""
    return image.point([min(255, i + amount) if i < 128 else i for i in range(256)] * 3)


def color(image: Image.Image, factor: float) -> Image.Image:
    """Saturation: 0 is grey, 1 is unchanged."""
    return ImageEnhance.Color(image).enhance(factor)


def contrast(image: Image.Image, factor: float) -> Image.Image:
    """Distance from the mean grey: 0 is flat, 1 is unchanged."""
    return ImageEnhance.Contrast(image).enhance(factor)


def brightness(image: Image.Image, factor: float) -> Image.Image:
    """0 is black, 1 is unchanged."""
    return ImageEnhance.Brightness(image).enhance(factor)


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


def _enhanced(level: float, rng: np.random.Generator) -> float:
    """A factor of an enhancement: 1 changes nothing."""
    return max(0.1, 1 + _signed(0.9 * level, rng))


def _resample(rng: np.random.Generator) -> Image.Resampling:
    return _INTERPOLATIONS[int(rng.integers(2))]


# name -> (image, level in 0 .. 1, rng) -> image. Strengths are those of level 1.
OPERATIONS: dict[str, Operation] = {
    "auto_contrast": lambda image, level, rng: auto_contrast(image),
    "equalize": lambda image, level, rng: equalize(image),
    "invert": lambda image, level, rng: invert(image),
    "rotate": lambda image, level, rng: rotate(image, _signed(30 * level, rng), _resample(rng)),
    "posterize": lambda image, level, rng: posterize(image, 4 - int(4 * level)),
    "solarize": lambda image, level, rng: solarize(image, 256 - int(256 * level)),
    "solarize_add": lambda image, level, rng: solarize_add(image, int(110 * level)),
    "color": lambda image, level, rng: color(image, _enhanced(level, rng)),
    "contrast": lambda image, level, rng: contrast(image, _enhanced(level, rng)),
    "brightness": lambda image, level, rng: brightness(image, _enhanced(level, rng)),
    "shear_x": lambda image, level, rng: affine(image, (1, _signed(0.9 * level, rng), 0, 0, 1, 0), _resample(rng)),
    "shear_y": lambda image, level, rng: affine(image, (1, 0, 0, _signed(0.2 * level, rng), 1, 0), _resample(rng)),
    "translate_x": lambda image, level, rng: affine(
        image, (1, 0, _signed(0.1 * level, rng) * image.width, 0, 1, 0), _resample(rng)
    ),
    "translate_y": lambda image, level, rng: affine(
        image, (1, 0, 0, 0, 1, _signed(0.3 * level, rng) * image.height), _resample(rng)
    ),
    "gaussian_blur": lambda image, level, rng: gaussian_blur(image, 4 * level),
    "poisson_noise": lambda image, level, rng: poisson_noise(image, 40 * level, rng),
}


class RandAugment:
    """Applies `num_ops` different operations, each with probability 1/2, at `magnitude` of 10."""

    def __init__(self, num_ops: int = 3, magnitude: float = 5):
        if not 0 <= num_ops <= len(OPERATIONS):
            raise ValueError(f"num_ops {num_ops}; expected 0 .. {len(OPERATIONS)}")
        if not 0 <= magnitude <= _FULL:
            raise ValueError(f"magnitude {magnitude}; expected 0 .. {_FULL:g}")
        self.num_ops, self.level = num_ops, magnitude / _FULL
        self._operations = tuple(OPERATIONS.values())

    def __call__(self, image: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        """A changed copy of `image`, uint8 RGB [h, w, 3]; a rotation makes it larger."""
        picture = Image.fromarray(image)
        for chosen in rng.choice(len(self._operations), self.num_ops, replace=False):
            if rng.random() < _PROBABILITY:
                picture = self._operations[chosen](picture, self.level, rng)
        return np.array(picture)
