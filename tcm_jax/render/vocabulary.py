"""Texts of synthetic words: words of a list, and generated numbers, prices, addresses and so on."""

import itertools
import string
import unicodedata
import zlib
from bisect import bisect
from collections import Counter
from collections.abc import Callable
from pathlib import Path

from tcm_jax.files import local_copy
from tcm_jax.render.random_stream import RandomStream
from tcm_jax.render.scripts import capitals, has_marks, without_marks
from tcm_jax.text.bpe import vocabulary_words
from tcm_jax.text.charset import CharsetAdapter

SPLITS = ("train", "test")
_TEST_EVERY = 10  # one word in ten is held out
_ATTEMPTS = 60
# "#" stands for a digit, "@" for a capital.
_PHONES = ["###-####", "####-####", "(###)###-####", "+##-###-####", "########", "1-800-###-###", "##.##.##.##"]
_CODES = [
    "@#",
    "@##",
    "##@",
    "@@#",
    "@@##",
    "@@@",
    "@@@###",
    "@##-###",
    "@@-####",
    "@@@-###",
    "#@@###",
    "@#@#@#",
    "##-##",
    "@/@",
    "@@###@@",
]
_UNITS = ["st", "nd", "rd", "th", "km", "kg", "ml", "cm", "mm", "g", "W", "V", "x"]
_CENTS = (".00", ".50", ".99", ".95", ".-", "")
_HALVES = ["am", "pm", "AM", "PM", "a.m.", "p.m.", "h"]
_ENDINGS = [".com", ".com", ".com", ".org", ".net", ".de", ".co.uk", ".io", ".fr", ".cn", ".in"]
_AFTER = [".", ".", ",", ",", "!", "!", "!!", "?", ":", ":", ";", "...", "*", "'s", "'s", ")", "~"]
_BEFORE = ["#", "#", "@", "@", "&", "-", "*", "~", "=", "_", "<", ">", "(", '"']
_AROUND = ["()", "[]", '""', "''", "**", "{}", "()"]


def split_of(text: str) -> str:
    """The split that `text` belongs to, ignoring case, accents and punctuation.

    One text in ten is "test". One and two letters or digits are always "train": a model must be trained on all.
    """
    key = "".join(c for c in without_marks(text.casefold()) if c.isalnum())
    return "test" if len(key) > 2 and zlib.crc32(key.encode()) % _TEST_EVERY == 0 else "train"


def read_words(path: str | Path) -> list[str]:
    """The different words of a UTF-8 file with one per line, in the file's order, normalized to NFC.

    Raises:
        OSError, UnicodeDecodeError: the file is unreadable.
    """
    text = unicodedata.normalize("NFC", local_copy(path).read_text(encoding="utf-8-sig"))
    lines = (line.strip() for line in text.splitlines())
    return list(dict.fromkeys(line for line in lines if line))


