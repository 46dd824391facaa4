"""Cleaning and filtering of labels, with a report of everything that was dropped."""

import unicodedata
from collections import Counter
from dataclasses import dataclass, field

from tcm_jax.text.charset import CharsetAdapter

EMPTY = "with an empty label"
OUTSIDE = "with characters outside the charset only"


@dataclass(frozen=True)
class LabelFilter:
    """Maps a raw label to the label to train on, or drops it.

    In this order: white space is removed, unicode is normalized, labels over `max_length` are dropped, the
    case is folded and unknown characters are deleted (`CharsetAdapter`), and what is empty then is dropped.
    The length counts before characters are deleted, and a longer word is never truncated.
    Source: strhub/data/dataset.py (LmdbDataset._preprocess_labels) of the original.

    Attributes:
        charset: the characters to keep.
        max_length: longest label, in characters.
        remove_whitespace: delete white space; turn it off for a charset with a space.
        normalize_unicode: "ascii" decomposes (NFKD) and deletes all that is not ASCII, as the benchmarks do;
            "nfc" composes, so that an accent typed as two characters equals the one of the charset; "none"
            does nothing; "auto" is "ascii" for an ASCII charset and "nfc" for any other.
        min_image_size: drop records whose image is less wide or high than this many pixels (applied by
            `FilteredSource`, as it needs the image).

    Raises:
        ValueError: "ascii" with a charset that it would delete, "nfc" with a charset that is not NFC itself,
            or an unknown form.
    """

    charset: str
    max_length: int = 25
    remove_whitespace: bool = True
    normalize_unicode: str = "auto"
    min_image_size: int = 0
    _adapt: CharsetAdapter = field(init=False, repr=False, compare=False)
    _known: frozenset[str] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        adapt = CharsetAdapter(self.charset)
        object.__setattr__(self, "_adapt", adapt)
        object.__setattr__(self, "_known", frozenset(c for c in self.charset if adapt(c) == c))
        if self.normalize_unicode == "auto":
            object.__setattr__(self, "normalize_unicode", "ascii" if self.charset.isascii() else "nfc")
        if self.normalize_unicode not in ("ascii", "nfc", "none"):
            raise ValueError(
                f'normalize_unicode is {self.normalize_unicode!r}; expected "auto", "ascii", "nfc" or "none"'
            )
        if lost := [c for c in self.charset if self._normalize(c) != c]:
            raise ValueError(
                f"normalize_unicode={self.normalize_unicode!r} would delete {''.join(lost[:10])!r} of the "
                "charset from every label"
            )

    def __call__(self, label: str) -> tuple[str | None, str | None]:
        """The cleaned label and None, or None and the reason why the record is dropped."""
        text = self._normalize("".join(label.split()) if self.remove_whitespace else label)
        if len(text) > self.max_length:
            return None, f"longer than {self.max_length} characters"
        if not self._known.issuperset(text):
            text = self._adapt(text)
        if text:
            return text, None
        return None, OUTSIDE if label.strip() else EMPTY

    def size_problem(self, size: tuple[int, int]) -> str | None:
        """The reason to drop a record with an image of this height and width in pixels, None to keep it."""
        return f"with an image under {self.min_image_size} pixels" if min(size) < self.min_image_size else None

    def lost_characters(self, label: str) -> list[str]:
        """The characters of `label`, white space apart, of which nothing remains."""
        if self.normalize_unicode == "nfc":
            label = unicodedata.normalize("NFC", label)
        return [c for c in label if not c.isspace() and not self._adapt(self._normalize(c))]

    def _normalize(self, text: str) -> str:
        if self.normalize_unicode == "none" or text.isascii():
            return text
        if self.normalize_unicode == "nfc":
            return unicodedata.normalize("NFC", text)
        return unicodedata.normalize("NFKD", text).encode("ascii", "ignore").decode("ascii")


@dataclass
class FilterReport:
    """What a filter kept and dropped, and which characters were lost; `str()` is the report.

    Attributes:
        kept: number of records.
        dropped: number of dropped records by reason.
        outside, deleted: occurrences of lost characters in dropped and in kept labels.
    """

    kept: int = 0
    dropped: Counter[str] = field(default_factory=Counter)
    outside: Counter[str] = field(default_factory=Counter)
    deleted: Counter[str] = field(default_factory=Counter)

    def add(self, label_filter: LabelFilter, label: str, cleaned: str | None, reason: str | None) -> None:
        """Counts a record: its raw label, the label that `label_filter` made of it, and why it is dropped, if it is."""
        if reason:
            self.dropped[reason] += 1
            if reason == OUTSIDE:
                self.outside.update(label_filter.lost_characters(label))
        else:
            self.kept += 1
            if cleaned not in (label, label.lower(), label.upper()):  # else nothing is lost
                self.deleted.update(label_filter.lost_characters(label))

    def __str__(self) -> str:
        reasons = [
            f"{count:,} {reason}" + (f" (top: {_top(self.outside)})" if reason == OUTSIDE else "")
            for reason, count in self.dropped.most_common()
        ]
        text = f"kept {self.kept:,}, dropped {self.dropped.total():,}"
        if reasons:
            text += f": {', '.join(reasons)}"
        return text + (f"; deleted from kept labels: {_top(self.deleted)}" if self.deleted else "")


def _top(characters: Counter[str]) -> str:
    """The ten most frequent characters with their counts: "'é' 120, '-' 3"."""
    shown = ", ".join(f"{character!r} {count:,}" for character, count in characters.most_common(10))
    return shown + (f" and {len(characters) - 10} more" if len(characters) > 10 else "")
