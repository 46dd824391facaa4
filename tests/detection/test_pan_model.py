"""PAN's neck and head against the original, and what makes them cheap against the plain form."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tcm_jax.detection.pan import PAN
from tcm_jax.detection.pan.model import DepthwiseConv, PyramidConv
from tcm_jax.models.convolution import resize_bilinear
from tests.conftest import apply, channels_last, compare, read_json
from tests.golden_detectors import arrays, load_golden_module


def test_neck_and_head_equal_the_original(detection_golden):
    folder = detection_golden / "tcm_pan"
    config, golden = read_json(folder / "config.json"), arrays(folder / "outputs.npz")
    pan = PAN(channels=config["model"]["neck"]["conv_out"])
    stages = [jnp.asarray(channels_last(golden[name])) for name in ("c2", "c3", "c4", "c5_cat")]
    neck, head = pan.neck(jnp.float32), pan.head(jnp.float32)

    levels = apply(neck, load_golden_module(neck, folder, "neck", stages), stages)
    for i, level in enumerate(levels):
        enlarged = resize_bilinear(level, stages[0].shape[1:3])
        compare(f"neck_{i}", enlarged, channels_last(golden[f"neck_{i}"]))

    maps = apply(head, load_golden_module(head, folder, "bbox_head", levels), levels)
    assert maps.dtype == jnp.float32
    compare("maps", maps, channels_last(golden["maps"]))


@pytest.mark.parametrize("stride", [1, 2])
def test_depthwise_convolution_is_a_grouped_one(stride):
    x = jax.random.normal(jax.random.key(0), (2, 6, 8, 5))
    conv = DepthwiseConv(stride)
    variables = conv.init(jax.random.key(1), x)
    grouped = jax.lax.conv_general_dilated(
        x,
        variables["params"]["kernel"],
        (stride, stride),
        [(1, 1), (1, 1)],
        dimension_numbers=("NHWC", "HWIO", "NHWC"),
        feature_group_count=5,
    )
    np.testing.assert_allclose(apply(conv, variables, x), grouped, rtol=1e-5, atol=1e-6)


def test_head_is_the_convolution_of_enlarged_and_concatenated_levels():
    levels = [jax.random.normal(jax.random.key(i), (1, 16 >> i, 24 >> i, 3)) for i in range(4)]
    conv = PyramidConv(6)
    params = conv.init(jax.random.key(4), levels)["params"]
    params["bias"] = jnp.arange(6.0)

    def plain(params, levels):
        together = jnp.concatenate([resize_bilinear(level, (16, 24)) for level in levels], axis=-1)
        return together @ params["kernel"][0, 0] + params["bias"]

    ours = apply(conv, {"params": params}, levels)
    np.testing.assert_allclose(ours, jax.jit(plain)(params, levels), rtol=1e-5, atol=1e-6)


def test_training_updates_the_statistics_and_sixteen_bits_suffice():
    pan = PAN(channels=8, repeats=1)
    stages = [jax.random.normal(jax.random.key(i), (2, 16 >> i, 16 >> i, 4)) for i in range(4)]
    neck, head = pan.neck(jnp.bfloat16), pan.head(jnp.bfloat16)
    variables = jax.jit(neck.init)(jax.random.key(4), stages)
    train = jax.jit(lambda v, x: neck.apply(v, x, train=True, mutable=["batch_stats"]))
    levels, updated = train(variables, stages)
    assert [level.shape for level in levels] == [(2, 16 >> i, 16 >> i, 8) for i in range(4)]
    before, after = (jax.tree.leaves(tree["batch_stats"]) for tree in (variables, updated))
    assert all(np.any(a != b) for a, b in zip(before, after, strict=True))
    maps, _ = jax.jit(head.init_with_output)(jax.random.key(5), levels)
    assert maps.shape == (2, 16, 16, 6) and maps.dtype == jnp.float32
