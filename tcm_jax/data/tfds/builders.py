"""TFDS builders of annotated images and of crops.

TFDS builds and reads without TensorFlow as long as files are ArrayRecord, images are given as image files, and
features are ragged in one dimension at most. The polygons of an image, lists of points of any length, are ragged in
two; so all points of an image stand in one array, with the number of points of each region.
"""

import abc
import os
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import tensorflow_datasets as tfds

from tcm_jax.data.scenes.finding import NO_IMAGE
from tcm_jax.data.scenes.sources import open_annotated_images
from tcm_jax.data.sources import some, summary
from tcm_jax.data.tfds.layouts import SCENES, WORD_SETS, Layout
from tcm_jax.data.words.sources import open_word_crops
from tcm_jax.images.decoding import ImageError, encoded
from tcm_jax.records import AnnotatedImage, AnnotatedImageSource, Source, SourceError, WordCrop, WordSource

_SHOWN = 3  # messages about records that are left out
_IMAGE = {
    "image": tfds.features.Image(shape=(None, None, 3), doc="the image file as the data set has it"),
    "name": tfds.features.Text(),
}


@dataclass(eq=False)
class FolderConfig(tfds.core.BuilderConfig):
    """A data set that lies in a manual folder as `layout` says."""

    layout: Layout = field(default_factory=Layout)


class _FolderBuilder(tfds.core.GeneratorBasedBuilder):
    """A builder whose splits are sources of records.

    Records stay in the order of their source. Those whose image can't be read are left out, and counted in the
    summary of their split, a text in `info.metadata`.
    """

    VERSION = tfds.core.Version("1.0.0")
    MANUAL_DOWNLOAD_INSTRUCTIONS = (
        "Extract the downloads of the data set into the manual folder; tcm_jax/data/tfds/layouts.py has the names "
        "of the folders."
    )
    FEATURES: ClassVar[dict[str, Any]]

    @abc.abstractmethod
    def open(self, manual: Path, split: str, places: tuple[str, ...]) -> Source[Any]:
        """The records of a split, from its places below the manual folder."""

    @abc.abstractmethod
    def example(self, record: Any) -> dict[str, Any]:
        """The features of a record."""

    def _info(self) -> tfds.core.DatasetInfo:
        return tfds.core.DatasetInfo(
            builder=self,
            description=self.__doc__,
            features=tfds.features.FeaturesDict(self.FEATURES),
            metadata=tfds.core.MetadataDict(),
            disable_shuffling=True,
        )

    def _split_generators(self, dl_manager: tfds.download.DownloadManager) -> dict[str, Any]:
        manual = Path(dl_manager.manual_dir)
        present = self.builder_config.layout.present(manual)
        sources = {split: self.open(manual, split, places) for split, places in present.items()}
        return {split: self._generate_examples(split, source) for split, source in sources.items()}

    def _generate_examples(self, split: str, source: Source[Any]) -> Iterator[tuple[int, dict[str, Any]]]:
        unreadable = []
        for index in range(len(source)):
            try:
                record = source[index]
            except ImageError as error:
                unreadable.append(str(error))
            else:
                yield index, self.example(record)
        text = summary(source)
        if unreadable:
            text += f"; left out {len(unreadable):,} without an image ({some(unreadable, _SHOWN, '; ')})"
        if len(unreadable) == len(source):
            raise SourceError(f"{split}: no record is left of {text}")
        self.info.metadata[split] = text


class SceneText(_FolderBuilder):
    """Images, and the polygons, texts and don't-care marks of their words or lines."""

    BUILDER_CONFIGS: ClassVar = [FolderConfig(name=name, layout=layout) for name, layout in SCENES.items()]
    FEATURES: ClassVar = {
        **_IMAGE,
        "points": tfds.features.Tensor(
            shape=(None, 2), dtype=np.float32, doc="x and y in pixels, of the polygons of all regions in a row"
        ),
        "regions": tfds.features.Sequence(
            {"num_points": np.int32, "text": tfds.features.Text(), "ignore": np.bool_}, doc="see points"
        ),
    }

    def open(self, manual: Path, split: str, places: tuple[str, ...]) -> AnnotatedImageSource:
        """The annotated images of a split; `SourceError` if images are missing."""
        format = self.builder_config.layout.format.format(split=split)
        if len(places) == 1:
            return open_annotated_images(manual / places[0], format)
        source = open_annotated_images(manual, format, images=places[0], annotations=places[1])
        if count := source.report.dropped[NO_IMAGE]:
            shown = source.report.where[NO_IMAGE]
            more = ", ..." if count > len(shown) else ""
            raise SourceError(f"{manual / places[0]} lacks {count:,} annotated images ({', '.join(shown)}{more})")
        return source

    def example(self, record: AnnotatedImage) -> dict[str, Any]:
        """The features of an annotated image."""
        polygons = [region.polygon for region in record.regions]
        return {
            "image": encoded(record.image),
            "name": record.name,
            "points": np.concatenate([np.empty((0, 2), np.float32), *polygons]),  # [points of all regions, 2]
            "regions": [{"num_points": len(r.polygon), "text": r.text, "ignore": r.ignore} for r in record.regions],
        }


class WordImages(_FolderBuilder):
    """Crops of single words and their texts."""

    BUILDER_CONFIGS: ClassVar = [FolderConfig(name=name, layout=layout) for name, layout in WORD_SETS.items()]
    FEATURES: ClassVar = {**_IMAGE, "label": tfds.features.Text(doc="as the data set has it, not cleaned")}

    def open(self, manual: Path, split: str, places: tuple[str, ...]) -> WordSource:
        """The crops of a split."""
        return open_word_crops(manual / places[0])

    def example(self, record: WordCrop) -> dict[str, Any]:
        """The features of a crop."""
        return {"image": encoded(record.image), "name": record.name, "label": record.label}


_BUILDERS = {builder.name: builder for builder in (SceneText, WordImages)}


def build_tfds(name: str, manual_dir: str | os.PathLike, data_dir: str | os.PathLike) -> tuple[Path, dict[str, str]]:
    """Builds a data set as ArrayRecord files below `data_dir`; needs no TensorFlow and no network.

    Args:
        name: builder and config, such as "scene_text/icdar2015"; "scene_text/folders" and "word_images/folders" make
            a split of every folder in the manual folder.
        manual_dir: the folder with the extracted downloads, see `layouts`.
        data_dir: folder of data sets.

    Returns:
        The folder of the data set, for `open_tfds`, and for each split what was read and what was left out.

    Raises:
        SourceError: the manual folder lacks files, which the message lists, or they can't be read.
        FileExistsError: the data set was built before.
        ValueError: no data set has this name.
    """
    names = [f"{kind}/{config.name}" for kind, builder in _BUILDERS.items() for config in builder.BUILDER_CONFIGS]
    if name not in names:
        raise ValueError(f"no data set is called {name!r}; there are {', '.join(names)}")
    kind, config = name.split("/")
    builder = _BUILDERS[kind](config=config, data_dir=os.fspath(data_dir))
    if Path(builder.data_dir).exists():
        raise FileExistsError(f"{builder.data_dir} exists; remove it to build {name} again")
    builder.builder_config.layout.present(Path(manual_dir))  # TFDS only says that a folder is empty or not there
    builder.download_and_prepare(
        download_config=tfds.download.DownloadConfig(manual_dir=os.fspath(manual_dir)), file_format="array_record"
    )
    return Path(builder.data_dir), dict(builder.info.metadata)
