"""Rules between PyTorch state dicts and Flax parameter trees, applied in both directions.

A rule names one PyTorch key and the one or several leaves it becomes; "{}" stands for a number in both. Trees are flat
here: {"params/visual/conv1/kernel": array}.
"""

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

Shape = tuple[int, ...]


class ConversionError(ValueError):
    """A checkpoint and a model don't fit each other; the message lists every key concerned."""


@dataclass(frozen=True)
class KeyRule:
    """One PyTorch key and its leaves.

    Args:
        source: PyTorch key.
        targets: paths of the leaves; several share the tensor's first axis evenly.
        axes: permutation of the axes from PyTorch to Flax, as for `np.transpose`; None keeps their order.
        heads: the axis of a leaf that counts heads; it and the next one (channels) are one axis in PyTorch.
    """

    source: str
    targets: tuple[str, ...]
    axes: tuple[int, ...] | None = None
    heads: int | None = None

    def to_flax(self, tensor: np.ndarray, shapes: Sequence[Shape]) -> list[np.ndarray]:
        """The leaves, of `shapes` if the tensor fits them; views of the tensor where that is possible.

        Raises ValueError or IndexError if the tensor has other dimensions or another number of values.
        """
        leaves = np.split(tensor, len(self.targets)) if len(self.targets) > 1 else [tensor]
        if self.axes is not None:
            leaves = [x.transpose(self.axes) for x in leaves]
        if self.heads is not None:
            leaves = [x.reshape(shape) for x, shape in zip(leaves, shapes, strict=True)]
        return leaves

    def to_torch(self, leaves: Sequence[np.ndarray]) -> np.ndarray:
        """The tensor; the inverse of `to_flax`."""
        if self.heads is not None:
            leaves = [x.reshape(*x.shape[: self.heads], -1, *x.shape[self.heads + 2 :]) for x in leaves]
        if self.axes is not None:
            leaves = [x.transpose(np.argsort(self.axes)) for x in leaves]
        return np.concatenate(leaves) if len(leaves) > 1 else leaves[0]


_ROLES = ("query", "key", "value")
_BIAS = KeyRule("bias", ("bias",))
_NORM = (KeyRule("weight", ("scale",)), _BIAS)
# The rules of each kind of module; both names follow that of the module.
MODULES = {
    "linear": (KeyRule("weight", ("kernel",), (1, 0)), _BIAS),  # (out, in) -> (in, out)
    # (out, in / groups, h, w) -> (h, w, in / groups, out), perhaps without bias
    "conv": (KeyRule("weight", ("kernel",), (2, 3, 1, 0)), _BIAS),
    "transposed_conv": (KeyRule("weight", ("kernel",), (2, 3, 0, 1)), _BIAS),  # (in, out, h, w) -> (h, w, in, out)
    "layer_norm": _NORM,
    "batch_norm": (*_NORM, KeyRule("running_mean", ("mean",)), KeyRule("running_var", ("var",))),
    "embedding": (KeyRule("weight", ("embedding",)),),
    # Query, key or value of an attention: (k e, d) -> (d, k, e) and (k e,) -> (k, e), perhaps without bias.
    "projection": (KeyRule("weight", ("kernel",), (1, 0), heads=1), KeyRule("bias", ("bias",), heads=0)),
    "output_projection": (KeyRule("weight", ("kernel",), (1, 0), heads=0), _BIAS),  # (d, k e) -> (k, e, d)
    # PyTorch's MultiheadAttention -> `tcm_jax.models.layers.Attention`.
    "attention": (
        KeyRule("in_proj_weight", tuple(f"{role}/kernel" for role in _ROLES), (1, 0), heads=1),
        KeyRule("in_proj_bias", tuple(f"{role}/bias" for role in _ROLES), heads=0),
        KeyRule("out_proj.weight", ("out/kernel",), (1, 0), heads=0),
        KeyRule("out_proj.bias", ("out/bias",)),
    ),
}


def module(kind: str, source: str, name: str = "") -> list[KeyRule]:
    """The rules of a module, one of `MODULES`.

    Args:
        source: PyTorch's name. name: ours, written in PyTorch's way; "" if it is the same.
    """
    rules = []
    for rule in MODULES[kind]:
        collection = "batch_stats" if rule.source.startswith("running_") else "params"
        targets = tuple(f"{_path(name or source, collection)}/{target}" for target in rule.targets)
        rules.append(replace(rule, source=f"{source}.{rule.source}", targets=targets))
    return rules


