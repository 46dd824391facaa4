"""Filling random parameters from those of another model, and the report of what became of each."""

from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

import jax
import numpy as np

from tcm_jax.models.clip import CLIPConfig
from tcm_jax.pretrained import flatten, unflatten
from tcm_jax.training.partition import place_on_devices

_COLLECTIONS = ("params", "batch_stats")
_OUTPUTS = {"out", "proj", "c_proj"}  # an attention's last layer; the others are its projections

LoadStatus = Literal["loaded", "resized", "new"]
Choose = Callable[[str, np.ndarray | None, jax.Array], tuple[LoadStatus, Any]]


@dataclass
class LoadReport:
    """What became of every parameter, by path; str() tells the user."""

    loaded: list[str] = field(default_factory=list)
    resized: list[str] = field(default_factory=list)
    new: list[str] = field(default_factory=list)
    unused: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    def __str__(self) -> str:
        everything = Counter(
            part for path in (*self.loaded, *self.resized, *self.new, *self.unused) for part in _parts(path)
        )

        def names(paths: list[str]) -> str:
            """The largest parts of the model all of which is listed, by name and number, and the other paths."""
            counts = Counter(part for path in paths for part in _parts(path))
            whole = (next((p for p in _parts(path) if 1 < counts[p] == everything[p]), path) for path in paths)
            return ", ".join(sorted({f"all {counts[name]} of {name}" if name in counts else name for name in whole}))

        lines = [f"loaded {len(self.loaded)} tensors"]
        for title, paths in (
            ("resized", self.resized),
            ("newly initialized", self.new),
            ("not used", self.unused),
        ):
            if paths:
                lines.append(f"{title} {len(paths)}: {names(paths)}")
        return "\n".join([*lines, *self.notes])


def transfer(
    tree: Mapping[str, Any], source: Mapping[str, np.ndarray], choose: Choose, notes: list[str]
) -> tuple[dict[str, Any], LoadReport]:
    """A tree with values of a source in place of its own.

    Args:
        tree: random parameters; the result keeps their dtypes and their places on the devices.
        source: tensors by path.
        choose: (path, the source's tensor or None, the random one) -> what becomes of it, and the tensor to take; None
            if it can't do without one.
        notes: for the report.

    Raises:
        ValueError: a tensor is missing or has another shape; the message names all of them.
    """
    report, problems, result, rest = LoadReport(notes=notes), [], {}, dict(source)
    for path, random in flatten(tree).items():
        old = rest.pop(path, None)
        fate, new = choose(path, old, random)
        if new is None:
            problems.append(f"{path} {tuple(random.shape)} is missing")
        elif new.shape != random.shape:
            shape = (new if old is None else old).shape
            problems.append(f"{path} has shape {tuple(shape)}; the model needs {tuple(random.shape)}")
        else:
            getattr(report, fate).append(path)
            result[path] = new if new is random else place_on_devices(new.astype(random.dtype), random.sharding)
    report.unused = sorted(rest)
    if problems:
        raise ValueError("the model directory does not fit the model:\n  " + "\n  ".join(problems))
    return unflatten(result), report


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


def _parts(path: str) -> list[str]:
    """The parts of the model that a path belongs to, larger ones first: "clip_model", "clip_model/visual" and so on."""
    ends = [i for i, character in enumerate(path) if character == "/"]
    return [path[:end] for end in ends if path[:end] not in _COLLECTIONS]
