"""Reading of label and annotation files, with errors that name the file and the line."""

from collections.abc import Iterator
from pathlib import Path

from tcm_jax.records import SourceError


def read_bytes(file: Path, limit: int = -1) -> bytes:
    """The first `limit` bytes of a file, -1 for all; `SourceError` if it can't be read."""
    try:
        with open(file, "rb") as opened:
            return opened.read(limit)
    except OSError as error:
        raise SourceError(f"{file} can't be read: {error.strerror}") from error


def decode_utf8(data: bytes, path: Path) -> str:
    """The text of a file, without a byte order mark; `SourceError` names the line that is not UTF-8."""
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = data[: error.start].count(b"\n") + 1
        byte = data[error.start]
        raise SourceError(f"{path}:{line}: byte 0x{byte:02x} is not UTF-8; save the file as UTF-8") from error


def text_lines(data: bytes, path: Path) -> Iterator[tuple[int, str]]:
    """Numbers, from 1, and texts of the lines that are not blank, without white space around them.

    Raises:
        SourceError: the bytes are not UTF-8.
    """
    # Not str.splitlines, which also breaks at characters that can stand in a transcription.
    for number, line in enumerate(decode_utf8(data, path).split("\n"), start=1):
        if stripped := line.strip(" \t\r\ufeff"):
            yield number, stripped
