"""Photos with words made on the fly: training data for detectors without a download, and unseen ones to test with."""

import math
from pathlib import Path

import cv2
import numpy as np

from tcm_jax.records import AnnotatedImage, TextRegion
from tcm_jax.render.backdrops import backdrop
from tcm_jax.render.boards import PaintedWord, Text, lay_out, lay_out_marks, paint_text, readable
from tcm_jax.render.clutter import clutter, shade
from tcm_jax.render.degradation import degrade
from tcm_jax.render.mounting import Mount, Room, area_of
from tcm_jax.render.random_stream import RandomStream
from tcm_jax.render.scenery import LUMA
from tcm_jax.render.vocabulary import SPLITS
from tcm_jax.render.words import fonts_and_words
from tcm_jax.text.charset import CHARSET_94

_LEAST_EM = 9.0  # pixels; smaller words can't be read
_LEAST_CONTRAST = 14.0  # grey levels between letters and what is around them in the finished picture
_KEY = 1299709  # keeps these draws apart from those of SyntheticWords


class SyntheticScenes:
    """A source of rendered photos; scene i is a pure function of the arguments and i.

    Each word is a region (or each line with `unit`), its polygon drawn tightly around the letters: 4 points, 8 to 26
    where the text is curved. Words that are too small or too faint to be read in the finished picture are marked
    "ignore".

    Args:
        seed: a non-negative number; another seed is another set of words and pictures.
        split: "train" or "test". No word of one is a word of the other, whatever its case and punctuation.
        difficulty: 0 for clear upright words on calm walls, 1 for the worst of photographs, and anything between.
        size: the number of scenes.
        image_size: height and width in pixels.
        words: the least and the largest number of words to place in a scene; fewer are where there is no more room.
        em: the smallest and the largest font size in pixels, between which sizes are log-uniform; second lines may be
            smaller. By default 16 (less in small pictures) to a sixth of the picture's shorter side.
        unit: "word" or "line": what one region is.
        font_dir: a folder of more fonts (.ttf, .otf, .ttc, .woff2), searched recursively.
        word_file: one word per line, to use instead of the built-in list.
        listed: the share of words of the list; the others are numbers, prices, codes, addresses and so on.

    Raises:
        ValueError: an argument is out of range, or no word can be used.
        OSError: the font folder or the word file can't be read.
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
            raise ValueError(f"words {tuple(words)}; expected the least and the largest number per scene")
        if em is None:
            em = (min(16.0, min(image_size) / 12), min(image_size) / 6)
        if not 0 < em[0] <= em[1]:
            raise ValueError(f"em {tuple(em)}; expected the smallest and the largest font size in pixels")
        if min(image_size) < 64:
            raise ValueError(f"image_size {tuple(image_size)}; expected height and width of 64 pixels or more")
        if unit not in ("word", "line"):
            raise ValueError(f'unit {unit!r}; expected "word" or "line"')
        self.seed, self.split, self.difficulty, self.size = seed, split, difficulty, size
        # Configurations and command lines give lists.
        self.image_size, self.count, self.em = (image_size[0], image_size[1]), (words[0], words[1]), (em[0], em[1])
        self.unit = unit
        self.name = f"synthetic scenes/{split}"
        self.fonts, self.words, _ = fonts_and_words(CHARSET_94, 25, split, font_dir, word_file, listed)

    def __len__(self) -> int:
        return self.size

    def __getitem__(self, index: int) -> AnnotatedImage:
        if not 0 <= index < self.size:
            raise IndexError(f"scene {index} of {self.size}")
        dice = RandomStream(self.seed, SPLITS.index(self.split), index, _KEY)
        clear, letters, words = self.draw(dice)
        image = _photographed(dice, clear, words, self.difficulty)
        regions = tuple(
            TextRegion(
                polygon,
                text,
                em < _LEAST_EM or readable(image, letters, polygon) < _LEAST_CONTRAST,
            )
            for text, em, polygon in words
        )
        return AnnotatedImage(image, regions, self.scene_name(index))

    def regions(self, index: int) -> tuple[TextRegion, ...]:
        """The regions of scene `index`; what can be read is known only once it is painted, so this paints it."""
        return self[index].regions

    def scene_name(self, index: int) -> str:
        return f"{self.name}:{self.seed}:{index}"

    def draw(self, dice: RandomStream) -> tuple[np.ndarray, np.ndarray, list[tuple[str, float, np.ndarray]]]:
        """A scene before it is photographed.

        Returns:
            The picture, float32 RGB [h, w, 3]; the coverage by letters, uint8 [h, w]; the (text, em in pixels, polygon)
            of the words or lines.
        """
        room = Room(dice, self.image_size, self.difficulty)
        picture = self._place(dice, room)
        letters = np.zeros(self.image_size, np.uint8)
        found: list[tuple[str, float, np.ndarray]] = []
        wanted = dice.between(*self.count)
        for _ in range(2 * wanted):
            if len(found) >= wanted:
                break
            count = min(dice.pick((1, 1, 2, 3, 4, 6, 8)), wanted - len(found))
            found += self._write(dice, picture, letters, room, count, self._em(dice))
        if dice.chance(0.35 * self.difficulty):  # fine print
            found += self._write(dice, picture, letters, room, dice.between(2, 12), dice.uniform(4, _LEAST_EM))
        for _ in range(round(dice.random() ** 2 * 10 * self.difficulty)):
            self._put(dice, picture, letters, room, lay_out_marks(dice, self._em(dice)))
        if dice.chance(0.7):
            shade(dice, picture, self.difficulty)
        return picture, letters, found

    def _place(self, dice: RandomStream, room: Room) -> np.ndarray:
        """What is behind the words, float32 [h, w, 3]."""
        image = backdrop(dice, self.image_size, room.view)
        if dice.chance(0.4):
            image = cv2.GaussianBlur(image, (0, 0), 0.3 + dice.random() ** 2 * 4)
        clutter(dice, image, round(dice.random() ** 1.5 * 16 * self.difficulty))
        if dice.chance(0.3):
            image = cv2.GaussianBlur(image, (0, 0), 0.3 + dice.random() ** 2 * 2)
        return image.astype(np.float32)

    def _em(self, dice: RandomStream) -> float:
        return self.em[0] * math.exp(dice.random() * math.log(self.em[1] / self.em[0]))

    def _write(self, dice, picture, letters, room, count: int, em: float) -> list[tuple[str, float, np.ndarray]]:
        """Puts a text of `count` words of size `em` into the scene, and returns its regions."""
        text = lay_out(dice, self.fonts, self.words, count, em, self.difficulty)
        return self._put(dice, picture, letters, room, text, em / text.em)

    def _put(
        self, dice: RandomStream, picture: np.ndarray, letters: np.ndarray, room: Room, text: Text, scale: float = 1.0
    ) -> list[tuple[str, float, np.ndarray]]:
        """Paints a text into the picture and its coverage where there is room, and returns its regions."""
        h, w = text.letters.shape
        scale *= min(1.0, 0.9 * self.image_size[0] / (scale * h), 0.9 * self.image_size[1] / (scale * w))
        mount = room.mount(dice, (w, h), scale, self.difficulty)
        area = area_of(mount.outline((0, 0, w, h)), self.image_size) if mount is not None else None
        if mount is None or area is None:
            return []
        x0, y0, x1, y1 = area
        there = picture[y0:y1, x0:x1]
        around = there.reshape(-1, 3).mean(0)
        busy = float((there @ LUMA).std())
        seen = mount.warp(paint_text(dice, text, around, busy, self.difficulty), area)
        there *= 1 - seen[..., 3:]
        there += seen[..., :3]
        if text.words:
            np.maximum(letters[y0:y1, x0:x1], mount.warp(text.letters, area), out=letters[y0:y1, x0:x1])
        return [(word.text, _em_seen(mount, word), mount.outline(word.box)) for word in self._units(text)]

    def _units(self, text: Text) -> list[PaintedWord]:
        if self.unit == "word":
            return list(text.words)
        lines: dict[int, list[PaintedWord]] = {}
        for word in text.words:
            lines.setdefault(word.line, []).append(word)
        return [_joined(line) for line in lines.values()]


def _joined(line: list[PaintedWord]) -> PaintedWord:
    boxes = np.array([word.box for word in line])
    box = (*boxes[:, :2].min(0).tolist(), *boxes[:, 2:].max(0).tolist())
    return PaintedWord(" ".join(word.text for word in line), box, line[0].em, line[0].line)


def _em_seen(mount: Mount, word: PaintedWord) -> float:
    """The height of the word's em in the scene, in pixels."""
    left, top, right, bottom = word.box
    x, y = (left + right) / 2, (top + bottom) / 2
    ends = mount.points(np.array([[x, y - word.em / 2], [x, y + word.em / 2]]))
    return float(np.hypot(*(ends[1] - ends[0])))


def _photographed(dice: RandomStream, picture: np.ndarray, words: list, difficulty: float) -> np.ndarray:
    """As a camera takes it, with its levels set; blur and noise are such that most words stay readable."""
    low, high = np.percentile(picture[::7, ::7], (1, 99))
    if dice.chance(0.6):
        gain = 1 + dice.uniform(0.3, 1.0) * (min(2.0, 245 / max(high - low, 1.0)) - 1)
        picture = (picture - low) * gain + low * dice.uniform(0.3, 1.0)
    ems = sorted(em for _, em, _ in words)
    em = ems[len(ems) // 3] if ems else 20.0
    return degrade(dice, picture, max(em, _LEAST_EM), difficulty)
