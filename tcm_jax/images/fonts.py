"""Fonts for rendering and labels: files of installed font packages and of a user's folder.

Which characters a font has is found by drawing them, as Pillow exposes no character map: a character that a font
lacks is drawn as its "missing" glyph (a box, or nothing), as is U+10FFFF, which is never assigned.
"""

import functools
import importlib.util
import itertools
import math
from bisect import bisect
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import cv2
import numpy as np
from PIL import Image, ImageFont

from tcm_jax.files import local_copy

if TYPE_CHECKING:
    from tcm_jax.render.random_stream import RandomStream

PACKAGES = (
    "font_roboto",
    "font_source_serif_pro",
    "font_source_sans_pro",
    "font_caladea",
    "font_hanken_grotesk",
    "font_manrope",
    "font_fredoka_one",
    "font_amatic_sc",
    "font_intuitive",
)
SUFFIXES = (".ttf", ".otf", ".ttc", ".woff2")  # in the order of preference for one face in several files
_MISSING = chr(0x10FFFF)
_PROBE_SIZE = 32


@dataclass(frozen=True)
class Font:
    """One face of a font file.

    Attributes:
        path: the file.
        index: number of the face in the file.
        family, style: names of the face, such as "Roboto" and "Bold Italic".
        unicase: whether lower-case letters are drawn as capitals, so that an image does not show the case.
    """

    path: str
    index: int
    family: str
    style: str
    unicase: bool

    @property
    def name(self) -> str:
        """Family and style."""
        return f"{self.family} {self.style}"

    def at(self, size: int) -> ImageFont.FreeTypeFont:
        """The face with an em of `size` pixels."""
        return _open(self.path, self.index, size)

    def covers(self, text: str) -> bool:
        """Whether the font draws every character of `text`, and in its own case."""
        return all(
            (not self.unicase or c == c.upper()) and (c.isspace() or _draws(self.path, self.index, c)) for c in text
        )


@functools.lru_cache(maxsize=1024)
def _open(path: str, index: int, size: int) -> ImageFont.FreeTypeFont:
    # The basic layout: the other engine needs a library that is not always installed, and gives other pixels.
    return ImageFont.truetype(path, size, index=index, layout_engine=ImageFont.Layout.BASIC)


@functools.lru_cache(maxsize=1 << 18)
def _draws(path: str, index: int, character: str) -> bool:
    face = _open(path, index, _PROBE_SIZE)
    glyph, missing = ((mask.size, bytes(mask)) for mask in map(face.getmask, (character, _MISSING)))
    return any(glyph[1]) and glyph != missing


def _is_unicase(path: str, index: int) -> bool:
    """Whether letters whose cases differ in shape look alike in both cases, apart from size and position."""
    face = _open(path, index, 2 * _PROBE_SIZE)

    def shape(character: str) -> np.ndarray | None:
        mask = face.getmask(character)
        if not mask.getbbox():
            return None
        image = Image.frombytes("L", mask.size, bytes(mask)).crop(mask.getbbox())
        pixels = np.asarray(image.resize((24, 24), Image.Resampling.BOX), np.float32)
        return cv2.GaussianBlur(pixels, (0, 0), 2).ravel()

    pairs = [(shape(letter), shape(letter.upper())) for letter in "abdeghnqrt"]
    alike = [np.corrcoef(lower, upper)[0, 1] for lower, upper in pairs if lower is not None and upper is not None]
    return bool(alike) and bool(np.mean(alike) > 0.7)  # fonts with two cases: 0.2 to 0.6


def _faces(path: Path) -> Iterator[Font]:
    """The faces of one file. Raises OSError or ValueError if Pillow can't read it."""
    for index in itertools.count() if path.suffix.lower() == ".ttc" else (0,):
        try:
            family, style = _open(str(path), index, _PROBE_SIZE).getname()
        except OSError:
            if index:
                return  # past the last face of a collection
            raise
        yield Font(str(path), index, family or path.stem, style or "", _is_unicase(str(path), index))


def _load(paths: Iterable[Path]) -> tuple[list[Font], dict[str, str]]:
    """The different faces of the font files among `paths`, in a fixed order; file -> reason for broken files."""
    found: dict[tuple[str, str], Font] = {}
    broken: dict[str, str] = {}
    files = [path for path in paths if path.suffix.lower() in SUFFIXES]
    # Static files come before variable ones, and so replace the default instance of a variable font.
    files.sort(key=lambda p: ("variable" in p.stem.lower(), SUFFIXES.index(p.suffix.lower()), str(p)))
    for path in files:
        try:
            for font in _faces(path):
                found.setdefault((font.family, font.style), font)
        except (OSError, ValueError) as error:
            broken[str(path)] = str(error)
    return sorted(found.values(), key=lambda font: (font.name, Path(font.path).name, font.index)), broken


@functools.cache
def _packaged() -> list[Font]:
    paths: list[Path] = []
    for package in PACKAGES:
        spec = importlib.util.find_spec(package)  # finds the folder and runs no code of the package
        if spec is None or not spec.submodule_search_locations:
            name = package.replace("_", "-")
            raise ModuleNotFoundError(f"font package {name} is missing; install it with: pip install {name}")
        paths += (path for folder in spec.submodule_search_locations for path in Path(folder).rglob("*"))
    return _load(paths)[0]


class FontLibrary:
    """The fonts of the installed packages and of `font_dir`.

    A face in several files (.ttf and .otf, or a variable font beside its instances) is used once. Keep symbol fonts
    out of `font_dir`: the file does not show that their letters are symbols.

    Args:
        font_dir: folder of further fonts, searched recursively.

    Attributes:
        fonts: the usable faces.
        broken: file -> reason, for the unusable font files of `font_dir`.

    Raises:
        ModuleNotFoundError: a font package is not installed.
        FileNotFoundError: the folder `font_dir` does not exist or has no font file.
    """

    def __init__(self, font_dir: str | Path | None = None) -> None:
        self.fonts = list(_packaged())
        self.broken: dict[str, str] = {}
        if font_dir is not None:
            folder = local_copy(font_dir)
            if not folder.is_dir():
                raise FileNotFoundError(f"font folder {folder} does not exist")
            if not any(path.suffix.lower() in SUFFIXES for path in folder.rglob("*")):
                raise FileNotFoundError(f"font folder {folder} holds no {', '.join(SUFFIXES)} file")
            known = {(font.family, font.style) for font in self.fonts}
            own, self.broken = _load(folder.rglob("*"))
            self.fonts += [font for font in own if (font.family, font.style) not in known]
        families: dict[str, list[Font]] = {}
        for font in self.fonts:
            families.setdefault(font.family, []).append(font)
        self._families = list(families.values())
        # A family is weighted by the square root of its number of faces, so that one with 24 does not dominate.
        self._cumulative = np.cumsum([math.sqrt(len(faces)) for faces in self._families]).tolist()

    def covers(self, text: str) -> bool:
        """Whether some font draws all of `text`."""
        return any(font.covers(text) for font in self.fonts)

    def pick(self, rng: "RandomStream", text: str) -> Font | None:
        """A random font that draws all of `text`, or None if there is none."""
        for _ in range(8):
            faces = self._families[bisect(self._cumulative, rng.random() * self._cumulative[-1])]
            font = rng.pick(faces)
            if font.covers(text):
                return font
        covering = [font for font in self.fonts if font.covers(text)]
        return rng.pick(covering) if covering else None
