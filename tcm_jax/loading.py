"""A model directory as something that can run: its weights beside the functions that take them."""

import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Generic, TypeVar

import jax
import jax.numpy as jnp

from tcm_jax import pretrained
from tcm_jax.pretrained import Pretrained, find_model

_PURPOSES = {"recognition": "reading words", "detection": "detecting text"}

Network = TypeVar("Network", bound=Any)


@dataclass(frozen=True)
class LoadedModel(Generic[Network]):
    """A recognizer or a detector, ready to run; str() tells the user what runs where and how.

    Args:
        directory: the model directory.
        contents: what it holds; network: what computes, with normalization and dtype applied.
        normalization: of the images, in words.
    """

    directory: Path
    contents: Pretrained
    network: Network
    normalization: str

    @property
    def dtype(self) -> str:
        """Name of the dtype of the computation."""
        return jnp.dtype(self.network.model.dtype).name

    def call(self, method: Callable, *arguments: Any) -> Any:
        """A method of `network`; float32 is float32 also on GPUs and TPUs, which multiply with less by default."""
        with jax.default_matmul_precision("float32" if self.dtype == "float32" else None):
            return method(*arguments)

    def predict(self, *arguments: Any) -> Any:
        """`network.predict`, by `call`."""
        return self.call(self.network.predict, *arguments)

    def __str__(self) -> str:
        device = jax.devices()[0]
        mean, std = (", ".join(f"{v:.4g}" for v in values) for values in (self.network.mean, self.network.std))
        return (
            f"{self.directory} on {device.platform} ({device.device_kind}), {self.dtype}, "
            f"normalization {self.normalization} (mean {mean}; std {std})"
        )


def load(
    checkpoint: str | os.PathLike, kind: str, build: Callable[[Pretrained], Network], normalization: str
) -> LoadedModel[Network]:
    """The model at `checkpoint`, of the task `kind`, with what `build` makes of its contents."""
    directory = find_model(checkpoint)
    contents = pretrained.load(directory)
    if contents.task != kind:
        raise ValueError(f"{directory} is a model for {contents.task!r}; {_PURPOSES[kind]} needs one for {kind!r}")
    try:
        network = build(contents)
    except (KeyError, TypeError, ValueError) as error:
        raise ValueError(f"{directory / pretrained.CONFIG} describes no model for {kind}: {error}") from error
    _check_shapes(directory, network, contents)
    return LoadedModel(directory, contents, network, normalization)


def _check_shapes(directory: Path, network: Any, contents: Pretrained) -> None:
    """Raises ValueError unless the weights are those of the model that the configuration describes."""
    expected = pretrained.shapes(jax.eval_shape(network.init, jax.random.key(0)))
    found = pretrained.shapes(contents.variables)
    for path in sorted(expected.keys() | found.keys()):
        if expected.get(path) != found.get(path):
            raise ValueError(
                f"{directory}: weight {path} has shape {found.get(path)}, but {pretrained.CONFIG} asks for "
                f"{expected.get(path)} (None: there is no such weight)"
            )
