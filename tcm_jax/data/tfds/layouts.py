"""Where the files of each data set lie in its manual folder, the one into which a user extracts the downloads.

Folders have the names of the archives that are extracted into them, where archives have no folder of their own.
"""

import re
from dataclasses import dataclass, field
from pathlib import Path

from tcm_jax.data.words.benchmarks import WORDS
from tcm_jax.records import SourceError


@dataclass(frozen=True)
class Layout:
    """The files of one data set.

    Attributes:
        splits: what each split is read from, below the manual folder: the images and the annotations of scenes,
            one folder or file of words. Empty if every folder in the manual folder is a split of that name.
        format: of the scenes' annotations, see `open_annotated_images`; "{split}" stands for the name of the split.
    """

    splits: dict[str, tuple[str, ...]] = field(default_factory=dict)
    format: str = "auto"

    def present(self, manual: Path) -> dict[str, tuple[str, ...]]:
        """The splits that the folder `manual` holds.

        A split counts as not wanted if it has none of the files that are its alone.

        Raises:
            SourceError: it has no split, or only a part of one; the message lists the missing files.
        """
        if not self.splits:
            return _folders(manual)
        missing = {
            split: [place for place in places if not _holds(manual / place)] for split, places in self.splits.items()
        }
        wanted = [split for split in self.splits if not set(self._own(split)) <= set(missing[split])]
        lacking = {split: missing[split] for split in wanted or self.splits if missing[split]}
        if lacking:
            listed = "".join(f"\n  {split}: {', '.join(dict.fromkeys(places))}" for split, places in lacking.items())
            raise SourceError(f"{manual.absolute()} lacks these files (not there, or empty):{listed}")
        return {split: self.splits[split] for split in wanted}

    def _own(self, split: str) -> list[str]:
        """The places of a split that no other split has, or all if it shares all."""
        others = {place for other, places in self.splits.items() if other != split for place in places}
        return [place for place in self.splits[split] if place not in others] or list(self.splits[split])


def _holds(place: Path) -> bool:
    return place.is_file() or (place.is_dir() and any(place.iterdir()))


def _folders(manual: Path) -> dict[str, tuple[str, ...]]:
    entries = sorted(manual.iterdir()) if manual.is_dir() else []
    names = [entry.name for entry in entries if entry.is_dir() and not entry.name.startswith(".")]
    if not names:
        raise SourceError(f"{manual.absolute()} holds no folders; expected one for each split, such as train")
    if wrong := [name for name in names if not re.fullmatch(r"\w+", name)]:
        raise SourceError(f"{manual.absolute()}: {wrong[0]!r} can't name a split; expected letters, digits and _ only")
    return {name: (name,) for name in names}


_SPLITS = (  # data set, format, split, images, annotations
    ("icdar2013", "icdar2013", "train", "Challenge2_Training_Task12_Images", "Challenge2_Training_Task1_GT"),
    ("icdar2013", "icdar2013", "test", "Challenge2_Test_Task12_Images", "Challenge2_Test_Task1_GT"),
    ("icdar2015", "icdar2015", "train", "ch4_training_images", "ch4_training_localization_transcription_gt"),
    ("icdar2015", "icdar2015", "test", "ch4_test_images", "Challenge4_Test_Task1_GT"),
    # The eight archives ch8_training_images_1.zip to _8.zip are extracted into one folder.
    ("mlt2017", "mlt", "train", "ch8_training_images", "ch8_training_localization_transcription_gt_v2"),
    ("mlt2017", "mlt", "validation", "ch8_validation_images", "ch8_validation_localization_transcription_gt_v2"),
    # As are ImagesPart1.zip and ImagesPart2.zip. The annotations of the test set were not published.
    ("mlt2019", "mlt", "train", "images", "train_gt_t13"),
    ("total_text", "total_text", "train", "Images/Train", "Groundtruth/Polygon/Train"),
    ("total_text", "total_text", "test", "Images/Test", "Groundtruth/Polygon/Test"),
    ("ctw1500", "ctw1500", "train", "train_images", "ctw1500_train_labels"),
    ("ctw1500", "ctw1500", "test", "test_images", "gt_ctw1500"),
    ("msra_td500", "td500", "train", "MSRA-TD500/train", "MSRA-TD500/train"),
    ("msra_td500", "td500", "test", "MSRA-TD500/test", "MSRA-TD500/test"),
    ("hust_tr400", "td500", "train", "HUST-TR400", "HUST-TR400"),
    # The annotations of the test set were not published.
    ("art", "art", "train", "train_images", "train_labels.json"),
    ("synthtext", "synthtext", "train", "SynthText", "SynthText/gt.mat"),
    ("curved_synthtext", "curved_synthtext", "words", "syntext1/syntext_word_eng", "syntext1/train.json"),
    ("curved_synthtext", "curved_synthtext", "emcs", "syntext2/emcs_imgs", "syntext2/train.json"),
    ("textocr", "textocr", "train", "train_images", "TextOCR_0.1_train.json"),
    ("textocr", "textocr", "validation", "train_images", "TextOCR_0.1_val.json"),
    ("coco_text", "coco_text:{split}", "train", "train2014", "cocotext.v2.json"),
    ("coco_text", "coco_text:{split}", "val", "train2014", "cocotext.v2.json"),
)
SCENES: dict[str, Layout] = {}
for _name, _format, _split, *_places in _SPLITS:
    SCENES.setdefault(_name, Layout({}, _format)).splits[_split] = tuple(_places)
SCENES["folders"] = Layout()

# The folders of the LMDBs that PARSeq and CLIP4STR train and test on. Split names have no dots.
WORD_SETS = {
    "training": Layout({"real": ("train/real",), "synth": ("train/synth",), "val": ("val",)}),
    "benchmarks": Layout({name.replace(".", "_"): (f"test/{name}",) for name in WORDS}),
    "folders": Layout(),
}
