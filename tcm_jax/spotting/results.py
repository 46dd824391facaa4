"""What was read in an image: words with their polygons, in lines."""

from dataclasses import dataclass
from typing import Any

import numpy as np

from tcm_jax.images import overlay

SCHEMA_VERSION = 1


@dataclass(frozen=True, eq=False)
class SpottedWord:
    """One word of an image.

    Args:
        polygon: float32 [n, 2], x and y in pixels of the image, corners outside it moved to its border.
        text: what was read.
        score: probability of the whole word, the product of `char_scores` and of the probability that it ends there.
        char_scores: one probability for each character of `text`.
        detection_score: of the polygon, 0..1.
        line: the number of its line in the image, from 0; lines and words are in reading order.
        turn: degrees, counter-clockwise, by which the word was turned to be read: 0, 90, 180 or 270.
        raw_text: what was read, where a word of the lexicon took its place; else None.
    """

    polygon: np.ndarray
    text: str
    score: float
    char_scores: tuple[float, ...]
    detection_score: float
    line: int = 0
    turn: int = 0
    raw_text: str | None = None

    def to_dict(self) -> dict[str, Any]:
        """For JSON."""
        return {
            "polygon": [[round(float(v), 2) for v in point] for point in self.polygon],
            "text": self.text,
            "score": round(self.score, 4),
            "char_scores": [round(score, 4) for score in self.char_scores],
            "detection_score": round(self.detection_score, 4),
            "line": self.line,
            "turn": self.turn,
            "raw_text": self.raw_text,
        }


@dataclass(frozen=True, eq=False)
class SpottedImage:
    """What was read in one image.

    Args:
        name: the path, or where the image stood in the input.
        width, height: of the image in pixels.
        words: in reading order.
        score_map, scale: of the detector, see `Detections`.
    """

    name: str
    width: int
    height: int
    words: tuple[SpottedWord, ...]
    score_map: np.ndarray | None = None
    scale: np.ndarray | None = None

    @property
    def texts(self) -> list[str]:
        """The words alone."""
        return [word.text for word in self.words]

    @property
    def lines(self) -> list[list[SpottedWord]]:
        """The words of each line."""
        lines: dict[int, list[SpottedWord]] = {}
        for word in self.words:
            lines.setdefault(word.line, []).append(word)
        return list(lines.values())

    @property
    def text(self) -> str:
        """Lines of words, separated by line breaks and spaces."""
        return "\n".join(" ".join(word.text for word in line) for line in self.lines)

    def to_dict(self) -> dict[str, Any]:
        """For JSON; `schema_version` changes when a key changes its meaning or goes away."""
        return {
            "schema_version": SCHEMA_VERSION,
            "image": self.name,
            "width": self.width,
            "height": self.height,
            "words": [word.to_dict() for word in self.words],
        }

    def draw(self, image: np.ndarray) -> np.ndarray:
        """A picture, uint8 RGB, of `image`, uint8 RGB [height, width, 3], with polygons and texts."""
        polygons, texts, scores = (
            [getattr(word, name) for word in self.words] for name in ("polygon", "text", "score")
        )
        return overlay.draw_words(image, polygons, texts, scores)
