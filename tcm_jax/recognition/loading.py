"""From a model directory or a training's working directory to a recognizer that can run."""

import dataclasses
import os

import jax.numpy as jnp

from tcm_jax.config import from_dict
from tcm_jax.images.decoding import MEAN_STD_0_5
from tcm_jax.loading import LoadedModel, load
from tcm_jax.models.clip4str import CLIP4STRConfig
from tcm_jax.models.layers import compute_dtype
from tcm_jax.pretrained import Pretrained
from tcm_jax.recognition.model import RecognitionModel
from tcm_jax.recognition.options import ReadingOptions


def load_recognizer(checkpoint: str | os.PathLike, options: ReadingOptions) -> LoadedModel[RecognitionModel]:
    """Reads a recognizer, which then has `options`, and its own where these have none.

    Args:
        checkpoint: a model directory, or the working directory of a training run (its `best`, else its
            `last`).

    Raises:
        FileNotFoundError: no model at `checkpoint`.
        ValueError: a broken model, or one of another kind.
    """

    def build(contents: Pretrained) -> RecognitionModel:
        config = from_dict(CLIP4STRConfig, contents.model, "model")
        if options.caption_charset is not None:
            config = dataclasses.replace(config, caption_charset=options.caption_charset)
        mean, std = contents.preprocessing["mean"], contents.preprocessing["std"]
        if options.normalization == "half":
            mean, std = MEAN_STD_0_5, MEAN_STD_0_5
        own = from_dict(ReadingOptions, contents.inference, "inference")
        return RecognitionModel(config, mean, std, jnp.dtype(compute_dtype(options.dtype)), options=options.over(own))

    return load(checkpoint, "recognition", build, options.normalization)
