"""Crops, for the commands on data."""

import argparse
from collections.abc import Callable, Iterable

from tcm_jax.commands.data.common import Kind
from tcm_jax.data.words import check
from tcm_jax.data.words.array_record import write_array_record
from tcm_jax.data.words.label_files import write_label_folder
from tcm_jax.data.words.labels import LabelFilter
from tcm_jax.data.words.lmdb import write_lmdb
from tcm_jax.data.words.sources import open_word_crops
from tcm_jax.records import WordSource
from tcm_jax.text.charset_spec import load_charset

WRITERS = {"lmdb": write_lmdb, "array_record": write_array_record, "folder": write_label_folder}


def _survey(options: argparse.Namespace) -> Callable[[WordSource, Iterable[int]], check.WordSurvey]:
    label_filter = LabelFilter(
        load_charset(options.charset),
        max_length=options.max_length,
        remove_whitespace=not options.keep_whitespace,
        normalize_unicode=options.unicode,
        min_image_size=options.min_image_size,
    )
    return lambda source, indices: check.survey(source, label_filter, indices)


def _render(options: argparse.Namespace) -> WordSource:
    from tcm_jax.render.words import SyntheticWords  # only where a command asks for it

    return SyntheticWords(
        load_charset(options.charset),
        options.max_length,
        options.seed,
        options.split,
        options.difficulty,
        options.n,
        options.font_dir,
        options.word_file,
    )


WORDS = Kind(
    name="words",
    contents="crops",
    open=open_word_crops,
    arguments=lambda options: (),
    survey=_survey,
    line=lambda record: f"{record.label!r}  {record.name}",
    sheet=check.contact_sheet,
    columns=(4, 6),
    render=_render,
    writers=WRITERS,
    folder="folder",
)
