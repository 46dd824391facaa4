"""Character sets as configs and command lines name them."""

from tcm_jax.files import local_copy
from tcm_jax.text.charset import CHARSET_36, CHARSET_62, CHARSET_94

_NAMED = {"36": CHARSET_36, "62": CHARSET_62, "94": CHARSET_94}


def load_charset(spec: str) -> str:
    """The characters of a set, in the order of their token ids.

    Args:
        spec: "36", "62" or "94" for the usual Latin sets, "file:PATH" for a UTF-8 file whose characters (line
            breaks apart) are the set, or the characters themselves.

    Raises:
        ValueError: the set is empty or holds a character twice.
        OSError: the file is unreadable.
    """
    source = f"charset {spec!r}"
    if spec.startswith("file:"):
        path = local_copy(spec.removeprefix("file:"))
        source = f"charset file {path}"
        characters = "".join(path.read_text(encoding="utf-8-sig").splitlines())
    else:
        characters = _NAMED.get(spec, spec)
    if not characters:
        raise ValueError(f"{source} is empty; expected at least one character")
    if repeated := sorted({c for c in characters if characters.count(c) > 1}):
        raise ValueError(f"{source} holds {''.join(repeated)!r} more than once")
    return characters
