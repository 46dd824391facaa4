"""How parameters are sharded over the mesh: tables for every recipe, and by hand."""

import re
import runpy
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import AbstractMesh, AxisType
from jax.sharding import PartitionSpec as P

from tcm_jax.distributed.share import Share
from tcm_jax.models.clip4str import CLIP4STR_PARTITION
from tcm_jax.pretrained import flatten
from tcm_jax.tasks import parse
from tcm_jax.training import partition
from tcm_jax.training.mesh import MeshConfig, batch_share, make_mesh

ROOT = Path(__file__).parents[2]
MESH = AbstractMesh((2, 4, 2), ("data", "fsdp", "tensor"), axis_types=(AxisType.Auto,) * 3)
RECIPES = [
    *("clip4str_base:tiny", "clip4str_large:tiny", "clip4str_huge:tiny", "clip4str_small:tiny"),
    *("tcm_db:tiny", "tcm_pan:tiny", "tcm_fce:tiny"),
    *("tcm_db:tiny,bsl", "tcm_db:tiny,pp", "tcm_db:tiny,lp4", "tcm_db:tiny,lg"),
]


def parameters(recipe: str):
    """Shapes of the parameters of a recipe, and its rules."""
    name, _, variant = recipe.partition(":")
    config = runpy.run_path(str(ROOT / "configs" / f"{name}.py"))["get_config"](*[variant] * bool(variant)).to_dict()
    task = parse(config | {"init": ""})
    shapes = jax.eval_shape(task.init, jax.random.key(0))
    return shapes["params"], task.partition_rules()


@pytest.mark.parametrize("recipe", RECIPES)
def test_every_parameter_has_a_rule_and_every_rule_a_parameter(recipe):
    params, rules = parameters(recipe)
    assert partition.specs(params, rules).keys() == flatten(params).keys()


@pytest.mark.parametrize("recipe", ["clip4str_huge", "tcm_db"])
def test_nearly_all_of_a_full_size_model_is_sharded(recipe):
    params, rules = parameters(recipe)
    specs = partition.specs(params, rules)

    def held(path, leaf) -> float:
        """Values on one device."""
        spec = partition.divisible_spec(specs[path], leaf.shape, MESH)
        return leaf.size / np.prod([MESH.shape[axis] for axis in spec if axis])

    flat = flatten(params)
    total = sum(leaf.size for leaf in flat.values())
    assert sum(held(path, leaf) for path, leaf in flat.items()) < 0.26 * total  # over fsdp = 4
    matrices = {path for path in flat if re.search(r"resblocks_\d+/.*kernel$", path)}
    assert all(held(path, flat[path]) == flat[path].size / 8 for path in matrices)  # over tensor too


def test_a_block_by_hand():
    block = {
        "query/kernel": (8, 2, 4),
        "query/bias": (2, 4),
        "out/kernel": (2, 4, 8),
        "c_fc/kernel": (8, 32),
        "c_proj/kernel": (32, 8),
        "ln_1/scale": (8,),
    }
    params = {"a": {path: jax.ShapeDtypeStruct(shape, jnp.float32) for path, shape in block.items()}}
    rules = [rule for rule in CLIP4STR_PARTITION if any(re.search(rule[0], f"a/{path}") for path in block)]
    assert partition.specs({"a": params["a"]}, rules) == {
        "a/query/kernel": P("fsdp", "tensor", None),
        "a/query/bias": P("tensor", None),
        "a/out/kernel": P("tensor", None, "fsdp"),
        "a/c_fc/kernel": P("fsdp", "tensor"),
        "a/c_proj/kernel": P("tensor", "fsdp"),
        "a/ln_1/scale": P(),
    }


def test_a_dimension_that_the_mesh_does_not_divide_is_not_sharded():
    params = {"w": {"kernel": jax.ShapeDtypeStruct((6, 4), jnp.float32)}}
    rules = [("kernel$", P("fsdp", "tensor"))]
    assert partition.divisible_spec(P("fsdp", "tensor"), (6, 4), MESH) == P(None, "tensor")
    assert partition.not_divisible(params, rules, MESH) == {"w/kernel": "(6, 4) over ('fsdp', 'tensor')"}


def test_what_does_not_fit_is_listed():
    params = {"a": {"kernel": np.zeros((2, 2)), "scale": np.zeros(2), "other": np.zeros(3)}}
    with pytest.raises(ValueError, match="the partition rules don't fit the model") as error:
        partition.specs(params, [("kernel$", P(None, "fsdp")), ("scale$", P(None, "fsdp")), ("bias$", P())])
    lines = str(error.value).splitlines()[1:]
    assert lines == [
        "  a/scale has shape (2,); its rule has (None, 'fsdp')",
        "  a/other (3,) has no rule",
        "  no parameter has the rule 'bias$'",
    ]


def test_moments_and_averages_are_sharded_as_their_parameter():
    mesh = make_mesh()
    params = {"a": {"kernel": np.zeros((4, 2))}, "b": {"scale": np.zeros(4)}}
    rules = [("kernel$", P("fsdp", None)), ("scale$", P())]
    state = {"opt": {"group": {"a/kernel": np.zeros((4, 2)), "count": np.zeros(())}}, "ema": params, "step": 0}
    state["step"] = np.zeros(())
    specs = jax.tree.map(lambda x: x.spec, partition.shardings(state, params, rules, mesh))
    assert specs == {
        "opt": {"group": {"a/kernel": P("fsdp", None), "count": P()}},
        "ema": {"a": {"kernel": P("fsdp", None)}, "b": {"scale": P()}},
        "step": P(),
    }


@pytest.mark.parametrize(
    ("sizes", "shape"), [({}, (8, 1, 1)), ({"data": 1, "fsdp": -1}, (1, 8, 1)), ({"fsdp": 2, "tensor": 2}, (2, 2, 2))]
)
def test_sizes_of_a_mesh(sizes, shape):
    assert MeshConfig(**sizes).shape(8) == shape


@pytest.mark.parametrize("sizes", [{"fsdp": 3}, {"data": 4}, {"data": 2, "fsdp": 8}])
def test_a_mesh_that_does_not_fit(sizes):
    with pytest.raises(ValueError, match=r"config.mesh is data .* it does not fit 8 devices"):
        MeshConfig(**sizes).shape(8)


def test_a_process_alone_holds_every_row():
    assert batch_share(make_mesh()) == Share.of(0, 1)
