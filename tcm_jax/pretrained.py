"""Model directories: weights and everything needed to use them, in two files that never run code.

DIR/weights.safetensors   arrays by path, "params/visual_decoder/head/kernel"
DIR/config.json           format, task, model (fields of its configuration class), preprocessing, source, license
"""

import dataclasses
import json
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import safetensors
import safetensors.numpy
from flax.traverse_util import flatten_dict, unflatten_dict

from tcm_jax.files import as_path, atomic_folder, local_copy, wrap_remote_errors
from tcm_jax.renames import renamed

FORMAT = "tcm_jax/1"
WEIGHTS, CONFIG = "weights.safetensors", "config.json"

_PACKAGED = Path(__file__).with_name("weights")
_IN_WORKDIR = ("best", "last")
DETECTOR, RECOGNIZER = _PACKAGED / "detector", _PACKAGED / "recognizer"  # the models that come with the package


@dataclass(frozen=True)
class Pretrained:
    """A model directory in memory.

    Args:
        task: "recognition" (CLIP4STR), "detection" (TCM) or "clip".
        model: fields of the model's configuration class, as JSON values.
        variables: Flax collections, {"params": {...}} and perhaps {"batch_stats": {...}}.
        preprocessing: {"mean": [3 numbers], "std": [3 numbers]} of pixel values in 0..1; of a detector in 0..255,
            with "multiple" that sides are padded to.
        inference: fields of `ReadingOptions` or `DetectionOptions` that the model has of its own, as JSON values.
        source: where the weights come from; license: their licence, "unknown" if nobody said.
    """

    task: str
    model: Mapping[str, Any]
    variables: Mapping[str, Any]
    preprocessing: Mapping[str, Any]
    inference: Mapping[str, Any] = field(default_factory=dict)
    source: str = "unknown"
    license: str = "unknown"
    extra: Mapping[str, Any] = field(default_factory=dict)

    def save(self, directory: str | os.PathLike, half: bool = False) -> None:
        """Writes the directory, here or in an object store, complete or not at all; an older one is replaced.

        Args:
            half: matrices and kernels as float16, which is half as large; `load` gives float32 again, rounded to 11
                bits. Vectors, among them the variances of BatchNorm that may be large, stay as they are.

        Raises:
            ValueError: a weight that float16 can't hold.
        """
        config = {f.name: getattr(self, f.name) for f in dataclasses.fields(self) if f.name != "variables"}
        # safetensors writes the buffer as it lies in memory, whatever the strides.
        arrays = {p: np.asarray(a, order="C") for p, a in flatten(self.variables).items()}
        if half:
            arrays = {path: _halved(path, array) for path, array in arrays.items()}
        with atomic_folder(directory, replace=True, last=CONFIG) as folder:
            safetensors.numpy.save_file(arrays, folder / WEIGHTS)
            (folder / CONFIG).write_text(json.dumps({"format": FORMAT, **config}, indent=1) + "\n", "utf-8")
            (folder / WEIGHTS).chmod((folder / CONFIG).stat().st_mode)  # safetensors lets only the owner read


def load(directory: str | os.PathLike) -> Pretrained:
    """Reads a model directory, a remote one by way of a copy here.

    Raises:
        FileNotFoundError: the directory or one of its files is missing.
        ValueError: a file is broken or of another format.
    """
    directory = local_copy(directory)
    for name in (CONFIG, WEIGHTS):
        if not (directory / name).is_file():
            raise FileNotFoundError(f"{directory} is no model directory: it has no {name}")
    config = read_config(directory)
    try:
        arrays = safetensors.numpy.load_file(directory / WEIGHTS)
        return Pretrained(variables=unflatten({path: _widened(array) for path, array in arrays.items()}), **config)
    except (KeyError, TypeError, ValueError, safetensors.SafetensorError) as error:
        raise ValueError(f"{directory} is not a readable model directory: {error}") from error


def find_model(checkpoint: str | os.PathLike) -> Path:
    """The model directory at `checkpoint`: itself, or `best` or `last` of a training run's working directory.

    Raises:
        FileNotFoundError: neither.
        OSError: a remote path can't be reached.
    """
    root = as_path(checkpoint)
    with wrap_remote_errors(root):
        for directory in (root, *(root / name for name in _IN_WORKDIR)):
            if all((directory / name).is_file() for name in (CONFIG, WEIGHTS)):
                return directory
        exists, is_file = root.exists(), root.is_file()
    if not exists:
        problem = "does not exist"
    elif is_file:
        problem = "is a file; a checkpoint of PyTorch is converted with `tcm-jax convert` first"
    else:
        problem = f"has no {CONFIG} and {WEIGHTS}, nor has a folder best or last in it"
    raise FileNotFoundError(f"{root} {problem}; expected a model directory or a training's working directory")


def _halved(path: str, array: np.ndarray) -> np.ndarray:
    if array.dtype != np.float32 or array.ndim < 2:
        return array
    if not (np.abs(array) <= np.finfo(np.float16).max).all():
        raise ValueError(f"{path} has values up to {np.abs(array).max():g}, which float16 can't hold")
    return array.astype(np.float16)


def _widened(array: np.ndarray) -> np.ndarray:
    """Models compute with float32 parameters, or cast them."""
    return array.astype(np.float32) if array.dtype == np.float16 else array


def read_config(directory: str | os.PathLike) -> dict[str, Any]:
    """What a model directory says of its weights: the fields of `Pretrained` but for its variables.

    Raises:
        FileNotFoundError: the file is missing.
        ValueError: it is broken or of another format.
    """
    try:
        config = json.loads(local_copy(as_path(directory, CONFIG)).read_text("utf-8"))
        written = config.pop("format")
        if written != FORMAT:
            raise ValueError(f"format is {written!r}, expected {FORMAT!r}")
    except (KeyError, TypeError, ValueError) as error:
        raise ValueError(f"{directory} is not a readable model directory: {error}") from error
    return renamed(config)


def flatten(tree: Mapping[str, Any]) -> dict[str, Any]:
    """Nested dictionaries to {"a/b/c": leaf}."""
    return flatten_dict(tree, sep="/")


def unflatten(flat: Mapping[str, Any]) -> dict[str, Any]:
    """The inverse of `flatten`."""
    return unflatten_dict(dict(flat), sep="/")


def shapes(variables: Mapping[str, Any]) -> dict[str, tuple[int, ...]]:
    """Shape of every leaf by path."""
    return {path: tuple(leaf.shape) for path, leaf in flatten(variables).items()}


def count_parameters(variables: Mapping[str, Any]) -> int:
    """Number of values in the collection `params`."""
    return sum(int(np.prod(leaf.shape)) for leaf in flatten(variables["params"]).values())
