"""From a model directory or a training's working directory to a detector that can run."""

import dataclasses
import difflib
import os
import typing
from collections.abc import Mapping
from typing import Any

import jax.numpy as jnp

from tcm_jax.config import from_dict
from tcm_jax.detection.model import DetectionConfig, DetectionModel, detection_config
from tcm_jax.detection.options import DetectionOptions
from tcm_jax.loading import LoadedModel, load
from tcm_jax.models.layers import compute_dtype
from tcm_jax.pretrained import Pretrained


def load_detector(checkpoint: str | os.PathLike, options: DetectionOptions) -> LoadedModel[DetectionModel]:
    """Reads a detector, which then has `options`, and its own where these have none.

    Args:
        checkpoint: a model directory, or the working directory of a training run (its `best`, else its
            `last`).

    Raises:
        FileNotFoundError: no model at `checkpoint`.
        ValueError: a broken model, one of another kind, or a value of the decoding that the family does not have.
    """

    def build(contents: Pretrained) -> DetectionModel:
        mean, std = contents.preprocessing["mean"], contents.preprocessing["std"]
        own = from_dict(DetectionOptions, contents.inference, "inference")
        dtype = jnp.dtype(compute_dtype(options.dtype))
        return DetectionModel(detection_config(contents.model), mean, std, dtype, options=options.over(own))

    loaded = load(checkpoint, "detection", build, "checkpoint")
    if not options.decoding:
        return loaded
    n = loaded.network
    config = _with_decoding(n.config, options.decoding)
    return dataclasses.replace(loaded, network=DetectionModel(config, n.mean, n.std, n.model.dtype, options=n.options))


def _with_decoding(config: DetectionConfig, values: Mapping[str, Any]) -> DetectionConfig:
    """`config` with other values of the decoding.

    Raises:
        ValueError: an unknown name, or a value of another type or outside its choices.
    """
    detector: Any = config.detector
    hints = typing.get_type_hints(type(detector.decoding))
    for name, value in values.items():
        if name not in hints:
            near = difflib.get_close_matches(name, hints, n=1)
            hint = f"did you mean {near[0]!r}?" if near else f"known are {', '.join(hints)}"
            raise ValueError(f"{name!r} is no parameter of a {config.family} detector's decoding; {hint}")
        kind, own = hints[name], getattr(detector.decoding, name)
        fits = isinstance(value, (int, float) if kind is float else kind)
        if not fits or (kind is bool) != isinstance(value, bool):  # a bool is an int for Python
            raise ValueError(f"{name} is {value!r}; expected {kind.__name__}, such as {own!r}")
    decoding = dataclasses.replace(detector.decoding, **values)
    return dataclasses.replace(config, detector=dataclasses.replace(detector, decoding=decoding))
