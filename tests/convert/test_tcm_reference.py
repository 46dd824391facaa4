"""The PyTorch functions behind --verify against the original's stored outputs, and the models against them."""

import dataclasses

import numpy as np
import torch

from tcm_jax import pretrained
from tcm_jax.convert import conversion, reference, reference_tcm
from tcm_jax.convert.architecture import identify
from tcm_jax.convert.verify import report, verify
from tests.conftest import compare, detection_weights
from tests.convert.conftest import OWN
from tests.convert.test_conversion import checkpoint
from tests.convert.test_tcm_conversion import fixtures, options, to_pretrained
from tests.golden_detectors import arrays

TIGHT = 2e-5  # of the largest entry; both sides are the same PyTorch operations

# Our stages and the fixtures' arrays.
STAGES = {
    **{name: name for name in ("c2", "c3", "c4", "c5", "maps")},
    "global feature": "global_feat",
    "dense features": "dense_feat",
    "text embedding": "text_embeddings_raw",
    "text embedding, refined": "text_embeddings",
    "score map": "score_map",
    **{f"classes p{i}": f"cls_p{i}" for i in (3, 4, 5)},
    **{f"coefficients p{i}": f"reg_p{i}" for i in (3, 4, 5)},
}


def architecture_of(folder, variant=""):
    return identify(checkpoint(detection_weights(folder / "manifest.json", variant)), options(folder, variant))


@torch.no_grad()
def test_functions_equal_the_original(detection_golden):
    for folder, variant in fixtures(detection_golden):
        architecture = architecture_of(folder, variant)
        images = torch.from_numpy(arrays(folder / "inputs.npz")["image"])
        state = reference.tensors(architecture.tensors, False)
        actual = reference_tcm.forward(state, architecture.config, images)
        expected = arrays(folder / ("outputs_variants.npz" if variant else "outputs.npz"))
        compared = 0
        for stage, name in STAGES.items():
            name = f"{variant}__{name}" if variant else name
            first = f"{name}0"  # of the variants' maps, only the first image
            if stage not in actual or not {name, first} & expected.keys():
                continue
            array = expected[name] if name in expected else expected[first]
            value = actual[stage].numpy()[: len(array)]
            if stage == "dense features":
                value = value.transpose(0, 2, 1)  # [b, d, n]
            tolerance = 1e-4 if stage == "maps" else TIGHT  # the binary map multiplies by 50
            compare(f"{folder.name} {variant} {stage}", value.reshape(array.shape), array, tolerance)
            compared += 1
        assert compared, (folder, variant)


def test_a_changed_weight_is_seen_from_its_stage_on():
    architecture = architecture_of(OWN / "tcm_db")
    model = to_pretrained(architecture)
    flat = pretrained.flatten(model.variables)
    path = "params/prompt_generator/prompt_proj_4/bias"
    flat[path] = flat[path] + 0.1 * np.arange(flat[path].size) / flat[path].size
    rows = verify(dataclasses.replace(model, variables=pretrained.unflatten(flat)), architecture)
    assert next(row.stage for row in rows if not row.passed) == "text embedding"


def test_the_fast_model():
    """FastTCM's two parameters beside the released ones; there is no stored output of the original."""
    folder = OWN / "tcm_db"
    state = detection_weights(folder / "manifest.json")
    d, rng = len(state["gamma"]), np.random.default_rng(0)
    state["meta_query"] = rng.normal(size=d).astype(np.float32)
    state["pix_w"] = rng.normal(0, 0.1, (d, d)).astype(np.float32)
    architecture = identify(checkpoint(state), options(folder))
    assert architecture.config.tcm.fast
    model = to_pretrained(architecture)
    rows = verify(model, architecture)
    assert all(row.passed for row in rows), report(rows)
    assert conversion.to_state_dict(model).keys() == state.keys()
