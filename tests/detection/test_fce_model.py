"""FCENet's feature pyramid and head against the original, with its weights."""

import jax
import jax.numpy as jnp
import numpy as np

from tcm_jax.detection.fce import FCENet
from tcm_jax.detection.fce.decoding import STRIDES
from tests.conftest import apply, channels_last, compare, detection_weights, read_json


def parameters(weights: dict[str, np.ndarray], prefix: str) -> dict:
    """A PyTorch state dict of convolutions as a tree."""
    tree: dict = {}
    for key, value in weights.items():
        if key.startswith(prefix):
            *path, leaf = key.removeprefix(prefix).split(".")
            node = tree
            for name in "/".join(path).replace("convs/", "convs_").split("/"):
                node = node.setdefault(name, {})
            node["kernel" if leaf == "weight" else leaf] = value.transpose(2, 3, 1, 0) if leaf == "weight" else value
    return {"params": tree}


def test_neck_and_head_are_the_originals(detection_golden):
    folder = detection_golden / "tcm_fce"
    model = read_json(folder / "config.json")["model"]
    weights = detection_weights(folder / "manifest.json")
    outputs = np.load(folder / "outputs.npz")
    detector = FCENet(channels=model["neck"]["out_channels"], fourier_degree=model["bbox_head"]["fourier_degree"])
    stages = [channels_last(outputs[name]) for name in ("c3", "c4", "c5_cat")]

    levels = apply(detector.neck(jnp.float32), parameters(weights, "neck."), stages)
    heads = apply(detector.head(jnp.float32), parameters(weights, "bbox_head."), levels)
    assert len(levels) == len(heads) == len(STRIDES)
    for name, level, head in zip(("p3", "p4", "p5"), levels, heads, strict=True):
        compare(f"neck_{name}", level, channels_last(outputs[f"neck_{name}"]), 2e-5)
        compare(f"cls_{name}", head.logits, channels_last(outputs[f"cls_{name}"]), 2e-5)
        compare(f"reg_{name}", head.coefficients, channels_last(outputs[f"reg_{name}"]), 2e-5)


def test_names_and_shapes():
    """Names are PyTorch's; the three levels share the head. Low precision ends at the outputs."""
    detector = FCENet(channels=8, fourier_degree=3)
    stages = [jnp.zeros((1, 8 // 2**i, 12 // 2**i, 5 + i)) for i in range(3)]
    neck, head = detector.neck(jnp.bfloat16), detector.head(jnp.bfloat16)
    levels, variables = jax.jit(neck.init_with_output)(jax.random.key(0), stages)
    names = [f"{kind}_convs_{i}" for kind in ("lateral", "fpn") for i in range(3)]
    assert sorted(variables["params"]) == sorted(names)
    assert variables["params"]["lateral_convs_2"]["conv"]["kernel"].shape == (1, 1, 7, 8)
    outputs, variables = jax.jit(head.init_with_output)(jax.random.key(0), levels)
    assert jax.tree.map(jnp.shape, variables["params"]) == {
        "out_conv_cls": {"kernel": (3, 3, 8, 4), "bias": (4,)},
        "out_conv_reg": {"kernel": (3, 3, 8, 14), "bias": (14,)},
    }
    assert [x.logits.shape for x in outputs] == [(1, 8, 12, 4), (1, 4, 6, 4), (1, 2, 3, 4)]
    assert all(leaf.dtype == jnp.float32 for leaf in jax.tree.leaves(outputs))