def modules(kind: str, *sources: str) -> list[KeyRule]:
    """The rules of several modules whose names are the same in both."""
    return [rule for source in sources for rule in module(kind, source)]


def parameter(source: str, name: str = "") -> KeyRule:
    """The rule of a parameter that is the same in both; `name` as in `module`."""
    return KeyRule(source, (_path(name or source),))


def _path(name: str, collection: str = "params") -> str:
    """Path in our models: "neck.fpems.{}.bn" -> "params/neck/fpems_{}/bn"."""
    return f"{collection}/" + re.sub(r"\.(\d+|\{\})", r"_\1", name).replace(".", "/")


def to_flax(
    state: Mapping[str, np.ndarray], rules: Iterable[KeyRule], template: Mapping[str, Shape], drop: Iterable[str] = ()
) -> dict[str, np.ndarray]:
    """Converts a state dict to a flat tree of float32 leaves; they may be views of the state's tensors.

    Args:
        template: shape of every leaf of the model.
        drop: regular expressions of keys that are left out on purpose.

    Raises:
        ConversionError: a key that no rule uses, a leaf written twice or never, a shape that differs.
    """
    patterns = [(pattern(rule.source), rule) for rule in rules]
    dropped = [re.compile(d) for d in drop]
    tree: dict[str, np.ndarray] = {}
    problems = []
    for key, tensor in state.items():
        if any(d.fullmatch(key) for d in dropped):
            continue
        found = next(((m, rule) for source, rule in patterns if (m := source.fullmatch(key))), None)
        if found is None:
            problems.append(f"no rule uses {key} {tuple(tensor.shape)}")
            continue
        match, rule = found
        paths = [t.format(*match.groups()) for t in rule.targets]
        foreign = [p for p in paths if p not in template]
        if foreign:
            problems.append(f"{key}: the model has no {foreign[0]}")
            continue
        shapes = [template[p] for p in paths]
        try:
            leaves = rule.to_flax(np.asarray(tensor, np.float32), shapes)
        except (ValueError, IndexError):
            leaves = []
        # The inverse distinguishes a tensor from another one with as many values.
        if [x.shape for x in leaves] != shapes or rule.to_torch(leaves).shape != tensor.shape:
            problems.append(f"{key} {tuple(tensor.shape)} does not fit {', '.join(paths)} {shapes}")
            continue
        problems += [f"{key}: {path} is written twice" for path in paths if path in tree]
        tree.update(zip(paths, leaves, strict=True))
    problems += [f"nothing fills {p} {template[p]}" for p in template if p not in tree]
    if problems:
        raise ConversionError(f"{len(problems)} mismatches:\n  " + "\n  ".join(problems))
    return tree


def to_torch(tree: Mapping[str, np.ndarray], rules: Iterable[KeyRule]) -> dict[str, np.ndarray]:
    """Converts a flat tree to a PyTorch state dict of float32 arrays; the inverse of `to_flax`.

    Raises:
        ConversionError: a leaf that no rule uses, or of several that make one tensor, some are missing.
    """
    state, used = {}, set()
    for rule in rules:
        for match in filter(None, map(pattern(rule.targets[0]).fullmatch, tree)):
            paths = [t.format(*match.groups()) for t in rule.targets]
            key = rule.source.format(*match.groups())
            missing = [p for p in paths if p not in tree]
            if missing:
                raise ConversionError(f"{key} needs {', '.join(missing)}, which the model does not have")
            used.update(paths)
            leaves = [np.asarray(tree[p], np.float32) for p in paths]
            state[key] = np.asarray(rule.to_torch(leaves), order="C")
    unused = sorted(set(tree) - used)
    if unused:
        raise ConversionError("no rule uses\n  " + "\n  ".join(unused))
    return state


def pattern(template: str) -> re.Pattern[str]:
    """Matches `template` with numbers at "{}"."""
    return re.compile(re.escape(template).replace(r"\{\}", r"(\d+)"))
