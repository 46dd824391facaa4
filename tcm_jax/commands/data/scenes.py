"""The commands on photos with text."""

import argparse
from collections.abc import Iterator, Sequence
from pathlib import Path

from tcm_jax.commands.data.common import Opened, print_left_out, print_problems, progress, save_picture, some_of
from tcm_jax.commands.data.shard import convert
from tcm_jax.data.scenes.check import survey
from tcm_jax.data.scenes.sources import open_scenes
from tcm_jax.data.scenes.write import write_scene_folder
from tcm_jax.data.words import check as checking
from tcm_jax.images.decoding import ImageError, image_size
from tcm_jax.images.drawing import scene_sheet
from tcm_jax.records import AnnotatedImage, AnnotatedImageSource, SourceError
from tcm_jax.render.scenes import SyntheticScenes

_DRAWN = 12  # photos on the sheet of a check
WRITERS = {"scenes": write_scene_folder}


def opened(options: argparse.Namespace) -> Opened[AnnotatedImageSource]:
    """The source at `options.path`; `SourceError` if nothing of it is usable."""
    problems: list[str] = []
    source = open_scenes(options.path, options.format, options.images, options.annotations, problems)
    return Opened(source, problems)


def check(options: argparse.Namespace, found: Opened[AnnotatedImageSource] | None) -> int:
    """Tells what is at `options.path` and what is wrong with it; 1 if no photo of it can be used."""
    found = found or opened(options)
    source = found.source
    _print_account(source)
    indices = range(len(source)) if options.limit is None else checking.spread(len(source), options.limit)
    result = survey(source, progress(indices, "checking"))
    print(result)
    if options.draw:
        scenes = list(checking.readable(source, checking.spread(len(source), _DRAWN), lambda _: None))
        _draw(scenes, source, options.draw)
    print_problems(found.problems, options.show)
    return 0 if result.usable else 1


def peek(options: argparse.Namespace, found: Opened[AnnotatedImageSource] | None) -> int:
    """Draws photos, evenly spread over the source, with the outlines and the texts of their words."""
    source = (found or opened(options)).whole()
    broken: list[str] = []
    scenes = list(checking.readable(source, checking.spread(len(source), options.n), broken.append))
    for number, scene in enumerate(scenes, start=1):
        texts = " ".join(repr(region.text) for region in scene.regions if not region.ignore)
        print(f"{number:4} {scene.name}  {texts}")
    for message in broken:
        print(f"unreadable: {message}")
    _draw(scenes, source, options.output)
    return 0 if scenes else 1


def build(options: argparse.Namespace, found: Opened[AnnotatedImageSource] | None) -> int:
    """Copies all readable photos, with their bytes and their usable polygons unchanged, into another form."""
    source = (found or opened(options)).whole()
    if options.to not in WRITERS:
        raise SourceError(f"{source.name} holds photos with text; --to {options.to} is for word images")
    broken: list[str] = []
    count = WRITERS[options.to](some_of(_photos(source, broken), source, broken), options.destination)
    _print_account(source)
    print(f"{options.destination}: {count:,} photos, {len(broken):,} left out")
    print_left_out(broken)
    return 0


def shard(options: argparse.Namespace, found: Opened[AnnotatedImageSource] | None) -> int:
    """Converts all readable photos to a set of ArrayRecord shards."""
    return convert(options, "scenes", found)


def synth(options: argparse.Namespace, found: None) -> int:
    """Renders photos with words, as a sheet to look at or as a folder with labels."""
    source = SyntheticScenes(
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
    scenes = (source[i] for i in progress(range(len(source)), "rendering"))
    if options.output.suffix:
        save_picture(scene_sheet(scenes), options.output)
    else:
        write_scene_folder(scenes, options.output)
    print(f"{options.output}: {len(source):,} photos from {len(source.fonts.fonts)} fonts")
    return 0


def _draw(scenes: Sequence[AnnotatedImage], source: AnnotatedImageSource, path: Path) -> None:
    if scenes:
        save_picture(scene_sheet(scenes), path)
        print(f"{path}: {len(scenes)} of {len(source):,} photos; green texts count, orange ones are ignored")


def _print_account(source: AnnotatedImageSource) -> None:
    report = getattr(source, "report", f"{len(source):,} photos")
    print(f"recognised: {getattr(source, 'kind', 'scenes')} {source.name}: {report}")


def _photos(source: AnnotatedImageSource, broken: list[str]) -> Iterator[AnnotatedImage]:
    """The scenes whose photo is an image file."""
    for scene in checking.readable(source, progress(range(len(source)), "writing"), broken.append):
        try:
            image_size(scene.image, scene.name)
        except ImageError as error:
            broken.append(str(error))
        else:
            yield scene
