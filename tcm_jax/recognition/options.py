"""How a recognizer reads: one value for the Python API, the commands, the recipes and the stored model."""

import dataclasses
import os
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Literal

from tcm_jax.models.layers import DtypeName
from tcm_jax.options import check_choices
from tcm_jax.recognition.views import SINGLE_VIEW, check_views
from tcm_jax.text.dictionary import DictionaryPrior
from tcm_jax.text.lexicon import DISTANCE

Branches = Literal["cross", "both"]
Normalization = Literal["checkpoint", "half"]


@dataclass(frozen=True)
class ReadingOptions:
    """Options of a `Recognizer`.

    Where views, dictionary_prior and branches are None, the model's own count (section `inference` of its recipe), and
    where it has none: the crop as it is, no prior, the cross branch, as the original does.

    Args:
        views: test-time views of each crop, of which the likeliest reading counts: with a frame of this share of its
            shorter side around it, or cut off if negative, such as 0 -0.08 0.12; 0 alone is the crop as it is.
        dictionary_prior: how many times as likely as a word of CLIP's vocabulary another reading must be to be
            preferred; 1 is no prior. A lexicon switches it off unless it is given.
        branches: whose reading counts: that of the cross branch, or the likelier one of both branches.
        normalization: of the images. checkpoint: mean and deviation of the training images, as stored with the model.
            half: 0.5 and 0.5, as the original's test.py and read.py use although its models were trained with CLIP's
            values; published CLIP4STR numbers were probably measured that way.
        caption_charset: characters of a prediction that reach the text encoder, in place of the model's.
        allow: the only characters that are expected, such as 0-9A-Z.
        on_disallowed: mask: the model chooses among the allowed characters, and confidences are those of this choice;
            drop: others are read and left out with their probabilities.
        lexicon: expected words, or a text file with one in each line; the nearest one takes the place of what is read.
        lexicon_distance: unless more than this share of its characters differ; case doesn't count.
        batch_size: crops at a time.
        dtype: of the computation; auto is float32 on a CPU, else bfloat16.

    Raises:
        ValueError: a value outside its choices.
    """

    views: tuple[float, ...] | None = None
    dictionary_prior: float | None = None
    branches: Branches | None = None
    normalization: Normalization = "checkpoint"
    caption_charset: str | None = None
    allow: str | None = field(default=None, metadata={"metavar": "CHARS"})
    on_disallowed: Literal["mask", "drop"] = "mask"
    lexicon: str | os.PathLike | Sequence[str] | None = field(default=None, metadata={"metavar": "FILE"})
    lexicon_distance: float = DISTANCE
    batch_size: int = field(default=64, metadata={"flag": "--batch"})
    dtype: DtypeName = "auto"

    def __post_init__(self) -> None:
        check_choices(self)
        if self.views is not None:
            check_views(self.views)
        if self.dictionary_prior is not None:
            DictionaryPrior(self.dictionary_prior)
        if self.batch_size < 1:
            raise ValueError(f"batch_size is {self.batch_size}; expected at least 1")

    def over(self, own: "ReadingOptions") -> "ReadingOptions":
        """These options where they are given, else the model's `own`, else those of the original."""
        prior = 1.0 if self.dictionary_prior is None and self.lexicon is not None else self.dictionary_prior
        return dataclasses.replace(
            self,
            views=self.views or own.views or SINGLE_VIEW,
            dictionary_prior=prior or own.dictionary_prior or 1.0,
            branches=self.branches or own.branches or "cross",
        )

    def __str__(self) -> str:
        """What is done beyond reading each crop once, as it is: empty if nothing."""
        shares = ", ".join(f"{margin:g}" for margin in self.views or SINGLE_VIEW)
        views = "" if shares == "0" else f", test-time views {shares}"
        return views + (f", dictionary prior {self.dictionary_prior:g}" if (self.dictionary_prior or 1) != 1 else "")
