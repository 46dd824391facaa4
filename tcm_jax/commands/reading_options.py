"""The options of commands that read words: what is read of an image, which characters and words are expected."""

import argparse
from collections.abc import Callable
from typing import Any

from tcm_jax.files import as_path
from tcm_jax.text.allow_list import ON_DISALLOWED
from tcm_jax.text.lexicon import DISTANCE


def margins_option(add: Callable[..., argparse.Action]) -> argparse.Action:
    """Declares by the parser's `add` which pictures of a word are read."""
    return add(
        "--margins",
        type=float,
        nargs="+",
        metavar="X",
        help="read each image with a frame of this share of its shorter side around it, or cut off if negative, and "
        "take the likeliest reading, such as 0 -0.08 0.12; 0 alone is the image as it is (default: the model's)",
    )


def vocabulary_option(add: Callable[..., argparse.Action]) -> argparse.Action:
    """Declares by the parser's `add` how much known words are preferred."""
    return add(
        "--vocabulary-weight",
        type=float,
        metavar="X",
        help="how many times as likely as a word of CLIP's vocabulary another reading must be to be preferred; 1 "
        "prefers none (default: as the model says)",
    )


def add_reading_options(add: Callable[..., argparse.Action]) -> None:
    """Declares the options by the parser's `add`."""
    vocabulary_option(add)
    add("--allow", metavar="CHARS", help="only these characters are expected, such as 0-9A-Z (default: all)")
    add(
        "--on-disallowed",
        choices=ON_DISALLOWED,
        default="mask",
        help="mask: the model chooses among the allowed characters; drop: others are read and left out (default: mask)",
    )
    add(
        "--lexicon",
        type=as_path,
        metavar="FILE",
        help="text file of words, one in each line; the nearest one takes the place of what is read",
    )
    add(
        "--lexicon-distance",
        type=float,
        default=DISTANCE,
        metavar="X",
        help="unless more than this share of its characters differ; case doesn't count (default: 1/3)",
    )


def reading_arguments(options: argparse.Namespace) -> dict[str, Any]:
    """What the options say, as arguments of `Recognizer`."""
    names = ("vocabulary_weight", "allow", "on_disallowed", "lexicon", "lexicon_distance")
    return {name: getattr(options, name) for name in names}