class TextSampler:
    """Draws pairs of a text to render and its label, of one split.

    The label is the text in characters of the charset: in one case if the charset has one case, and without the
    punctuation that the charset lacks. No text has letters or digits outside the charset. Generated texts have the
    letters, digits and currencies of the charset; kinds that it can't express (dates without digits) are left out.

    Args:
        charset: the characters of the labels.
        max_length: maximum number of characters of a label.
        split: "train" or "test"; the two have no label in common, ignoring case and punctuation.
        word_file: file with one word per line, which replaces the vocabulary of CLIP's tokenizer.
        listed: share of texts that are words of the list; the others are generated.
        undrawable: characters that can't be rendered, to distinguish them from those outside the charset.

    Attributes:
        words: the words in use.
        capitals: the capitals of the charset's letters, or those of ASCII if it has none.
        singles: the letters and digits that are texts of their own: `capitals`, then those of the charset.
        dropped: number of unusable words of the list, by reason.

    Raises:
        ValueError: the split is unknown, or no word of the file is usable.
    """

    def __init__(
        self,
        charset: str,
        max_length: int,
        split: str = "train",
        word_file: str | Path | None = None,
        listed: float = 0.6,
        undrawable: str = "",
    ):
        if split not in SPLITS:
            raise ValueError(f"split {split!r}; expected one of {SPLITS}")
        self.charset, self.max_length, self.split = charset, max_length, split
        self._adapter = CharsetAdapter(charset)
        self._undrawable = frozenset(undrawable)
        letters = (capitals(c, charset) for c in charset if c.isalpha())
        self.capitals = "".join(dict.fromkeys(c for c in letters if len(c) == 1)) or string.ascii_uppercase
        self.singles = self.capitals + "".join(c for c in charset if c.isalnum() and c not in self.capitals)
        self._zeros = sorted({ord(c) - unicodedata.decimal(c) for c in charset if c.isdecimal()})
        self._currencies = [c for c in charset if unicodedata.category(c) == "Sc"]
        self.dropped: Counter[str] = Counter()
        self.words = []
        for word in vocabulary_words() if word_file is None else read_words(word_file):
            if problem := self._problem(word):
                self.dropped[problem] += 1
            else:
                self.words.append(word)
        if word_file is not None and not self.words:
            raise ValueError(f"word file {word_file} has no word for split {split!r}: {dict(self.dropped)}")
        self._listed = listed if self.words else 0.0
        rng = RandomStream(0)
        # One text in ten is "test" where both splits have the kind, so far fewer attempts find one. Only kinds that a
        # split never has, such as single letters, are left out.
        kinds = [
            (weight, generate)
            for weight, generate in _WEIGHTED
            if any(not self._problem(self._generated(generate, rng)) for _ in range(10 * _ATTEMPTS))
        ]
        self._kinds = [generate for _, generate in kinds] or [_random_characters]
        self._cumulative = list(itertools.accumulate(weight for weight, _ in kinds)) or [1.0]

    def _problem(self, text: str) -> str:
        """Why `text` is no text of this split, or ""."""
        return self._unsupported(text) or ("of the other split" if split_of(text) != self.split else "")

    def _unsupported(self, text: str) -> str:
        """Why `text` is no text of any split, or ""."""
        label = self._adapter(text)
        if text != " ".join(text.split()):
            return "white space that an image doesn't show"
        if not self._undrawable.isdisjoint(text):
            return "a character that is not rendered (no font, or right to left)"
        if has_marks(text) and (has_marks(text[0]) or text != unicodedata.normalize("NFC", text)):
            return "a combining mark without its letter"
        if not label:
            return "no character of the charset"
        if len(label) > self.max_length:
            return f"longer than {self.max_length} characters"
        if len(label) < len(text) and len(label) + sum(map(self._is_silent, text)) < len(text):
            return "a letter or digit outside the charset"
        return ""

    def _is_silent(self, character: str) -> bool:
        """Whether it is punctuation or a symbol that labels leave out."""
        return unicodedata.category(character)[0] in "PS" and not self._adapter(character)

    def draw(self, rng: RandomStream) -> tuple[str, str]:
        """Draws a text and its label.

        Raises:
            ValueError: no text of this split was found; this needs a very small charset or `max_length`.
        """
        if rng.chance(self._listed):
            return self._checked(_cased(rng, self.draw_word(rng), self.charset), rng)
        kind = bisect(self._cumulative, self._cumulative[-1] * rng.random())
        generate = self._kinds[min(kind, len(self._kinds) - 1)]
        for _ in range(_ATTEMPTS):  # all of one kind, so that both splits have the same mixture of kinds
            if not self._problem(text := self._generated(generate, rng)):
                return text, self._adapter(text)
        return self._checked(_random_characters(rng, self), rng)

    def _generated(self, generate: "Callable[[RandomStream, TextSampler], str]", rng: RandomStream) -> str:
        """A text of one kind, with digits and currencies of the charset in place of 0-9 and "$"."""
        text = generate(rng, self)
        if self._zeros not in ([], [ord("0")]):
            zero = rng.pick(self._zeros)
            text = text.translate({ord(c): zero + int(c) for c in string.digits})
        if "$" in text and self._currencies not in ([], ["$"]):
            text = text.replace("$", rng.pick(self._currencies))
        return text

    def _checked(self, text: str, rng: RandomStream) -> tuple[str, str]:
        """`text`, or random characters of the charset if it is no text of this split, with the label."""
        for _ in range(_ATTEMPTS):
            if not self._problem(text):
                return text, self._adapter(text)
            text = _random_characters(rng, self)
        raise ValueError(
            f"no text of split {self.split!r} fits charset {self.charset!r} and max_length {self.max_length}"
        )

    def draw_word(self, rng: RandomStream) -> str:
        """Draws a word of the list, earlier words more often; random characters if the list is empty."""
        if not self.words:
            return _random_characters(rng, self)
        return self.words[int(len(self.words) * rng.random() ** 1.5)]


def _cased(rng: RandomStream, word: str, charset: str) -> str:
    roll = rng.random()
    if roll < 0.4:
        return word
    if roll < 0.65:
        return word[0].upper() + word[1:]
    if roll < 0.95:
        return capitals(word, charset)
    return "".join(c.upper() if rng.chance(0.5) and len(c.upper()) == 1 else c for c in word)


def _digits(rng: RandomStream, count: int) -> str:
    return "".join(rng.pick(string.digits) for _ in range(count))


