"""How every parameter is sharded over the mesh: ordered tables of rules, by the path of the parameter.

The first rule whose pattern is found in a path gives its PartitionSpec. Matrices are cut along the width of the model
over "fsdp", and along attention heads or hidden units over "tensor" (Megatron-LM, section 3: the first product of a
pair by columns, the second by rows, so that a block exchanges its result once). Vectors are small and are replicated.
"""

import re
from collections.abc import Mapping, Sequence
from typing import Any

import jax
from jax.sharding import Mesh, NamedSharding
from jax.sharding import PartitionSpec as P

from tcm_jax.pretrained import shapes

Rules = Sequence[tuple[str, P]]


def specs(params: Mapping[str, Any], rules: Rules) -> dict[str, P]:
    """The PartitionSpec of every parameter by path.

    Raises:
        ValueError: a parameter without a rule, a rule that no parameter needs, or one with more axes than its
            parameter; the message names all of them.
    """
    found: dict[str, P] = {}
    used: set[int] = set()
    problems = []
    for path, shape in shapes(params).items():
        number = next((i for i, (pattern, _) in enumerate(rules) if re.search(pattern, path)), None)
        if number is None:
            problems.append(f"{path} {shape} has no rule")
            continue
        used.add(number)
        found[path] = rules[number][1]
        if len(found[path]) > len(shape):
            problems.append(f"{path} has shape {shape}; its rule has {tuple(found[path])}")
    problems += [f"no parameter has the rule {rule!r}" for i, (rule, _) in enumerate(rules) if i not in used]
    if problems:
        raise ValueError("the partition rules don't fit the model:\n  " + "\n  ".join(problems))
    return found


def divisible_spec(spec: P, shape: Sequence[int], mesh: Mesh) -> P:
    """The spec without the axes of the mesh that don't divide their dimension, which is not sharded then."""
    return P(*(axis if axis and shape[i] % mesh.shape[axis] == 0 else None for i, axis in enumerate(spec)))


def shardings(tree: Any, params: Mapping[str, Any], rules: Rules, mesh: Mesh) -> Any:
    """The sharding of every array of a training state.

    What belongs to a parameter (itself, its moments, its average) is sharded as the parameter; the rest (counters,
    running statistics) is replicated.

    Args:
        tree: arrays or shapes; a leaf belongs to a parameter if its keys end with the parameter's path, and it has the
            parameter's shape.
        params: the parameters or their shapes.

    Raises:
        ValueError: as of `specs`.
    """
    shape_of = shapes(params)
    spec_of = {path: divisible_spec(spec, shape_of[path], mesh) for path, spec in specs(params, rules).items()}

    def sharding(keys: Sequence[Any], leaf: Any) -> NamedSharding:
        names = "/".join(str(getattr(key, "key", getattr(key, "name", ""))) for key in keys).split("/")
        suffixes = ("/".join(names[i:]) for i in range(len(names)))
        path = next((path for path in suffixes if shape_of.get(path) == tuple(leaf.shape)), None)
        return NamedSharding(mesh, P() if path is None else spec_of[path])

    return jax.tree_util.tree_map_with_path(sharding, tree)


def not_divisible(params: Mapping[str, Any], rules: Rules, mesh: Mesh) -> dict[str, str]:
    """Parameters with a dimension that the mesh should cut but does not divide: shape and spec by path."""
    shape_of = shapes(params)
    return {
        path: f"{shape_of[path]} over {tuple(spec)}"
        for path, spec in specs(params, rules).items()
        if any(axis and mesh.shape[axis] > 1 for axis in spec) and divisible_spec(spec, shape_of[path], mesh) != spec
    }
