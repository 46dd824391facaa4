"""Texts of the synthetic words: words of a list, and generated numbers, prices, addresses and so on."""

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
_TEST_SHARE = 10  # one word in ten is held out
_ATTEMPTS = 60
# "#" stands for a digit, "@" for a capital.
_PHONES = "###-#### ####-#### (###)###-#### +##-###-#### ######## 1-800-###-### ##.##.##.##".split()
_CODES = "@# @## ##@ @@# @@## @@@ @@@### @##-### @@-#### @@@-### #@@### @#@#@# ##-## @/@ @@###@@".split()
_UNITS = "st nd rd th km kg ml cm mm g W V x".split()
_CENTS = (".00", ".50", ".99", ".95", ".-", "")
_HALVES = "am pm AM PM a.m. p.m. h".split()
_ENDINGS = ".com .com .com .org .net .de .co.uk .io .fr .cn .in".split()
_AFTER = ". . , , ! ! !! ? : : ; ... * 's 's ) ~".split()
_BEFORE = '# # @ @ & - * ~ = _ < > ( "'.split()
_AROUND = "() [] \"\" '' ** {} ()".split()


def split_of(text: str) -> str:
    """The split that `text` belongs to, whatever its case, accents and punctuation.

    One in ten is "test". One and two letters or digits are always "train": a reader must have seen them all.
    """
    key = "".join(c for c in without_marks(text.casefold()) if c.isalnum())
    return "test" if len(key) > 2 and zlib.crc32(key.encode()) % _TEST_SHARE == 0 else "train"


def read_words(path: str | Path) -> list[str]:
    """The words of a UTF-8 file, one per line, without repetition, in the file's order, composed (NFC).

    Raises:
        OSError, UnicodeDecodeError: the file can't be read.
    """
    text = unicodedata.normalize("NFC", local_copy(path).read_text(encoding="utf-8-sig"))
    lines = (line.strip() for line in text.splitlines())
    return list(dict.fromkeys(line for line in lines if line))


class Words:
    """Draws (text to render, label) pairs of one split.

    The label is the text as the charset can say it: in one case if the set has one case, and without the
    punctuation that the set lacks. Letters and digits outside the charset are never in a text. Generated texts have
    the letters, digits and currencies of the charset; kinds that it can't say (dates without digits) are left out.

    Args:
        charset: the characters of the labels.
        max_length: of a label.
        split: "train" or "test"; no label of one is a label of the other, whatever its case and punctuation.
        word_file: one word per line, to use instead of the vocabulary of CLIP's tokenizer.
        listed: the share of texts that are words of the list; the others are generated.
        undrawable: characters that can't be rendered, to tell them from those outside the charset.

    Attributes:
        words: the words in use.
        capitals: the capitals of the charset's letters, or those of ASCII if it has none.
        singles: the letters and digits that are texts of their own: `capitals`, then those of the charset.
        dropped: reason -> number of words of the list that are not.

    Raises:
        ValueError: an unknown split, or a file none of whose words can be used.
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
        dice = RandomStream(0)
        # Of a kind that both splits have, one text in ten is "test": far fewer than this many attempts find one. What
        # is left out are kinds that a split never has, such as single letters.
        kinds = [
            (weight, generate)
            for weight, generate in _WEIGHTED
            if any(not self._problem(self._generated(generate, dice)) for _ in range(10 * _ATTEMPTS))
        ]
        self._kinds = [generate for _, generate in kinds] or [_random_characters]
        self._cumulative = list(itertools.accumulate(weight for weight, _ in kinds)) or [1.0]

    def _problem(self, text: str) -> str:
        """Why `text` can't be drawn, or ""."""
        return self._unsayable(text) or ("of the other split" if split_of(text) != self.split else "")

    def _unsayable(self, text: str) -> str:
        """Why no split can have `text`, or ""."""
        label = self._adapter(text)
        if text != " ".join(text.split()):
            return "white space that a picture doesn't show"
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
        """True for punctuation and symbols that labels leave out."""
        return unicodedata.category(character)[0] in "PS" and not self._adapter(character)

    def draw(self, dice: RandomStream) -> tuple[str, str]:
        """The next text and its label.

        Raises:
            ValueError: no text of this split was found, which needs a very small charset or length.
        """
        if dice.chance(self._listed):
            return self._checked(_cased(dice, self.word(dice), self.charset), dice)
        kind = bisect(self._cumulative, self._cumulative[-1] * dice.random())
        generate = self._kinds[min(kind, len(self._kinds) - 1)]
        for _ in range(_ATTEMPTS):  # of one kind, so that the rare split has the same mixture of kinds
            if not self._problem(text := self._generated(generate, dice)):
                return text, self._adapter(text)
        return self._checked(_random_characters(dice, self), dice)

    def _generated(self, generate: "Callable[[RandomStream, Words], str]", dice: RandomStream) -> str:
        """A text of one kind, with digits and currencies of the charset in place of 0-9 and "$"."""
        text = generate(dice, self)
        if self._zeros not in ([], [ord("0")]):
            zero = dice.pick(self._zeros)
            text = text.translate({ord(c): zero + int(c) for c in string.digits})
        if "$" in text and self._currencies not in ([], ["$"]):
            text = text.replace("$", dice.pick(self._currencies))
        return text

    def _checked(self, text: str, dice: RandomStream) -> tuple[str, str]:
        """`text`, or random characters of the charset if it can't be drawn, with the label."""
        for _ in range(_ATTEMPTS):
            if not self._problem(text):
                return text, self._adapter(text)
            text = _random_characters(dice, self)
        raise ValueError(
            f"no text of split {self.split!r} fits charset {self.charset!r} and max_length {self.max_length}"
        )

    def word(self, dice: RandomStream) -> str:
        """A word of the list, the earlier the likelier; random characters if the list is empty."""
        if not self.words:
            return _random_characters(dice, self)
        return self.words[int(len(self.words) * dice.random() ** 1.5)]


