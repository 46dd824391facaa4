"""From a model directory or a training's working directory to a recognizer that can run."""

import dataclasses
import os
from collections.abc import Sequence

import jax.numpy as jnp

from tcm_jax.config import from_dict
from tcm_jax.images.decoding import MEAN_STD_0_5, SINGLE_VIEW, check_margins
from tcm_jax.loading import LoadedModel, load
from tcm_jax.models.clip4str import CLIP4STRConfig
from tcm_jax.models.layers import compute_dtype
from tcm_jax.pretrained import Pretrained
from tcm_jax.recognition.model import RecognitionModel
from tcm_jax.text.vocabulary import Vocabulary

NORMALIZATIONS = ("checkpoint", "half")


def load_model(
    checkpoint: str | os.PathLike,
    normalization: str = "checkpoint",
    dtype: str = "auto",
    caption_charset: str | None = None,
    margins: Sequence[float] | None = None,
    vocabulary_weight: float | None = None,
) -> LoadedModel[RecognitionModel]:
    """Reads a recognizer.

    Args:
        checkpoint: a model directory, or the working directory of a training run (its `best`, else its
            `last`).
        normalization: "checkpoint" as in training, "half" with mean and deviation 0.5.
        dtype: of the computation; "auto" is float32 on a CPU and bfloat16 elsewhere.
        caption_charset: overrides which characters of a prediction reach the text encoder.
        margins: of the pictures of each word that are read; None: those of the model, else the word as it is.
        vocabulary_weight: how much known words are preferred, see `CLIP4STRConfig`; None: as much as the model does.

    Raises:
        FileNotFoundError: no model at `checkpoint`.
        ValueError: a broken model, one of another kind, or an argument outside its choices.
    """
    if normalization not in NORMALIZATIONS:
        raise ValueError(f"normalization is {normalization!r}; expected one of {', '.join(NORMALIZATIONS)}")

    def build(contents: Pretrained) -> RecognitionModel:
        config = from_dict(CLIP4STRConfig, contents.model, "model")
        if caption_charset is not None:
            config = dataclasses.replace(config, caption_charset=caption_charset)
        if vocabulary_weight is not None:
            config = dataclasses.replace(config, vocabulary_weight=vocabulary_weight)
        mean, std = contents.preprocessing["mean"], contents.preprocessing["std"]
        if normalization == "half":
            mean, std = MEAN_STD_0_5, MEAN_STD_0_5
        ways = contents.preprocessing.get("margins", SINGLE_VIEW) if margins is None else margins
        return RecognitionModel(config, mean, std, jnp.dtype(compute_dtype(dtype)), margins=ways)

    if margins is not None:
        check_margins(margins)  # else it would be the model's fault
    if vocabulary_weight is not None:
        Vocabulary(vocabulary_weight)  # as above
    return load(checkpoint, "recognition", build, normalization)
