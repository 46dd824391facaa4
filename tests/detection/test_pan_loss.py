"""PAN's losses: hand-computed cases, the original's numbers and gradients, and what can't be in a batch."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tcm_jax.config import from_dict
from tcm_jax.detection.pan import PAN
from tcm_jax.detection.pan.loss import embedding_terms, hard_examples, squared_dice
from tests.conftest import channels_last, compare, read_json
from tests.golden_detectors import arrays


def loss_and_gradient(loss, x):
    """Parts of a loss, and the gradient of their sum."""

    def total(x):
        parts = loss(x)
        return sum(parts.values()), parts

    (_, parts), gradient = jax.jit(jax.value_and_grad(total, has_aux=True))(x)
    return parts, np.asarray(gradient)


def test_losses_and_gradients_equal_the_original(detection_golden):
    folder = detection_golden / "losses"
    config = read_json(folder / "config.json")["pan"]
    inputs, golden = arrays(folder / "inputs.npz"), arrays(folder / "outputs.npz")
    pairs = itertools.product(config["cases"], config["variants"])
    pairs = [(case, variant) for case, variant in pairs if f"pan_{case}__{variant}__total" in golden]
    assert pairs
    for case, variant in pairs:
        name = f"pan_{case}__{variant}__"
        pan = PAN(
            alpha=config["alpha"],
            beta=config["beta"],
            aggregation_margin=config["delta_aggregation"],
            discrimination_margin=config["delta_discrimination"],
            negative_ratio=config["ohem_ratio"],
            reduction=config["variants"][variant].get("reduction", "mean"),
        )
        targets = {key: inputs[f"pan_{case}__{key}"] for key in ("gt_kernels", "gt_mask")}
        maps = jnp.asarray(channels_last(inputs[f"pan_{case}__preds"]))
        parts, gradient = loss_and_gradient(lambda x, pan=pan, targets=targets: pan.losses(x, targets), maps)
        for part, value in parts.items():
            compare(name + part, value, golden[name + part], relative=1e-5)
        compare(f"{name}total", sum(parts.values()), golden[f"{name}total"], relative=1e-5)
        compare(f"{name}gradient", gradient, channels_last(golden[f"{name}grad_preds"]), relative=1e-4)


def test_score_map_losses_and_gradients_equal_the_original(detection_golden):
    folder = detection_golden / "losses"
    config = read_json(folder / "config.json")["panidentity"]
    inputs, golden = arrays(folder / "inputs.npz"), arrays(folder / "outputs.npz")
    pan = PAN(negative_ratio=config["negative_ratio"])
    names = [key.removesuffix("logits") for key in inputs if key.startswith("panidentity_") and "logits" in key]
    assert names
    for name in names:
        targets = {key: inputs[name + key] for key in ("gt_kernels", "gt_mask")}
        logits = jnp.asarray(inputs[f"{name}logits"][:, 0])
        parts, gradient = loss_and_gradient(
            lambda x, targets=targets: {"loss": config["loss_weight"] * pan.auxiliary_loss(x, targets)}, logits
        )
        compare(name, parts["loss"], golden[f"{name}loss_pix_cls"], relative=1e-5)
        compare(f"{name}gradient", gradient, golden[f"{name}grad_logits"][:, 0], relative=1e-4)


def test_the_hardest_negatives_are_sampled():
    score = jnp.array([[0.9, 0.1, 0.8, 0.3, 0.2, 0.7]])
    text = jnp.array([[True, False, False, False, False, False]])
    every = jnp.ones((1, 6), bool)
    sampled = hard_examples(score, text, every, 2.0)
    np.testing.assert_array_equal(sampled, [[True, False, True, False, False, True]])
    # The negative at 0.8 is ignored, but has taken its place.
    sampled = hard_examples(score, text, every.at[0, 2].set(False), 2.0)
    np.testing.assert_array_equal(sampled, [[True, False, False, False, False, True]])
    for nothing in (jnp.zeros_like(text), jnp.ones_like(text)):  # no text or no background: all
        np.testing.assert_array_equal(hard_examples(score, nothing, every, 2.0), every)


def test_dice_by_hand():
    probability, target = jnp.array([[[0.5, 1.0, 0.25]]]), jnp.array([[[True, False, True]]])
    mask = jnp.array([[[True, True, False]]])
    expected = 1 - 2 * (0.5 + 0.001) / ((0.25 + 1.0 + 0.001) + (1.0 + 0.001))
    np.testing.assert_allclose(squared_dice(probability, target, mask), [expected], rtol=1e-6)


def test_embedding_terms_by_hand():
    text = jnp.array([[1, 1, 2, 2, 3, 0]])
    kernel = jnp.array([[1, 0, 2, 0, 0, 0]])  # the third instance has no kernel
    embedding = jnp.array([[[0.0, 0], [1.5, 0], [0, 2], [0, 2], [9, 9], [7, 7]]])
    aggregation, discrimination = embedding_terms(embedding, text, kernel, 0.5, 3.0, 8)
    np.testing.assert_allclose(aggregation, (np.log(1 + 1.0) / 2 + 0) / 2, rtol=1e-6)
    np.testing.assert_allclose(discrimination, np.log(1 + 1.0) / 2, rtol=1e-6)
    # Of ids above the limit nothing is trained: one instance is left, and no pair.
    aggregation, discrimination = embedding_terms(embedding, text, kernel, 0.5, 3.0, 1)
    np.testing.assert_allclose((aggregation, discrimination), (np.log(1 + 1.0) / 2, 0), rtol=1e-6)


def test_equal_embeddings_have_finite_gradients():
    ids = jnp.array([[1, 1, 2, 2]])
    gradient = jax.jit(jax.grad(lambda x: sum(embedding_terms(x, ids, ids, 0.5, 3.0, 8))))(jnp.ones((1, 4, 4)))
    assert np.isfinite(gradient).all()


def test_an_image_does_not_depend_on_its_batch():
    rng = np.random.default_rng(0)
    maps = rng.normal(size=(3, 8, 8, 6)).astype(np.float32)
    kernels = rng.integers(0, 4, (3, 2, 32, 32))
    mask = rng.integers(0, 2, (3, 32, 32), dtype=np.uint8)
    pan = PAN(reduction="sum")
    losses = jax.jit(pan.losses)
    together = losses(maps, {"gt_kernels": kernels, "gt_mask": mask})
    images = [slice(i, i + 1) for i in range(3)]
    alone = [losses(maps[i], {"gt_kernels": kernels[i], "gt_mask": mask[i]}) for i in images]
    for name, value in together.items():
        np.testing.assert_allclose(value, sum(parts[name] for parts in alone), rtol=1e-5)


@pytest.mark.parametrize(
    "values, field",
    [
        ({"reduction": "none"}, "reduction"),
        ({"shrink_ratios": (1.0,)}, "shrink_ratios"),
        ({"max_instances": 0}, "max_instances"),
        ({"decoding": {"text_representation": "box"}}, "text_representation"),
    ],
)
def test_wrong_values_are_named(values, field):
    with pytest.raises(ValueError, match=field):
        from_dict(PAN, values)
