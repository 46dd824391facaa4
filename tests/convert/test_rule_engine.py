"""The engine behind the rule tables, on hand-made tensors."""

import numpy as np
import pytest

from tcm_jax.convert import engine
from tcm_jax.convert.engine import ConversionError, KeyRule, module

RULES = [KeyRule("blocks.{}.fc.weight", ("params/blocks_{}/fc/kernel",), (1, 0)), *module("layer_norm", "blocks.{}.ln")]
TEMPLATE = {
    "params/blocks_0/fc/kernel": (3, 2),
    "params/blocks_0/ln/scale": (2,),
    "params/blocks_0/ln/bias": (2,),
}
STATE = {
    "blocks.0.fc.weight": np.float32([[1, 2, 3], [4, 5, 6]]),
    "blocks.0.ln.weight": np.float32([7, 8]),
    "blocks.0.ln.bias": np.float32([9, 10]),
}


def assert_equal(a, b):
    assert a.keys() == b.keys()
    for key in a:
        np.testing.assert_array_equal(a[key], b[key])


def test_keys_are_renamed_and_weights_transposed():
    tree = engine.to_flax(STATE, RULES, TEMPLATE)
    assert tree["params/blocks_0/fc/kernel"].tolist() == [[1, 4], [2, 5], [3, 6]]
    assert tree["params/blocks_0/ln/scale"].tolist() == [7, 8]
    assert_equal(engine.to_torch(tree, RULES), STATE)


def test_fused_attention_is_split_by_role_and_head():
    # Width 2, two heads of one channel; rows of in_proj_weight: query, key, value of head 0 and 1.
    state = {
        "a.in_proj_weight": np.float32([[1, 2], [3, 4], [5, 6], [7, 8], [9, 10], [11, 12]]),
        "a.in_proj_bias": np.float32([1, 2, 3, 4, 5, 6]),
        "a.out_proj.weight": np.float32([[1, 2], [3, 4]]),
        "a.out_proj.bias": np.float32([5, 6]),
    }
    roles = ("query", "key", "value")
    template = {f"{role}/kernel": (2, 2, 1) for role in roles} | {f"{role}/bias": (2, 1) for role in roles}
    template |= {"out/kernel": (2, 1, 2), "out/bias": (2,)}
    template = {f"params/a/{path}": shape for path, shape in template.items()}
    tree = engine.to_flax(state, module("attention", "a"), template)
    assert tree["params/a/key/kernel"].tolist() == [[[5], [7]], [[6], [8]]]  # [input, head, channel]
    assert tree["params/a/value/bias"].tolist() == [[5], [6]]
    assert tree["params/a/out/kernel"].tolist() == [[[1, 3]], [[2, 4]]]  # [head, channel, output]
    assert_equal(engine.to_torch(tree, module("attention", "a")), state)


@pytest.mark.parametrize(
    ("kind", "weight", "kernel"),
    [
        ("conv", (2, 3, 4, 5), (4, 5, 3, 2)),
        ("conv", (3, 1, 2, 2), (2, 2, 1, 3)),  # depthwise: one input channel for each output
        ("transposed_conv", (3, 5, 2, 2), (2, 2, 3, 5)),  # 3 channels to 5
    ],
)
def test_convolutions_move_channels_last(kind, weight, kernel):
    state = {"w.weight": np.arange(np.prod(weight), dtype=np.float32).reshape(weight)}
    tree = engine.to_flax(state, module(kind, "w"), {"params/w/kernel": kernel})
    for (out, inner, i, j), value in np.ndenumerate(state["w.weight"]):
        index = (i, j, out, inner) if kind == "transposed_conv" else (i, j, inner, out)
        assert tree["params/w/kernel"][index] == value
    assert_equal(engine.to_torch(tree, module(kind, "w")), state)


def test_running_statistics_are_a_collection_of_their_own():
    state = {f"bn.{name}": np.float32([i]) for i, name in enumerate(("weight", "bias", "running_mean", "running_var"))}
    names = ("params/bn/scale", "params/bn/bias", "batch_stats/bn/mean", "batch_stats/bn/var")
    tree = engine.to_flax(state, module("batch_norm", "bn"), dict.fromkeys(names, (1,)))
    assert [tree[name].item() for name in names] == [0, 1, 2, 3]
    assert_equal(engine.to_torch(tree, module("batch_norm", "bn")), state)


def test_as_many_values_in_another_shape_do_not_fit():
    heads = {"params/w/kernel": (4, 2, 3)}  # 4 channels to 2 heads of 3
    for shape in ((4, 6), (24,), (6, 2, 2)):
        with pytest.raises(ConversionError, match=r"w.weight \(.*\) does not fit params/w/kernel"):
            engine.to_flax({"w.weight": np.zeros(shape)}, module("projection", "w"), heads)
    engine.to_flax({"w.weight": np.zeros((6, 4))}, module("projection", "w"), heads)
    for shape in ((3, 3), (1, 2, 3), (6,)):
        with pytest.raises(ConversionError, match=r"w.weight \(.*\) does not fit params/w/kernel"):
            engine.to_flax({"w.weight": np.zeros(shape)}, module("conv", "w"), {"params/w/kernel": (1, 1, 2, 3)})
    biases = {f"params/w/{role}/bias": (2, 1) for role in ("query", "key", "value")}
    for shape in ((), (3,), (8,)):
        with pytest.raises(ConversionError, match=r"w.in_proj_bias \(.*\) does not fit params/w/query/bias"):
            engine.to_flax({"w.in_proj_bias": np.zeros(shape)}, module("attention", "w"), biases)


def test_every_mismatch_is_listed():
    state = STATE | {
        "blocks.0.fc.weight": np.zeros((2, 4)),
        "extra": np.zeros(3),
        "blocks.1.ln.bias": np.zeros(2),
    }
    del state["blocks.0.ln.weight"]
    with pytest.raises(ConversionError) as error:
        engine.to_flax(state, RULES, TEMPLATE)
    message = str(error.value)
    assert "no rule uses extra (3,)" in message
    assert "blocks.0.fc.weight (2, 4) does not fit params/blocks_0/fc/kernel [(3, 2)]" in message
    assert "blocks.1.ln.bias: the model has no params/blocks_1/ln/bias" in message
    assert "nothing fills params/blocks_0/ln/scale (2,)" in message


def test_a_leaf_is_written_once():
    with pytest.raises(ConversionError, match="b: x is written twice"):
        engine.to_flax({"a": np.zeros(1), "b": np.ones(1)}, [KeyRule("a", ("x",)), KeyRule("b", ("x",))], {"x": (1,)})


def test_keys_are_dropped_by_name_only():
    state = STATE | {"blocks.0.step": np.zeros(())}
    engine.to_flax(state, RULES, TEMPLATE, drop=[r"blocks\.\d+\.step"])
    with pytest.raises(ConversionError, match=r"no rule uses blocks\.0\.step"):
        engine.to_flax(state, RULES, TEMPLATE, drop=["step"])


def test_backwards_every_leaf_must_go_somewhere():
    with pytest.raises(ConversionError, match="strange/leaf"):
        engine.to_torch({"strange/leaf": np.zeros(1)}, RULES)
    with pytest.raises(ConversionError, match=r"a\.in_proj_weight needs params/a/key/kernel, params/a/value/kernel"):
        engine.to_torch({"params/a/query/kernel": np.zeros((2, 2, 1))}, module("attention", "a"))
