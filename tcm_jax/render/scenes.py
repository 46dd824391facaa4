"""Synthetic scenes with words, rendered on the fly: training data for detectors without a download, and test data."""

import math
from pathlib import Path

import cv2
import numpy as np

from tcm_jax.records import AnnotatedImage, TextRegion
from tcm_jax.render.backdrops import backdrop
from tcm_jax.render.boards import TextBlock, WordBox, lay_out, lay_out_marks, letter_contrast, paint_text
from tcm_jax.render.clutter import clutter, shade
from tcm_jax.render.degradation import degrade
from tcm_jax.render.mounting import Projection, SceneLayout, area_of
from tcm_jax.render.random_stream import RandomStream
from tcm_jax.render.scenery import LUMA
from tcm_jax.render.vocabulary import SPLITS
from tcm_jax.render.words import fonts_and_sampler
from tcm_jax.text.charset import CHARSET_94

_MIN_EM = 9.0  # pixels; smaller words can't be read
_MIN_CONTRAST = 14.0  # grey levels between the letters and their surroundings in the finished image
_KEY = 1299709  # gives other random numbers than SyntheticWords has


class SyntheticScenes:
    """An `AnnotatedImageSource` of rendered scenes; scene i is a pure function of the arguments and i.

    Each word (or line, see `unit`) is a region. Its polygon lies tightly around the letters and has 4 points, or 8 to
    26 where the text is curved. Words that are too small or too faint to be read in the finished image have "ignore".

    Args:
        seed: a non-negative number; another seed gives other words and images.
        split: "train" or "test". The two have no word in common, ignoring case and punctuation.
        difficulty: 0 for clear upright words on calm walls to 1 for the worst photographs.
        size: number of scenes.
        image_size: height and width in pixels.
        words: minimum and maximum number of words in a scene; there are fewer where the scene is full.
        em: minimum and maximum font size in pixels, between which sizes are log-uniform; second lines may be smaller.
            By default 16 (less in small images) to a sixth of the image's shorter side.
        unit: "word" or "line": what one region is.
        font_dir: folder of further fonts (.ttf, .otf, .ttc, .woff2), searched recursively.
        word_file: file with one word per line, which replaces the built-in word list.
        listed: share of texts from the word list; the others are generated numbers, prices, codes and so on.

    Raises:
        ValueError: an argument is out of range, or no word is usable.
        OSError: the font folder or the word file is unreadable.
    """

    def __init__(
        self,
        seed: int = 0,
        split: str = "train",
        difficulty: float = 0.7,
        size: int = 1_000_000,
        image_size: tuple[int, int] = (640, 640),
        words: tuple[int, int] = (0, 16),
        em: tuple[float, float] | None = None,
        unit: str = "word",
        font_dir: str | Path | None = None,
        word_file: str | Path | None = None,
        listed: float = 0.75,
    ):
        if not 0 <= difficulty <= 1:
            raise ValueError(f"difficulty {difficulty}; expected a number of 0 .. 1")
        if not 0 <= words[0] <= words[1]:
            raise ValueError(f"words {tuple(words)}; expected the minimum and the maximum number per scene")
        if em is None:
            em = (min(16.0, min(image_size) / 12), min(image_size) / 6)
        if not 0 < em[0] <= em[1]:
            raise ValueError(f"em {tuple(em)}; expected the minimum and the maximum font size in pixels")
        if min(image_size) < 64:
            raise ValueError(f"image_size {tuple(image_size)}; expected height and width of 64 pixels or more")
        if unit not in ("word", "line"):
            raise ValueError(f'unit {unit!r}; expected "word" or "line"')
        self.seed, self.split, self.difficulty, self.size = seed, split, difficulty, size
        # Configurations and command lines give lists.
        self.image_size, self.count, self.em = (image_size[0], image_size[1]), (words[0], words[1]), (em[0], em[1])
        self.unit = unit
        self.name = f"synthetic scenes/{split}"
        self.fonts, self.words, _ = fonts_and_sampler(CHARSET_94, 25, split, font_dir, word_file, listed)

    def __len__(self) -> int:
        return self.size

    def __getitem__(self, index: int) -> AnnotatedImage:
        if not 0 <= index < self.size:
            raise IndexError(f"scene {index} of {self.size}")
        rng = RandomStream(self.seed, SPLITS.index(self.split), index, _KEY)
        clear, letters, words = self.draw(rng)
        image = _photograph(rng, clear, words, self.difficulty)
        regions = tuple(
            TextRegion(polygon, text, em < _MIN_EM or letter_contrast(image, letters, polygon) < _MIN_CONTRAST)
            for text, em, polygon in words
        )
        return AnnotatedImage(image, regions, self.image_name(index))

    def regions(self, index: int) -> tuple[TextRegion, ...]:
        """The regions of scene `index`; this renders it, since legibility is known only then."""
        return self[index].regions

    def image_name(self, index: int) -> str:
        """The name of scene `index`."""
        return f"{self.name}:{self.seed}:{index}"

    def draw(self, rng: RandomStream) -> tuple[np.ndarray, np.ndarray, list[tuple[str, float, np.ndarray]]]:
        """Draws a scene before camera effects.

        Returns:
            The image, float32 RGB [h, w, 3] in 0 .. 255; the coverage by letters, uint8 [h, w]; (text, em in pixels,
            polygon [n, 2]) of each word or line.
        """
        layout = SceneLayout(rng, self.image_size, self.difficulty)
        image = self._background(rng, layout)
        letters = np.zeros(self.image_size, np.uint8)
        found: list[tuple[str, float, np.ndarray]] = []
        wanted = rng.between(*self.count)
        for _ in range(2 * wanted):
            if len(found) >= wanted:
                break
            count = min(rng.pick((1, 1, 2, 3, 4, 6, 8)), wanted - len(found))
            found += self._add_text(rng, image, letters, layout, count, self._em(rng))
        if rng.chance(0.35 * self.difficulty):  # fine print
            found += self._add_text(rng, image, letters, layout, rng.between(2, 12), rng.uniform(4, _MIN_EM))
        for _ in range(round(rng.random() ** 2 * 10 * self.difficulty)):
            self._paint(rng, image, letters, layout, lay_out_marks(rng, self._em(rng)))
        if rng.chance(0.7):
            shade(rng, image, self.difficulty)
        return image, letters, found

    def _background(self, rng: RandomStream, layout: SceneLayout) -> np.ndarray:
        """The scene without words, float32 [h, w, 3]."""
        image = backdrop(rng, self.image_size, layout.view)
        if rng.chance(0.4):
            image = cv2.GaussianBlur(image, (0, 0), 0.3 + rng.random() ** 2 * 4)
        clutter(rng, image, round(rng.random() ** 1.5 * 16 * self.difficulty))
        if rng.chance(0.3):
            image = cv2.GaussianBlur(image, (0, 0), 0.3 + rng.random() ** 2 * 2)
        return image.astype(np.float32)

    def _em(self, rng: RandomStream) -> float:
        return self.em[0] * math.exp(rng.random() * math.log(self.em[1] / self.em[0]))

    def _add_text(
        self, rng: RandomStream, image: np.ndarray, letters: np.ndarray, layout: SceneLayout, count: int, em: float
    ) -> list[tuple[str, float, np.ndarray]]:
        """Adds a block of `count` words of font size `em` to the scene; returns its regions."""
        text = lay_out(rng, self.fonts, self.words, count, em, self.difficulty)
        return self._paint(rng, image, letters, layout, text, em / text.em)

    def _paint(
        self,
        rng: RandomStream,
        image: np.ndarray,
        letters: np.ndarray,
        layout: SceneLayout,
        text: TextBlock,
        scale: float = 1.0,
    ) -> list[tuple[str, float, np.ndarray]]:
        """Paints a block onto `image` and its coverage onto `letters` if a place is free; returns its regions."""
        h, w = text.letters.shape
        scale *= min(1.0, 0.9 * self.image_size[0] / (scale * h), 0.9 * self.image_size[1] / (scale * w))
        projection = layout.place(rng, (w, h), scale, self.difficulty)
        area = area_of(projection.outline((0, 0, w, h)), self.image_size) if projection is not None else None
        if projection is None or area is None:
            return []
        x0, y0, x1, y1 = area
        covered = image[y0:y1, x0:x1]
        around = covered.reshape(-1, 3).mean(0)
        busy = float((covered @ LUMA).std())
        warped = projection.warp(paint_text(rng, text, around, busy, self.difficulty), area)
        covered *= 1 - warped[..., 3:]
        covered += warped[..., :3]
        if text.words:
            np.maximum(letters[y0:y1, x0:x1], projection.warp(text.letters, area), out=letters[y0:y1, x0:x1])
        return [(word.text, _em_in_scene(projection, word), projection.outline(word.box)) for word in self._units(text)]

    def _units(self, text: TextBlock) -> list[WordBox]:
        if self.unit == "word":
            return list(text.words)
        lines: dict[int, list[WordBox]] = {}
        for word in text.words:
            lines.setdefault(word.line, []).append(word)
        return [_joined(line) for line in lines.values()]


