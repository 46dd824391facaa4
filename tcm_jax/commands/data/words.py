"""The commands on word images."""

import argparse

from tcm_jax.commands.data.common import Opened, print_left_out, print_problems, progress, save_picture, some_of
from tcm_jax.commands.data.shard import convert
from tcm_jax.data.words import check as checking
from tcm_jax.data.words.array_record import write_array_record
from tcm_jax.data.words.label_files import write_label_folder
from tcm_jax.data.words.labels import LabelFilter
from tcm_jax.data.words.lmdb import write_lmdb
from tcm_jax.data.words.sources import open_source
from tcm_jax.records import SourceError, WordSource
from tcm_jax.render.words import SyntheticWords
from tcm_jax.text.charset_spec import load_charset

WRITERS = {"lmdb": write_lmdb, "array_record": write_array_record, "folder": write_label_folder}


def opened(options: argparse.Namespace) -> Opened[WordSource]:
    """The source at `options.path`; `SourceError` if nothing of it is usable."""
    problems: list[str] = []
    return Opened(open_source(options.path, problems), problems)


def check(options: argparse.Namespace, found: Opened[WordSource] | None) -> int:
    """Tells what is at `options.path` and what is wrong with it; 1 if nothing of it can be used."""
    label_filter = LabelFilter(
        load_charset(options.charset),
        max_length=options.max_length,
        remove_whitespace=not options.keep_whitespace,
        normalize_unicode=options.unicode,
        min_image_size=options.min_image_size,
    )
    found = found or opened(options)
    source = found.source
    for part in checking.parts(source):
        print(f"recognised: {getattr(part, 'kind', 'source')} {part.name}, {len(part):,} records")
    indices = range(len(source)) if options.limit is None else checking.spread(len(source), options.limit)
    result = checking.survey(source, label_filter, progress(indices, "checking"))
    print(result)
    print_problems(found.problems, options.show)
    return 0 if result.usable else 1


def peek(options: argparse.Namespace, found: Opened[WordSource] | None) -> int:
    """Draws records, evenly spread over the source, with their labels."""
    source = (found or opened(options)).whole()
    broken: list[str] = []
    records = list(checking.readable(source, checking.spread(len(source), options.n), broken.append))
    for number, record in enumerate(records, start=1):
        print(f"{number:4} {record.label!r}  {record.name}")
    for message in broken:
        print(f"unreadable: {message}")
    if records:
        save_picture(checking.contact_sheet(records), options.output)
        print(f"{options.output}: {len(records)} of {len(source):,} records")
    return 0 if records else 1


def build(options: argparse.Namespace, found: Opened[WordSource] | None) -> int:
    """Copies all readable records, images and labels unchanged, into another form."""
    source = (found or opened(options)).whole()
    if options.to not in WRITERS:
        raise SourceError(f"{source.name} holds word images; --to {options.to} is for photos with text")
    broken: list[str] = []
    records = checking.readable(source, progress(range(len(source)), "writing"), broken.append)
    count = WRITERS[options.to](some_of(records, source, broken), options.destination)
    print(f"{options.destination}: {count:,} records, {len(broken):,} left out")
    print_left_out(broken)
    return 0


def shard(options: argparse.Namespace, found: Opened[WordSource] | None) -> int:
    """Converts all readable records to a set of ArrayRecord shards."""
    return convert(options, "words", found)


def synth(options: argparse.Namespace, found: None) -> int:
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
    records = (words[i] for i in progress(range(len(words)), "rendering"))
    if options.output.suffix:
        save_picture(checking.contact_sheet(records, columns=6), options.output)
    else:
        write_label_folder(records, options.output)
    fonts, listed = len(words.fonts.fonts), len(words.words.words)
    print(f"{options.output}: {len(words):,} words from {fonts} fonts and {listed:,} listed words")
    return 0
