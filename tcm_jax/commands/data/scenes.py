"""Annotated images, for the commands on data."""

import argparse

from tcm_jax.commands.data.common import Kind
from tcm_jax.data.scenes.check import survey
from tcm_jax.data.scenes.sources import open_annotated_images
from tcm_jax.data.scenes.write import write_annotated_folder
from tcm_jax.images.decoding import image_size
from tcm_jax.images.drawing import annotation_sheet
from tcm_jax.records import AnnotatedImage, AnnotatedImageSource


def _line(record: AnnotatedImage) -> str:
    return f"{record.name}  " + " ".join(repr(region.text) for region in record.regions if not region.ignore)


def _render(options: argparse.Namespace) -> AnnotatedImageSource:
    from tcm_jax.render.scenes import SyntheticScenes  # only where a command asks for it

    return SyntheticScenes(
        seed=options.seed,
        split=options.split,
        difficulty=options.difficulty,
        size=options.n,
        image_size=tuple(options.image_size),
        words=tuple(options.words),
        unit="line" if options.lines else "word",
        font_dir=options.font_dir,
        word_file=options.word_file,
    )


SCENES = Kind(
    name="scenes",
    contents="annotated images",
    open=open_annotated_images,
    arguments=lambda options: (options.format, options.images, options.annotations),
    survey=lambda options: survey,
    line=_line,
    sheet=annotation_sheet,
    columns=(3, 3),
    legend="; green texts count, orange ones are ignored",
    render=_render,
    writers={"scenes": write_annotated_folder},
    folder="scenes",
    check=lambda record: image_size(record.image, record.name),
)
