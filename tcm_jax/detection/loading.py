"""From a model directory or a training's working directory to a detector that can run."""

import dataclasses
import difflib
import os
import typing
from collections.abc import Mapping
from typing import Any

import jax.numpy as jnp

from tcm_jax.detection.model import DetectionConfig, DetectionModel, detection_config
from tcm_jax.loading import LoadedModel, load
from tcm_jax.models.layers import compute_dtype
from tcm_jax.pretrained import Pretrained


def load_detector(
    checkpoint: str | os.PathLike, dtype: str = "auto", decoding: Mapping[str, Any] | None = None
) -> LoadedModel[DetectionModel]:
    """Reads a detector; arguments and errors as of `load_model`.

    Args:
        decoding: overrides parameters of the decoding, the family's `decoding_fields`.
    """

    def build(contents: Pretrained) -> DetectionModel:
        mean, std = contents.preprocessing["mean"], contents.preprocessing["std"]
        return DetectionModel(detection_config(contents.model), mean, std, jnp.dtype(compute_dtype(dtype)))

    model = load(checkpoint, "detection", build, "checkpoint")
    network = model.network
    config = _with_decoding(network.config, decoding or {})
    return dataclasses.replace(model, network=DetectionModel(config, network.mean, network.std, network.model.dtype))


def _with_decoding(config: DetectionConfig, overrides: Mapping[str, Any]) -> DetectionConfig:
    """`config` with other parameters of decoding.

    Raises:
        ValueError: an unknown name, or a value of another type or outside its choices.
    """
    detector: Any = config.detector
    known, hints = detector.decoding_fields, typing.get_type_hints(type(detector))
    for name, value in overrides.items():
        if name not in known:
            near = difflib.get_close_matches(name, known, n=1)
            hint = f"did you mean {near[0]!r}?" if near else f"known are {', '.join(known)}"
            raise ValueError(f"{name!r} is no parameter of a {config.family} detector's decoding; {hint}")
        kind = hints[name]
        fits = isinstance(value, (int, float) if kind is float else kind)
        if not fits or (kind is bool) != isinstance(value, bool):  # a bool is an int for Python
            raise ValueError(f"{name} is {value!r}; expected {kind.__name__}, such as {getattr(detector, name)!r}")
    return dataclasses.replace(config, detector=dataclasses.replace(detector, **overrides))
