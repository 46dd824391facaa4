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
        splits: what each split is read from, below the manual folder: the photos and their annotations of scenes,
            one folder or file of words. Empty if every folder in the manual folder is a split of that name.
        format: of the scenes' annotations, see `open_scenes`; "{split}" stands for the name of the split.
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
    names = sorted(entry.name for entry in manual.iterdir() if entry.is_dir()) if manual.is_dir() else []
    names = [name for name in names if not name.startswith(".")]
    if not names:
        raise SourceError(f"{manual.absolute()} holds no folders; expected one for each split, such as train")
    if wrong := [name for name in names if not re.fullmatch(r"\w+", name)]:
        raise SourceError(f"{manual.absolute()}: {wrong[0]!r} can't name a split; expected letters, digits and _ only")
    return {name: (name,) for name in names}


SCENES = {
    "icdar2013": Layout(
        {
            "train": ("Challenge2_Training_Task12_Images", "Challenge2_Training_Task1_GT"),
            "test": ("Challenge2_Test_Task12_Images", "Challenge2_Test_Task1_GT"),
        },
        "icdar2013",
    ),
    "icdar2015": Layout(
        {
            "train": ("ch4_training_images", "ch4_training_localization_transcription_gt"),
            "test": ("ch4_test_images", "Challenge4_Test_Task1_GT"),
        },
        "icdar2015",
    ),
    # The eight archives ch8_training_images_1.zip to _8.zip are extracted into one folder.
    "mlt2017": Layout(
        {
            "train": ("ch8_training_images", "ch8_training_localization_transcription_gt_v2"),
            "validation": ("ch8_validation_images", "ch8_validation_localization_transcription_gt_v2"),
        },
        "mlt",
    ),
    # As are ImagesPart1.zip and ImagesPart2.zip. The annotations of the test set were not published.
    "mlt2019": Layout({"train": ("images", "train_gt_t13")}, "mlt"),
    "total_text": Layout(
        {
            "train": ("Images/Train", "Groundtruth/Polygon/Train"),
            "test": ("Images/Test", "Groundtruth/Polygon/Test"),
        },
        "total_text",
    ),
    "ctw1500": Layout(
        {"train": ("train_images", "ctw1500_train_labels"), "test": ("test_images", "gt_ctw1500")}, "ctw1500"
    ),
    "msra_td500": Layout(
        {"train": ("MSRA-TD500/train", "MSRA-TD500/train"), "test": ("MSRA-TD500/test", "MSRA-TD500/test")}, "td500"
    ),
    "hust_tr400": Layout({"train": ("HUST-TR400", "HUST-TR400")}, "td500"),
    # The annotations of the test set were not published.
    "art": Layout({"train": ("train_images", "train_labels.json")}, "art"),
    "synthtext": Layout({"train": ("SynthText", "SynthText/gt.mat")}, "synthtext"),
    "curved_synthtext": Layout(
        {
            "words": ("syntext1/syntext_word_eng", "syntext1/train.json"),
            "emcs": ("syntext2/emcs_imgs", "syntext2/train.json"),
        },
        "curved_synthtext",
    ),
    "textocr": Layout(
        {
            "train": ("train_images", "TextOCR_0.1_train.json"),
            "validation": ("train_images", "TextOCR_0.1_val.json"),
        },
        "textocr",
    ),
    "coco_text": Layout(
        {"train": ("train2014", "cocotext.v2.json"), "val": ("train2014", "cocotext.v2.json")}, "coco_text:{split}"
    ),
    "folders": Layout(),
}

# The folders of the LMDBs that PARSeq and CLIP4STR train and test on. Split names have no dots.
WORD_SETS = {
    "training": Layout({"real": ("train/real",), "synth": ("train/synth",), "val": ("val",)}),
    "benchmarks": Layout({name.replace(".", "_"): (f"test/{name}",) for name in WORDS}),
    "folders": Layout(),
}
