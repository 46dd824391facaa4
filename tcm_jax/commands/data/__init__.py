"""Inspect, check, convert and render crops of words, and images with annotated text.

python -m tcm_jax.data check DIR --charset 94
python -m tcm_jax.data peek DIR -n 16 -o sheet.png
python -m tcm_jax.data build SRC DST --to lmdb
python -m tcm_jax.data shard SRC DST --workers 8
python -m tcm_jax.data synth -n 48 --difficulty 1 -o sheet.png
python -m tcm_jax.data synth --scenes -n 100 -o DIR
python -m tcm_jax.data tfds scene_text/icdar2015 DOWNLOADS DST

Whether a path holds words or scenes (images with polygons around their text) is recognised; an option that only one
of them has decides it.
"""

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tcm_jax.commands.command_line import command, new_parser
from tcm_jax.commands.data.common import Kind, build, check, peek, synth
from tcm_jax.commands.data.options import Command, chosen_kind, filled
from tcm_jax.commands.data.scenes import SCENES
from tcm_jax.commands.data.shard import default_workers, shard
from tcm_jax.commands.data.words import WORDS
from tcm_jax.files import as_path
from tcm_jax.records import Source, SourceError

_KINDS = {kind.name: kind for kind in (WORDS, SCENES)}


@command
def main(arguments: Sequence[str] | None = None, prog: str = "python -m tcm_jax.data") -> int:
    """Runs a command on data; returns its exit code."""
    options = _parser(prog).parse_args(arguments)
    if options.run is _tfds:
        return _tfds(options)
    chosen = chosen_kind(options)
    if options.run is synth:
        kind = _KINDS[chosen or "words"]
        return synth(kind, filled(options, kind.name))
    kind, source, problems = _open(options, [_KINDS[chosen]] if chosen else [WORDS, SCENES])
    if options.run is check:
        return check(kind, filled(options, kind.name), source, problems)
    if problems:
        raise SourceError(problems[0])
    return options.run(kind, filled(options, kind.name), source)


def _open(options: argparse.Namespace, kinds: Sequence[Kind]) -> tuple[Kind, Source[Any], list[str]]:
    """The first of `kinds` that is at `options.path`, its source, and messages about what of it is malformed.

    Raises:
        SourceError: nothing of these kinds is there.
    """
    reasons = []
    for kind in kinds:
        problems: list[str] = []
        try:
            arguments = kind.arguments(filled(options, kind.name))
            return kind, kind.open(options.path, *arguments, problems=problems), problems
        except SourceError as error:
            if len(kinds) == 1 or not options.path.exists():
                raise
            reasons.append(f"as {kind.name}: {error}")
    raise SourceError("\n".join(["nothing usable", *reasons]))


def _tfds(options: argparse.Namespace) -> int:
    """Builds a data set from its manual download, and prints what was read and what was left out."""
    try:
        from tcm_jax.data.tfds import build_tfds  # an extra, and slow to import
    except ImportError as error:
        raise ValueError(str(error)) from error
    path, summaries = build_tfds(options.name, options.manual, options.destination)
    print("\n".join([*(f"{split}: {text}" for split, text in summaries.items()), str(path)]))
    return 0