def _joined(line: list[WordBox]) -> WordBox:
    boxes = np.array([word.box for word in line])
    box = (*boxes[:, :2].min(0).tolist(), *boxes[:, 2:].max(0).tolist())
    return WordBox(" ".join(word.text for word in line), box, line[0].em, line[0].line)


def _em_in_scene(projection: Projection, word: WordBox) -> float:
    """The height of the word's em in the scene, in pixels."""
    left, top, right, bottom = word.box
    x, y = (left + right) / 2, (top + bottom) / 2
    ends = projection.points(np.array([[x, y - word.em / 2], [x, y + word.em / 2]]))
    return float(np.hypot(*(ends[1] - ends[0])))


def _photograph(
    rng: RandomStream, image: np.ndarray, words: list[tuple[str, float, np.ndarray]], difficulty: float
) -> np.ndarray:
    """Camera effects and levels, uint8 [h, w, 3]; blur and noise are such that most words stay legible."""
    low, high = np.percentile(image[::7, ::7], (1, 99))
    if rng.chance(0.6):
        gain = 1 + rng.uniform(0.3, 1.0) * (min(2.0, 245 / max(high - low, 1.0)) - 1)
        image = (image - low) * gain + low * rng.uniform(0.3, 1.0)
    ems = sorted(em for _, em, _ in words)
    em = ems[len(ems) // 3] if ems else 20.0
    return degrade(rng, image, max(em, _MIN_EM), difficulty)
