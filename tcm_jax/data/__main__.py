"""Look at, check, convert and render word images.

python -m tcm_jax.data check DIR --charset 94
python -m tcm_jax.data peek DIR -n 16 -o sheet.png
python -m tcm_jax.data build SRC DST --to lmdb
python -m tcm_jax.data synth -n 48 --difficulty 1 -o sheet.png
"""

import argparse
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

from rich.console import Console
from rich.progress import track

from tcm_jax.data import check
from tcm_jax.data.array_record_source import write_array_record
from tcm_jax.data.label_files import write_label_folder
from tcm_jax.data.labels import LabelFilter
from tcm_jax.data.lmdb_source import write_lmdb
from tcm_jax.data.records import Record, SourceError
from tcm_jax.data.sources import open_source
from tcm_jax.data.synthetic import SyntheticWords
from tcm_jax.data.synthetic.words import SPLITS
from tcm_jax.text.charset import load_charset

_WRITERS = {"lmdb": write_lmdb, "array_record": write_array_record, "folder": write_label_folder}


def check_command(options: argparse.Namespace) -> int:
    """Tells what is at `options.path` and what is wrong with it; 1 if nothing of it can be used."""
    label_filter = LabelFilter(
        load_charset(options.charset),
        max_length=options.max_length,
        remove_whitespace=not options.keep_whitespace,
        normalize_unicode=options.unicode,
        min_image_size=options.min_image_size,
    )
    problems: list[str] = []
    try:
        source = open_source(options.path, problems)
    except SourceError as error:
        print("nothing usable")
        _print_problems(problems or [str(error)], options.show)
        return 1
    for part in check.parts(source):
        print(f"recognised: {getattr(part, 'kind', 'source')} {part.name}, {len(part):,} records")
    indices = range(len(source)) if options.limit is None else check.spread(len(source), options.limit)
    result = check.survey(source, label_filter, _progress(indices, "checking"))
    print(result)
    _print_problems(problems, options.show)
    return 0 if result.usable else 1


def peek_command(options: argparse.Namespace) -> int:
    """Draws records, evenly spread over the source, with their labels."""
    source = open_source(options.path)
    broken: list[str] = []
    records = list(check.readable(source, check.spread(len(source), options.n), broken.append))
    for number, record in enumerate(records, start=1):
        print(f"{number:4} {record.label!r}  {record.name}")
    for message in broken:
        print(f"unreadable: {message}")
    if records:
        check.contact_sheet(records).save(options.output)
        print(f"{options.output}: {len(records)} of {len(source):,} records")
    return 0 if records else 1


def build_command(options: argparse.Namespace) -> int:
    """Copies all readable records, images and labels unchanged, into another form."""
    source = open_source(options.source)
    broken: list[str] = []

    def records() -> Iterator[Record]:
        left = check.readable(source, _progress(range(len(source)), "writing"), broken.append)
        yield from left
        if len(broken) == len(source):  # raised here, so that the writer leaves nothing behind
            raise SourceError(f"{source.name}: no record can be read; the first: {broken[0]}")

    count = _WRITERS[options.to](records(), options.destination)
    print(f"{options.destination}: {count:,} records, {len(broken):,} left out")
    for message in broken[:10]:
        print(f"left out: {message}")
    return 0


def synth_command(options: argparse.Namespace) -> int:
    """Renders words, as a sheet to look at or as a folder of images with labels."""
    words = SyntheticWords(
        load_charset(options.charset),
        options.max_length,
        options.seed,
        options.split,
        options.difficulty,
        options.n,
        options.font_dir,
        options.word_file,
    )
    records = (words[i] for i in _progress(range(len(words)), "rendering"))
    if options.output.suffix:
        check.contact_sheet(records, columns=6).save(options.output)
    else:
        write_label_folder(records, options.output)
    fonts, listed = len(words.fonts.fonts), len(words.words.words)
    print(f"{options.output}: {len(words):,} words from {fonts} fonts and {listed:,} listed words")
    return 0


def _print_problems(problems: list[str], count: int) -> None:
    for problem in problems[:count]:
        print(f"problem: {problem}")
    if len(problems) > count:
        print(f"problem: and {len(problems) - count:,} more (--show prints them)")


def _progress(indices: Sequence[int], description: str):
    return track(indices, description, console=Console(stderr=True), transient=True)


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        prog="python -m tcm_jax.data",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    commands = parser.add_subparsers(required=True)

    command = commands.add_parser("check", help="what is in a folder, and what is wrong with it")
    command.add_argument("path", type=Path, help="an LMDB, a label file, or a folder with some at any depth")
    command.add_argument("--charset", default="94", help="36, 62, 94, file:PATH or the characters (default: 94)")
    command.add_argument("--max-length", type=int, default=25, help="longest label (default: 25)")
    command.add_argument("--keep-whitespace", action="store_true", help="don't delete white space from labels")
    command.add_argument("--unicode", default="auto", help="auto, ascii, nfc or none (default: auto)")
    command.add_argument("--min-image-size", type=int, default=0, help="smallest height and width in pixels")
    command.add_argument("--limit", type=int, help="look at this many records only, spread evenly")
    command.add_argument("--show", type=int, default=10, help="problems of the files to print (default: 10)")
    command.set_defaults(run=check_command)

    command = commands.add_parser("peek", help="draw some records with their labels")
    command.add_argument("path", type=Path)
    command.add_argument("-n", type=int, default=16, help="number of records (default: 16)")
    command.add_argument("-o", "--output", type=Path, default=Path("sheet.png"), help="image file to write")
    command.set_defaults(run=peek_command)

    command = commands.add_parser(
        "build", help="copy the records of a source into an LMDB, an ArrayRecord file or a folder"
    )
    command.add_argument("source", type=Path)
    command.add_argument("destination", type=Path, help="new folder (LMDB, folder) or new file (ArrayRecord)")
    command.add_argument("--to", choices=sorted(_WRITERS), default="lmdb", help="form to write (default: lmdb)")
    command.set_defaults(run=build_command)

    command = commands.add_parser("synth", help="render words: a sheet to look at, or a folder with labels")
    command.add_argument("-n", type=int, default=48, help="number of words (default: 48)")
    command.add_argument(
        "-o", "--output", type=Path, default=Path("sheet.png"), help="image file, or new folder (no suffix)"
    )
    command.add_argument("--charset", default="94", help="as for check (default: 94)")
    command.add_argument("--max-length", type=int, default=25, help="longest word (default: 25)")
    command.add_argument("--seed", type=int, default=0)
    command.add_argument("--split", choices=SPLITS, default="train", help="no word is in both")
    command.add_argument("--difficulty", type=float, default=1.0, help="0 (clean) to 1 (default: 1)")
    command.add_argument("--font-dir", type=Path, help="folder of more fonts")
    command.add_argument("--word-file", type=Path, help="one word per line, instead of the built-in list")
    command.set_defaults(run=synth_command)

    options = parser.parse_args(arguments)
    try:
        return options.run(options)
    except (ValueError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1


if __name__ == "__main__":
    sys.exit(main())