def _parser(prog: str) -> argparse.ArgumentParser:
    parser = new_parser(prog, __doc__)
    commands = parser.add_subparsers(required=True)

    command = Command(commands, "check", check, "what is in a folder, and what is wrong with it")
    command.add("path", type=_path, help="words: an LMDB, a label file, a folder of these; scenes: folder of one split")
    command.add("--limit", type=int, help="inspect this number of records only, spread evenly")
    command.add("--show", type=int, default=10, help="problems of the files to print (default: 10)")
    command.option("--draw", scenes=None, type=_path, metavar="FILE", help="scenes: write a sheet with the polygons")
    command.option("--charset", words="94", help="words: 36, 62, 94, file:PATH or the characters (default: 94)")
    command.option("--max-length", words=25, type=int, help="words: longest label (default: 25)")
    command.option("--keep-whitespace", words=False, action="store_true", help="words: keep white space in labels")
    command.option("--unicode", words="auto", help="words: auto, ascii, nfc or none (default: auto)")
    command.option("--min-image-size", words=0, type=int, help="words: smallest height and width in pixels")
    _add_scene_options(command)

    command = Command(commands, "peek", peek, "draw some records with their labels")
    command.add("path", type=_path)
    command.option("-n", words=16, scenes=12, type=int, help="number of records (default: 16 words, 12 scenes)")
    command.add("-o", "--output", type=_path, default=Path("sheet.png"), help="image file to write")
    _add_scene_options(command)

    command = Command(commands, "build", build, "copy words into an LMDB, ArrayRecord or folder, scenes into a folder")
    command.add("path", metavar="source", type=_path)
    command.add("destination", type=_path, help="new folder, or new file (ArrayRecord)")
    forms = (*sorted(WORDS.writers), *SCENES.writers)
    form_help = "form to write (default: lmdb for words; scenes, which is a labels.jsonl, for scenes)"
    command.option("--to", words="lmdb", scenes="scenes", choices=forms, help=form_help)
    _add_scene_options(command)

    command = Command(commands, "shard", shard, "convert words or scenes to ArrayRecord shards, with many processes")
    command.add("path", metavar="source", type=_path)
    command.add("more", metavar="more sources", nargs="*", type=_path, help="their records follow in this order")
    command.add("destination", type=_path, help="new folder, which gives the shards their name; or an unfinished one")
    size = command.parser.add_mutually_exclusive_group()
    size.add_argument("--shards", type=_positive, default=0, metavar="N", help="their number")
    size.add_argument("--shard-size", type=_positive, default=200, metavar="MB", help="or their size (default: 200)")
    command.add("--workers", type=_positive, default=default_workers(), help="processes (default: one for each core)")
    beam_help = "as a pipeline of Apache Beam, whose options follow, such as --runner=DataflowRunner"
    command.add("--beam", nargs=argparse.REMAINDER, metavar="OPTION", help=beam_help)
    _add_scene_options(command)

    command = Command(commands, "synth", synth, "render words or scenes: a sheet of them, or a folder with labels")
    command.option("--scenes", scenes=True, action="store_true", help="scenes instead of words")
    command.option("-n", words=48, scenes=12, type=int, help="number of images (default: 48 words, 12 scenes)")
    command.add("-o", "--output", type=_path, default=Path("sheet.png"), help="image file, or new folder (no suffix)")
    command.add("--seed", type=int, default=0)
    command.add("--split", choices=("train", "test"), default="train", help="no word is in both")
    command.option("--difficulty", words=1.0, scenes=0.7, type=float, help="0 .. 1 (default: words 1, scenes 0.7)")
    command.add("--font-dir", type=Path, help="folder of more fonts")
    command.add("--word-file", type=Path, help="one word per line, instead of the built-in list")
    command.option("--charset", words="94", help="words: as for check (default: 94)")
    command.option("--max-length", words=25, type=int, help="words: longest word (default: 25)")
    size_help, words_help = "scenes: pixels (default: 640 640)", "scenes: number in each (default: 0 16)"
    command.option("--image-size", scenes=(640, 640), type=int, nargs=2, metavar=("HEIGHT", "WIDTH"), help=size_help)
    command.option("--words", scenes=(0, 16), type=int, nargs=2, metavar=("MIN", "MAX"), help=words_help)
    command.option("--lines", scenes=False, action="store_true", help="scenes: a polygon for each line of words")

    tfds_help = "build a data set of TensorFlow Datasets from its manual download, of words or scenes"
    command = Command(commands, "tfds", _tfds, tfds_help)
    command.add("name", help="such as scene_text/icdar2015; a wrong one lists all")
    command.add("manual", type=Path, help="folder with the extracted downloads")
    command.add("destination", type=Path, help="folder of data sets")
    return parser


def _path(text: str) -> Path:
    try:
        return as_path(text)
    except OSError as error:
        raise argparse.ArgumentTypeError(str(error)) from error


def _positive(text: str) -> int:
    if (number := int(text)) < 1:
        raise argparse.ArgumentTypeError(f"{text}; expected at least 1")
    return number


def _add_scene_options(command: Command) -> None:
    """Adds the options that say where scenes and their annotations are."""
    command.option("--scenes", scenes=True, action="store_true", help="it holds scenes; don't look for words")
    command.option("--format", scenes="auto", help="scenes: of the annotations (default: auto)")
    command.option("--images", scenes="", metavar="SUB", help="scenes: folder of the images below the path")
    command.option("--annotations", scenes="", metavar="SUB", help="scenes: annotations below the path")
