"""What the pages of the documentation consist of: shell commands, Python snippets, prose."""

import re
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).parents[1]
PAGES = [ROOT / "README.md", ROOT / "launch/README.md", *sorted((ROOT / "docs").glob("*.md"))]
FENCE = re.compile(r"^( *)```(\w*)\n(.*?)^\1```", re.M | re.S)
OURS = ("python", "tcm-jax", "make", "pip", "pytest", "sbatch", "bash")
SHELL = ("cd", "curl", "do", "done", "for", "mkdir", "rm", "sed", "source", "tar", "xargs")  # syntax is checked


class Part(NamedTuple):
    """A command (its words, separated by NUL) or a snippet; `line` is the number of its first line."""

    page: Path
    line: int
    text: str
    in_sentence: bool = False


def fences(page: Path) -> Iterator[tuple[Part, str]]:
    """Fenced blocks, and their languages."""
    text = page.read_text("utf-8")
    for match in FENCE.finditer(text):
        yield Part(page, text.count("\n", 0, match.start(3)) + 1, match[3]), match[2]


def prose(page: Path) -> str:
    """The page with its fenced blocks emptied; lines keep their numbers."""
    return FENCE.sub(lambda match: "\n" * match[0].count("\n"), page.read_text("utf-8"))


def is_command(text: str) -> bool:
    program = text.split()[0]
    return program in (*OURS, *SHELL) or program.startswith("launch/")


def shell_blocks(page: Path) -> Iterator[Part]:
    """Blocks that say so, and unmarked ones that begin with a command."""
    for part, language in fences(page):
        if language in ("sh", "bash") or (not language and is_command(part.text)):
            yield part


def commands(page: Path) -> Iterator[Part]:
    """Those of shell blocks, with continued lines joined, and inline code that is a whole command of ours."""
    for block in shell_blocks(page):
        whole, first = "", block.line
        for number, line in enumerate(block.text.splitlines(), block.line):
            first = first if whole else number
            whole += line.strip()
            if whole.endswith("\\"):
                whole = whole[:-1]
                continue
            lexer = shlex.shlex(whole, posix=True, punctuation_chars=";|&")
            lexer.whitespace_split, lexer.commenters = True, "#"
            for command in re.split(r"\0(?:;|&&|\|\|?)\0", "\0".join(lexer)):
                if command.split("\0") != [""]:
                    yield Part(page, first, command)
            whole = ""
    text = prose(page)
    for match in re.finditer(r"`([^`]+)`", text):
        if is_whole_command(match[1]):
            yield Part(page, text.count("\n", 0, match.start()) + 1, "\0".join(shlex.split(match[1])), True)


def is_whole_command(code: str) -> bool:
    """Whether inline code is more than the name of a program, and no pattern of many commands."""
    words = code.split()
    return len(words) > 1 and words[0] in OURS and not {"...", "COMMAND"} & set(words) and "NAME" not in code


def snippets(page: Path) -> Iterator[Part]:
    return (part for part, language in fences(page) if language == "python")