def _number(rng: RandomStream, sampler: TextSampler) -> str:
    number = _digits(rng, rng.between(1, min(8, sampler.max_length)))
    match rng.below(8):
        case 0 if len(number) > 3:
            return number[:-3] + rng.pick(",.") + number[-3:]
        case 1 if len(number) > 1:
            return number[:-1] + "." + number[-1]
        case 2:
            return number + "%"
        case 3:
            return rng.pick("#+-") + number
        case 4:
            return number + rng.pick(_UNITS)
    return number


def _price(rng: RandomStream, sampler: TextSampler) -> str:
    cents = rng.pick(_CENTS) if rng.chance(0.75) else rng.pick(".,") + _digits(rng, 2)
    amount = str(rng.below(10 ** rng.between(1, 3))) + cents
    return rng.pick(("$" + amount, amount, "$" + amount, amount + "$", "US$" + amount, "Rs." + amount))


def _date(rng: RandomStream, sampler: TextSampler) -> str:
    day, month, year = rng.between(1, 31), rng.between(1, 12), rng.between(1900, 2035)
    separator = rng.pick("/-.")
    return rng.pick(
        (
            f"{year}",
            f"{day:02}{separator}{month:02}{separator}{year}",
            f"{year}{separator}{month:02}{separator}{day:02}",
            f"{day}{separator}{month}",
            f"{month}{separator}{day}{separator}{year % 100:02}",
            f"{year}-{year % 100 + 1:02}",
            f"'{year % 100:02}",
        )
    )


def _time(rng: RandomStream, sampler: TextSampler) -> str:
    hour, minute = rng.between(0, 23), rng.pick((0, 15, 30, 45, rng.between(0, 59)))
    clock, short, half = f"{hour}:{minute:02}", hour % 12 + 1, rng.pick(_HALVES)
    return rng.pick((clock, clock.zfill(5), f"{short}{half}", f"{short}:{minute:02}{half}"))


def _phone(rng: RandomStream, sampler: TextSampler) -> str:
    return _filled(rng, rng.pick(_PHONES), sampler.capitals)


def _code(rng: RandomStream, sampler: TextSampler) -> str:
    return _filled(rng, rng.pick(_CODES), sampler.capitals)


def _filled(rng: RandomStream, pattern: str, capitals: str) -> str:
    """`pattern` with a random digit for every "#" and a random capital for every "@"."""
    fill = {"#": string.digits, "@": capitals}
    return "".join(rng.pick(fill[c]) if c in fill else c for c in pattern)


def _punctuated(rng: RandomStream, sampler: TextSampler) -> str:
    word, roll = _cased(rng, sampler.draw_word(rng), sampler.charset), rng.random()
    if roll < 0.5:
        return word + rng.pick(_AFTER)
    if roll < 0.75:
        return rng.pick(_BEFORE) + word
    pair = rng.pick(_AROUND)
    return pair[0] + word + pair[1]


def _joined(rng: RandomStream, sampler: TextSampler) -> str:
    left, right = sampler.draw_word(rng), sampler.draw_word(rng)
    joint = rng.pick(("-", "-", "-", "/", "&", "+", ".", "_", "'", "", "", ""))
    if not joint and rng.chance(0.5):
        return left.capitalize() + right.capitalize()
    return _cased(rng, left + joint + right, sampler.charset)


def _address(rng: RandomStream, sampler: TextSampler) -> str:
    name, site = sampler.draw_word(rng), sampler.draw_word(rng) + rng.pick(_ENDINGS)
    address = rng.pick((site, "www." + site, name + "@" + site, site + "/" + name))
    return capitals(address, sampler.charset) if rng.chance(0.2) else address


def _single(rng: RandomStream, sampler: TextSampler) -> str:
    """One letter or digit, which no other kind has; resized to the width of a word, it looks unlike any other."""
    return "&" if rng.chance(0.03) else rng.pick(sampler.singles)


def _random_characters(rng: RandomStream, sampler: TextSampler) -> str:
    """Any characters of the charset: the only source of rare ones, without a language context."""
    longest = sampler.max_length if rng.chance(0.3) else min(8, sampler.max_length)
    text = "".join(rng.pick(sampler.charset) for _ in range(rng.between(1, longest)))
    return text.upper() if rng.chance(0.3) else text


_WEIGHTED: tuple[tuple[float, Callable[[RandomStream, TextSampler], str]], ...] = (
    (0.16, _number),
    (0.10, _price),
    (0.08, _date),
    (0.05, _time),
    (0.06, _phone),
    (0.14, _code),
    (0.15, _punctuated),
    (0.11, _joined),
    (0.05, _address),
    (0.10, _random_characters),
    (0.12, _single),
)
