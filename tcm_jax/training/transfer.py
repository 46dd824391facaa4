"""Filling random parameters from those of another model, and the report of what became of each."""

from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

import jax
import numpy as np

from tcm_jax.models.clip import CLIPConfig
from tcm_jax.pretrained import flatten, unflatten

_COLLECTIONS = ("params", "batch_stats")
_OUTPUTS = {"out", "proj", "c_proj"}  # an attention's last layer; the others are its projections

LoadStatus = Literal["loaded", "resized", "new"]
Choose = Callable[[str, np.ndarray | None, jax.Array], tuple[LoadStatus, Any]]


@dataclass
class LoadReport:
    """What became of every parameter, by path; str() is the text for the user."""

    loaded: list[str] = field(default_factory=list)
    resized: list[str] = field(default_factory=list)
    new: list[str] = field(default_factory=list)
    unused: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    def __str__(self) -> str:
        everything = _count_modules([*self.loaded, *self.resized, *self.new, *self.unused])

        def names(paths: list[str]) -> str:
            """The largest modules all of whose parameters are listed, by name and number, and the other paths."""
            counts = _count_modules(paths)
            module = (next((m for m in _modules(path) if 1 < counts[m] == everything[m]), path) for path in paths)
            return ", ".join(sorted({f"all {counts[name]} of {name}" if name in counts else name for name in module}))

        titled = (("resized", self.resized), ("newly initialized", self.new), ("not used", self.unused))
        lines = [f"{title} {len(paths)}: {names(paths)}" for title, paths in titled if paths]
        return "\n".join([f"loaded {len(self.loaded)} tensors", *lines, *self.notes])


def transfer(
    tree: Mapping[str, Any], source: Mapping[str, np.ndarray], choose: Choose, notes: list[str]
) -> tuple[dict[str, Any], LoadReport]:
    """A tree with values of a source in place of its own.

    Args:
        tree: random parameters; the result keeps their dtypes and their shardings.
        source: tensors by path.
        choose: (path, the source's tensor or None, the random one) -> what becomes of it, and the tensor to take; None
            if a tensor of the source is required.
        notes: for the report.

    Raises:
        ValueError: a tensor is missing or has another shape; the message names all of them.
    """
    report, problems, result, rest = LoadReport(notes=notes), [], {}, dict(source)
    for path, random in flatten(tree).items():
        old = rest.pop(path, None)
        status, new = choose(path, old, random)
        if new is None:
            problems.append(f"{path} {tuple(random.shape)} is missing")
        elif new.shape != random.shape:
            shape = (new if old is None else old).shape
            problems.append(f"{path} has shape {tuple(shape)}; the model needs {tuple(random.shape)}")
        else:
            getattr(report, status).append(path)
            result[path] = new if new is random else _shard(new.astype(random.dtype), random.sharding)
    report.unused = sorted(rest)
    if problems:
        raise ValueError("the model directory does not fit the model:\n  " + "\n  ".join(problems))
    return unflatten(result), report


def _shard(array: Any, sharding: Any) -> jax.Array:
    """A host array, the same in every process, on the devices; each process sends its own shards only."""
    return jax.make_array_from_callback(array.shape, sharding, lambda index: array[index])


def split_heads_as(path: str, old: np.ndarray, random: jax.Array) -> np.ndarray:
    """An attention parameter with its channels split into as many heads as `random` has; others as they are."""
    same_values = "attn" in path and _flat_heads(path, old) == _flat_heads(path, random)
    return old.reshape(random.shape) if same_values else old


def differences(old: CLIPConfig, new: CLIPConfig, name: str) -> list[str]:
    """Notes on what differs in two towers with the same tensors."""
    return [
        f"{name}.{key} is {getattr(new, key)!r}; the directory's model has {getattr(old, key)!r}"
        for key in ("vision_heads", "text_heads", "activation")
        if getattr(old, key) != getattr(new, key)
    ]


def _flat_heads(path: str, leaf: np.ndarray | jax.Array) -> tuple[int, ...]:
    """The shape of an attention parameter with heads and head width as one dimension."""
    layer, name = path.split("/")[-2:]
    if layer in _OUTPUTS and name == "kernel":  # [k, e, d]
        return (-1, *leaf.shape[2:], leaf.size)
    if layer in _OUTPUTS or name == "positional_embedding":
        return leaf.shape
    return (*leaf.shape[:-2], -1, leaf.size)  # [d, k, e] or [k, e]


def _modules(path: str) -> list[str]:
    """The modules that a path belongs to, larger ones first: "clip_model", "clip_model/visual" and so on."""
    ends = [i for i, character in enumerate(path) if character == "/"]
    return [path[:end] for end in ends if path[:end] not in _COLLECTIONS]


def _count_modules(paths: list[str]) -> Counter[str]:
    """Number of parameters in each module."""
    return Counter(module for path in paths for module in _modules(path))
