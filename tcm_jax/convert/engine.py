"""Tables of rules between PyTorch state dicts and Flax parameter trees, run in both directions.

A rule names one PyTorch key and the one or several leaves it becomes; "{}" stands for a number in both. Trees
are flat here: {"params/visual/conv1/kernel": array}.
"""

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

Shape = tuple[int, ...]


class ConversionError(ValueError):
    """A checkpoint and a model don't fit each other; the message lists every key concerned."""


@dataclass(frozen=True)
class KeyRule:
    """One PyTorch key and its leaves.

    Args:
        source: PyTorch key; targets: paths of leaves.
        to_flax: tensor and the leaves' shapes -> leaves; to_torch: leaves -> tensor.
    """

    source: str
    targets: tuple[str, ...]
    to_flax: Callable[[np.ndarray, Sequence[Shape]], list[np.ndarray]]
    to_torch: Callable[[Sequence[np.ndarray]], np.ndarray]


def _pattern(template: str) -> re.Pattern:
    return re.compile(re.escape(template).replace(r"\{\}", r"(\d+)"))


def copy(source: str, target: str) -> KeyRule:
    return KeyRule(source, (target,), lambda x, _: [x], lambda xs: xs[0])


def linear(source: str, target: str) -> KeyRule:
    """Weight (out, in) -> kernel (in, out)."""
    return KeyRule(source, (target,), lambda x, _: [x.T], lambda xs: xs[0].T)


def convolution(source: str, target: str) -> KeyRule:
    """Weight (out, in / groups, h, w) -> kernel (h, w, in / groups, out)."""
    return KeyRule(source, (target,), lambda x, _: [x.transpose(2, 3, 1, 0)], lambda xs: xs[0].transpose(3, 2, 0, 1))


def deconvolution(source: str, target: str) -> KeyRule:
    """Transposed convolution's weight (in, out, h, w) -> kernel (h, w, in, out)."""
    return KeyRule(source, (target,), lambda x, _: [x.transpose(2, 3, 0, 1)], lambda xs: xs[0].transpose(2, 3, 0, 1))


def split_heads(source: str, target: str) -> KeyRule:
    """Projection weight (k e, d) -> kernel (d, k, e)."""
    return KeyRule(source, (target,), lambda x, s: [_reshape(x.T, s[0])], lambda xs: xs[0].reshape(len(xs[0]), -1).T)


def merge_heads(source: str, target: str) -> KeyRule:
    """Output projection weight (d, k e) -> kernel (k, e, d)."""
    return KeyRule(
        source, (target,), lambda x, s: [_reshape(x.T, s[0])], lambda xs: xs[0].reshape(-1, xs[0].shape[-1]).T
    )


def head_bias(source: str, target: str) -> KeyRule:
    """Bias (k e,) -> (k, e)."""
    return KeyRule(source, (target,), lambda x, s: [_reshape(x, s[0])], lambda xs: xs[0].reshape(-1))


def attention(source: str, target: str) -> list[KeyRule]:
    """PyTorch's MultiheadAttention -> `tcm_jax.models.layers.Attention`."""
    kernels = tuple(f"{target}/{name}/kernel" for name in ("query", "key", "value"))
    biases = tuple(f"{target}/{name}/bias" for name in ("query", "key", "value"))

    def thirds(x: np.ndarray) -> list[np.ndarray]:
        return np.split(x, 3) if len(x) % 3 == 0 else [x]

    return [
        KeyRule(
            f"{source}.in_proj_weight",
            kernels,
            lambda x, shapes: [_reshape(w.T, s) for w, s in zip(thirds(x), shapes, strict=False)],
            lambda xs: np.concatenate([x.reshape(len(x), -1).T for x in xs]),
        ),
        KeyRule(
            f"{source}.in_proj_bias",
            biases,
            lambda x, shapes: [_reshape(w, s) for w, s in zip(thirds(x), shapes, strict=False)],
            lambda xs: np.concatenate([x.reshape(-1) for x in xs]),
        ),
        merge_heads(f"{source}.out_proj.weight", f"{target}/out/kernel"),
        copy(f"{source}.out_proj.bias", f"{target}/out/bias"),
    ]


def dense(source: str, target: str) -> list[KeyRule]:
    """PyTorch's Linear -> Dense."""
    return [linear(f"{source}.weight", f"{target}/kernel"), copy(f"{source}.bias", f"{target}/bias")]


def norm(source: str, target: str) -> list[KeyRule]:
    """PyTorch's LayerNorm -> LayerNorm."""
    return [copy(f"{source}.weight", f"{target}/scale"), copy(f"{source}.bias", f"{target}/bias")]


def batch_norm(source: str, target: str) -> list[KeyRule]:
    """PyTorch's BatchNorm -> BatchNorm; the running statistics lie in the collection batch_stats."""
    statistics = target.replace("params/", "batch_stats/", 1)
    return [
        *norm(source, target),
        copy(f"{source}.running_mean", f"{statistics}/mean"),
        copy(f"{source}.running_var", f"{statistics}/var"),
    ]


def to_flax(
    state: Mapping[str, np.ndarray],
    rules: Iterable[KeyRule],
    template: Mapping[str, Shape],
    drop: Iterable[str] = (),
) -> dict[str, np.ndarray]:
    """Converts a state dict to a flat tree of float32 leaves; they may be views of the state's tensors.

    Args:
        template: shape of every leaf of the model.
        drop: regular expressions of keys that are left out on purpose.

    Raises:
        ConversionError: a key that no rule uses, a leaf written twice, a shape that differs, a leaf left
            unfilled.
    """
    patterns = [(_pattern(rule.source), rule) for rule in rules]
    dropped = [re.compile(d) for d in drop]
    tree: dict[str, np.ndarray] = {}
    problems = []
    for key, tensor in state.items():
        if any(d.fullmatch(key) for d in dropped):
            continue
        matches = [(m, rule) for pattern, rule in patterns if (m := pattern.fullmatch(key))]
        if not matches:
            problems.append(f"no rule uses {key} {tuple(tensor.shape)}")
            continue
        match, rule = matches[0]
        paths = [t.format(*match.groups()) for t in rule.targets]
        foreign = [p for p in paths if p not in template]
        if foreign:
            problems.append(f"{key}: the model has no {foreign[0]}")
            continue
        shapes = [template[p] for p in paths]
        try:
            leaves = rule.to_flax(np.asarray(tensor, np.float32), shapes)
        except ValueError:  # a tensor with fewer or more axes
            leaves = []
        # The way back tells a tensor from another one with as many values.
        if [x.shape for x in leaves] != shapes or rule.to_torch(leaves).shape != tensor.shape:
            problems.append(f"{key} {tuple(tensor.shape)} does not fit {', '.join(paths)} {shapes}")
            continue
        for path, leaf in zip(paths, leaves, strict=True):
            if path in tree:
                problems.append(f"{key}: {path} is written twice")
            tree[path] = leaf
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
        pattern = _pattern(rule.targets[0])
        for match in filter(None, map(pattern.fullmatch, tree)):
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


def _reshape(x: np.ndarray, shape: Shape) -> np.ndarray:
    """`x` in `shape` if it has as many values; else unchanged, so that the caller reports both shapes."""
    return x.reshape(shape) if x.size == np.prod(shape) else x
