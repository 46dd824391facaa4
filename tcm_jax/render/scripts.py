"""What differs between scripts when words are rendered: capitals, marks, and letters that depend on others."""

import re
import unicodedata

_TONOS = "\u0301"
_DIALYTIKA = "\u0308"
_TURNED = ("R", "AL")  # bidirectional classes of letters that run from right to left
# Scripts whose letters change their shape or place beside others. The renderer sets one glyph for each character.
_JOINED = frozenset(
    [
        "DEVANAGARI",
        "BENGALI",
        "GURMUKHI",
        "GUJARATI",
        "ORIYA",
        "TAMIL",
        "TELUGU",
        "KANNADA",
        "MALAYALAM",
        "SINHALA",
        "KHMER",
        "MYANMAR",
        "TIBETAN",
        "JAVANESE",
        "BALINESE",
        "MONGOLIAN",
    ]
)


def capitals(text: str, charset: str = "") -> str:
    """`text` in capitals as signs have it.

    Greek capitals lose the tonos, and "άι" becomes "ΑΪ". With "İ" in the charset, "i" becomes that, as in Turkish. "ß"
    becomes "ẞ" if the charset has it, else "SS".
    """
    if text.isascii() and "İ" not in charset:
        return text.upper()
    if "İ" in charset:
        text = text.replace("i", "İ")
    if "ẞ" in charset:
        text = text.replace("ß", "ẞ")
    marked = unicodedata.normalize("NFD", text.upper())
    marked = re.sub(f"([ΑΕΟ]){_TONOS}([ΙΥ])(?!{_DIALYTIKA})", rf"\1\2{_DIALYTIKA}", marked)
    marked = re.sub(f"([Α-Ω]{_DIALYTIKA}?){_TONOS}", r"\1", marked)
    return unicodedata.normalize("NFC", marked)


def needs_layout(character: str) -> bool:
    """True for letters and marks that the renderer would draw wrongly: from right to left, or joined to others."""
    if character.isascii() or character.isdecimal():
        return False
    return unicodedata.bidirectional(character) in _TURNED or unicodedata.name(character, "").split(" ")[0] in _JOINED


def has_marks(text: str) -> bool:
    """True if `text` has combining marks, which belong to the character before them."""
    return not text.isascii() and any(unicodedata.category(c)[0] == "M" for c in text)


def without_marks(text: str) -> str:
    """`text` without accents and other marks: the tonos that capitals lose, the points of an "ä"."""
    if text.isascii():
        return text
    marked = unicodedata.normalize("NFD", text)
    return unicodedata.normalize("NFC", "".join(c for c in marked if unicodedata.category(c) != "Mn"))
