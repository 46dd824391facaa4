"""Look at, check, convert and render word images, and photos with text.

python -m tcm_jax.data check DIR --charset 94
python -m tcm_jax.data peek DIR -n 16 -o sheet.png
python -m tcm_jax.data build SRC DST --to lmdb
python -m tcm_jax.data shard SRC DST --workers 8
python -m tcm_jax.data synth -n 48 --difficulty 1 -o sheet.png
python -m tcm_jax.data synth --scenes -n 100 -o DIR
python -m tcm_jax.data tfds scene_text/icdar2015 DOWNLOADS DST

Whether a path holds words or scenes (photos with polygons around their text) is recognised; giving an option that
only one of them has decides it.
"""

import argparse
import sys
from pathlib import Path

from tcm_jax.commands.command_line import command, new_parser
from tcm_jax.commands.data import scenes, tfds, words
from tcm_jax.commands.data.common import Opened
from tcm_jax.commands.data.options import Command, chosen_kind, filled
from tcm_jax.commands.data.shard import default_workers
from tcm_jax.files import as_path
from tcm_jax.records import SourceError
from tcm_jax.render.vocabulary import SPLITS

_MODULES = {"words": words, "scenes": scenes}


@command
def main(arguments: list[str] | None = None, prog: str = "python -m tcm_jax.data") -> int:
    options = _parser(prog).parse_args(arguments)
    try:
        return options.run(options)
    except (ValueError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1


def _run(options: argparse.Namespace) -> int:
    """Runs the command for the kind that the options choose, else for what the path holds."""
    kind, found = chosen_kind(options), None
    if kind is None:
        kind, found = _recognised(options) if "path" in options else ("words", None)
    run = getattr(_MODULES[kind], options.command)
    return run(filled(options, kind), found)


def _recognised(options: argparse.Namespace) -> tuple[str, Opened]:
    """The kind of what is at `options.path`, and its source; `SourceError` if it is neither."""
    reasons = []
    for kind, module in _MODULES.items():
        try:
            return kind, module.opened(filled(options, kind))
        except SourceError as error:
            if not options.path.exists():
                raise
            reasons.append(f"as {kind}: {error}")
    raise SourceError("\n".join(["nothing usable", *reasons]))


def _parser(prog: str) -> argparse.ArgumentParser:
    parser = new_parser(prog, __doc__)
    parser.set_defaults(run=_run)
    commands = parser.add_subparsers(required=True)

    command = Command(commands, "check", "what is in a folder, and what is wrong with it")
    command.add(
        "path",
        type=_path,
        help="words: an LMDB, a label file, or a folder with some at any depth; scenes: the folder of one split",
    )
    command.add("--limit", type=int, help="look at this many records only, spread evenly")
    command.add("--show", type=int, default=10, help="problems of the files to print (default: 10)")
    command.option(
        "--draw", scenes=None, type=_path, metavar="FILE", help="scenes: a sheet of photos with their polygons"
    )
    command.option("--charset", words="94", help="words: 36, 62, 94, file:PATH or the characters (default: 94)")
    command.option("--max-length", words=25, type=int, help="words: longest label (default: 25)")
    command.option("--keep-whitespace", words=False, action="store_true", help="words: keep white space in labels")
    command.option("--unicode", words="auto", help="words: auto, ascii, nfc or none (default: auto)")
    command.option("--min-image-size", words=0, type=int, help="words: smallest height and width in pixels")
    _where_scenes_are(command)

    command = Command(commands, "peek", "draw some records with their labels")
    command.add("path", type=_path)
    command.option("-n", words=16, scenes=12, type=int, help="number of records (default: 16 words, 12 scenes)")
    command.add("-o", "--output", type=_path, default=Path("sheet.png"), help="image file to write")
    _where_scenes_are(command)

    command = Command(commands, "build", "copy words into an LMDB, ArrayRecord or folder, scenes into a folder")
    command.add("path", metavar="source", type=_path)
    command.add("destination", type=_path, help="new folder, or new file (ArrayRecord)")
    command.option(
        "--to",
        words="lmdb",
        scenes="scenes",
        choices=(*sorted(words.WRITERS), *scenes.WRITERS),
        help="form to write (default: lmdb for words; scenes, which is a labels.jsonl, for scenes)",
    )
    _where_scenes_are(command)

    command = Command(commands, "shard", "convert words or scenes to a set of ArrayRecord shards, with many processes")
    command.add("path", metavar="source", type=_path)
    command.add("more", metavar="more sources", nargs="*", type=_path, help="their records follow in this order")
    command.add("destination", type=_path, help="new folder, after which the shards are called; or an unfinished one")
    size = command.parser.add_mutually_exclusive_group()
    size.add_argument("--shards", type=_positive, default=0, metavar="N", help="their number")
    size.add_argument("--shard-size", type=_positive, default=200, metavar="MB", help="or their size (default: 200)")
    command.add("--workers", type=_positive, default=default_workers(), help="processes (default: one for each core)")
    command.add(
        "--beam",
        nargs=argparse.REMAINDER,
        metavar="OPTION",
        help="as a pipeline of Apache Beam; all that follows are its options, such as --runner=DataflowRunner",
    )
    _where_scenes_are(command)

    command = Command(commands, "synth", "render words or scenes: a sheet to look at, or a folder with labels")
    command.option("--scenes", scenes=True, action="store_true", help="scenes instead of words")
    command.option("-n", words=48, scenes=12, type=int, help="number of images (default: 48 words, 12 scenes)")
    command.add("-o", "--output", type=_path, default=Path("sheet.png"), help="image file, or new folder (no suffix)")
    command.add("--seed", type=int, default=0)
    command.add("--split", choices=SPLITS, default="train", help="no word is in both")
    command.option(
        "--difficulty", words=1.0, scenes=0.7, type=float, help="0 (clean) to 1 (default: words 1, scenes 0.7)"
    )
    command.add("--font-dir", type=Path, help="folder of more fonts")
    command.add("--word-file", type=Path, help="one word per line, instead of the built-in list")
    command.option("--charset", words="94", help="words: as for check (default: 94)")
    command.option("--max-length", words=25, type=int, help="words: longest word (default: 25)")
    command.option(
        "--image-size",
        scenes=(640, 640),
        type=int,
        nargs=2,
        metavar=("HEIGHT", "WIDTH"),
        help="scenes: pixels (default: 640 640)",
    )
    command.option(
        "--words", scenes=(0, 16), type=int, nargs=2, metavar=("LEAST", "MOST"), help="scenes: in each (default: 0 16)"
    )
    command.option("--lines", scenes=False, action="store_true", help="scenes: a polygon for each line of words")

    help = "build a data set of TensorFlow Datasets from its manual download, of words or scenes"
    build = commands.add_parser("tfds", help=help, description=help)
    build.add_argument("name", help="such as scene_text/icdar2015; a wrong one lists all")
    build.add_argument("manual", type=Path, help="folder with the extracted downloads")
    build.add_argument("destination", type=Path, help="folder of data sets")
    build.set_defaults(run=tfds.build)
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


def _where_scenes_are(command: Command) -> None:
    command.option("--scenes", scenes=True, action="store_true", help="it holds scenes; don't look for words")
    command.option("--format", scenes="auto", help="scenes: of the annotations (default: auto)")
    command.option("--images", scenes="", metavar="SUB", help="scenes: folder of the photos below the path")
    command.option("--annotations", scenes="", metavar="SUB", help="scenes: annotations below the path")