def _cased(dice: RandomStream, word: str, charset: str) -> str:
    roll = dice.random()
    if roll < 0.4:
        return word
    if roll < 0.65:
        return word[0].upper() + word[1:]
    if roll < 0.95:
        return capitals(word, charset)
    return "".join(c.upper() if dice.chance(0.5) and len(c.upper()) == 1 else c for c in word)


def _digits(dice: RandomStream, count: int) -> str:
    return "".join(dice.pick(string.digits) for _ in range(count))


def _number(dice: RandomStream, words: Words) -> str:
    number = _digits(dice, dice.between(1, min(8, words.max_length)))
    match dice.below(8):
        case 0 if len(number) > 3:
            return number[:-3] + dice.pick(",.") + number[-3:]
        case 1 if len(number) > 1:
            return number[:-1] + "." + number[-1]
        case 2:
            return number + "%"
        case 3:
            return dice.pick("#+-") + number
        case 4:
            return number + dice.pick(_UNITS)
    return number


def _price(dice: RandomStream, words: Words) -> str:
    cents = dice.pick(_CENTS) if dice.chance(0.75) else dice.pick(".,") + _digits(dice, 2)
    amount = str(dice.below(10 ** dice.between(1, 3))) + cents
    return dice.pick(("$" + amount, amount, "$" + amount, amount + "$", "US$" + amount, "Rs." + amount))


def _date(dice: RandomStream, words: Words) -> str:
    day, month, year = dice.between(1, 31), dice.between(1, 12), dice.between(1900, 2035)
    separator = dice.pick("/-.")
    return dice.pick(
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


def _time(dice: RandomStream, words: Words) -> str:
    hour, minute = dice.between(0, 23), dice.pick((0, 15, 30, 45, dice.between(0, 59)))
    clock, short, half = f"{hour}:{minute:02}", hour % 12 + 1, dice.pick(_HALVES)
    return dice.pick((clock, clock.zfill(5), f"{short}{half}", f"{short}:{minute:02}{half}"))


def _phone(dice: RandomStream, words: Words) -> str:
    return _filled(dice, dice.pick(_PHONES), words.capitals)


def _code(dice: RandomStream, words: Words) -> str:
    return _filled(dice, dice.pick(_CODES), words.capitals)


def _filled(dice: RandomStream, pattern: str, capitals: str) -> str:
    """`pattern` with a digit for every "#" and a capital for every "@"."""
    fill = {"#": string.digits, "@": capitals}
    return "".join(dice.pick(fill[c]) if c in fill else c for c in pattern)


def _punctuated(dice: RandomStream, words: Words) -> str:
    word, roll = _cased(dice, words.word(dice), words.charset), dice.random()
    if roll < 0.5:
        return word + dice.pick(_AFTER)
    if roll < 0.75:
        return dice.pick(_BEFORE) + word
    pair = dice.pick(_AROUND)
    return pair[0] + word + pair[1]


def _joined(dice: RandomStream, words: Words) -> str:
    left, right = words.word(dice), words.word(dice)
    joint = dice.pick(("-", "-", "-", "/", "&", "+", ".", "_", "'", "", "", ""))
    if not joint and dice.chance(0.5):
        return left.capitalize() + right.capitalize()
    return _cased(dice, left + joint + right, words.charset)


def _address(dice: RandomStream, words: Words) -> str:
    name, site = words.word(dice), words.word(dice) + dice.pick(_ENDINGS)
    address = dice.pick((site, "www." + site, name + "@" + site, site + "/" + name))
    return capitals(address, words.charset) if dice.chance(0.2) else address


def _single(dice: RandomStream, words: Words) -> str:
    """One letter or digit: stretched to the width of a word, it looks like nothing else."""
    return "&" if dice.chance(0.03) else dice.pick(words.singles)


def _random_characters(dice: RandomStream, words: Words) -> str:
    """Any characters of the charset: the only source of rare ones, and no word to guess from."""
    most = words.max_length if dice.chance(0.3) else min(8, words.max_length)
    text = "".join(dice.pick(words.charset) for _ in range(dice.between(1, most)))
    return text.upper() if dice.chance(0.3) else text


_WEIGHTED: tuple[tuple[float, Callable[[RandomStream, Words], str]], ...] = (
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
