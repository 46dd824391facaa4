"""The permuted-sequence loss and its gradients against the original's training step."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from tcm_jax import pretrained
from tcm_jax.convert import engine, rules
from tcm_jax.images.decoding import MEAN_STD_0_5
from tcm_jax.models.clip4str import CLIP4STRConfig
from tcm_jax.models.decoding import decode
from tcm_jax.recognition.model import RecognitionModel
from tcm_jax.recognition.optimizer import parameter_group
from tests.conftest import compare, read_json
from tests.golden_models import golden_inputs, load_golden

OPTIONS = {"cross_loss_w": "cross_loss_weight", "cross_token_embeding": "cross_token_embedding"}


class Step:
    """One training step of the fixture without dropout, with the labels and permutations given."""

    def __init__(self, golden, labels, perms, **options):
        folder = golden / "clip4str_loss"
        config, variables = load_golden(folder)
        freeze = read_json(folder / "config.json")["model"]["text_freeze_nlayer"]
        self.task = RecognitionModel(dataclasses.replace(config, **options), MEAN_STD_0_5, MEAN_STD_0_5)
        images = golden_inputs(folder)["images"][: len(labels)]
        label = self.task.tokenizer.encode(labels, config.max_label_length)
        # The original cuts positions after the longest label; here they are there and unused.
        rest = np.tile(np.arange(np.shape(perms)[1], config.max_label_length + 2), (len(perms), 1))
        perms = np.concatenate([perms, rest], axis=1)
        valid = np.ones(len(perms), bool)

        def loss(params):
            def freeze_some(path, x):
                name = "/".join(k.key for k in path)
                return jax.lax.stop_gradient(x) if parameter_group(name, x.ndim, freeze) == "frozen" else x

            params = jax.tree_util.tree_map_with_path(freeze_some, params)
            result = self.task.branch_losses({"params": params}, images, label, perms, valid)
            total = result.visual + self.task.config.cross_loss_weight * result.cross
            return (total * result.num_targets).sum() / result.num_targets.sum(), result

        (self.loss, self.result), gradients = jax.jit(jax.value_and_grad(loss, has_aux=True))(variables["params"])
        flat = pretrained.flatten({"params": jax.device_get(gradients)})
        self.gradients = engine.to_torch(flat, rules.table("clip4str"))


@pytest.fixture(scope="module")
def base(golden) -> Step:
    inputs = golden_inputs(golden / "clip4str_loss")
    return Step(golden, inputs["labels"].tolist(), inputs["perms"])


@pytest.fixture(scope="module")
def expected(golden) -> dict[str, np.ndarray]:
    with np.load(golden / "clip4str_loss" / "outputs.npz") as outputs:
        return dict(outputs)


def test_losses_logits_and_captions(base, expected):
    t = expected["tgt_in"].shape[1]
    np.testing.assert_array_equal(base.result.num_targets, expected["num_tokens"])
    for branch in ("visual", "cross"):
        logits = np.asarray(getattr(base.result, f"{branch}_logits")).transpose(1, 0, 2, 3)[:, :, :t]
        compare(f"{branch}_logits", logits, expected[f"{branch}_logits"])
        compare(f"{branch}_loss", getattr(base.result, branch), expected[f"{branch}_loss"])
    np.testing.assert_array_equal(np.asarray(base.result.captions).transpose(1, 0, 2), expected["caption_ids"])
    compare("loss", base.loss, expected["loss"])


def test_gradients(base, expected):
    norms = [np.linalg.norm(base.gradients[str(key)]) for key in expected["grad_key"]]
    compare("gradient norms", norms, expected["grad_norm"])
    compare("total norm", optax.global_norm(list(base.gradients.values())), expected["total_grad_norm"])
    for name, value in expected.items():
        if name.startswith("grad/"):
            compare(name, base.gradients[name.removeprefix("grad/")], value)


def test_frozen_parameters_get_no_gradient(base, golden):
    config = read_json(golden / "clip4str_loss" / "config.json")
    without = {key for key, gradient in base.gradients.items() if not gradient.any()}
    assert without == {*config["frozen_keys"], *config["trainable_without_gradient"]}


def test_target_sequences(base, expected, golden):
    labels = golden_inputs(golden / "clip4str_loss")["labels"].tolist()
    t = expected["target"].shape[1]
    np.testing.assert_array_equal(base.task.tokenizer.encode(labels, t - 2), expected["target"])


def test_every_variant(golden):
    for name, variant in read_json(golden / "clip4str_loss" / "variants.json").items():
        options = {OPTIONS.get(k, k): v for k, v in variant["options"].items()}
        step = Step(golden, variant["labels"], variant["perms"], **options)
        compare(f"{name} loss", step.loss, variant["loss"])
        compare(f"{name} visual", step.result.visual, variant["visual_loss"])
        if variant["cross_loss"]:
            compare(f"{name} cross", step.result.cross, variant["cross_loss"])
        for key, norm in variant["grad_norm"].items():
            if norm is not None:
                compare(f"{name} gradient of {key}", np.linalg.norm(step.gradients[key]), norm)


def test_validation_logits(golden, expected):
    """The original validates with as many positions as the longest label needs."""
    folder = golden / "clip4str_loss"
    config, variables = load_golden(folder)
    task = RecognitionModel(config, MEAN_STD_0_5, MEAN_STD_0_5)
    inputs = golden_inputs(folder)
    length = max(map(len, inputs["labels"].tolist()))
    logits = jax.jit(lambda v, x: decode(task.model, v, x, length, "never").logits)(variables, inputs["images"])
    compare("val_logits", logits, expected["val_logits"])
    targets = jnp.asarray(expected["target"][:, 1:])
    counts = targets != task.tokenizer.pad_id
    losses = optax.softmax_cross_entropy_with_integer_labels(logits, jnp.where(counts, targets, 0))
    assert counts.sum() == expected["val_loss_numel"]
    compare("val_loss", (losses * counts).sum() / counts.sum(), expected["val_loss"])


def test_loss_draws_permutations_for_the_longest_label(golden):
    folder = golden / "clip4str_loss"
    config, variables = load_golden(folder)
    task = RecognitionModel(dataclasses.replace(config, dropout=0.0), MEAN_STD_0_5, MEAN_STD_0_5)
    images = np.zeros((2, *config.clip.image_size, 3), np.uint8)
    batch = {"image": images, "label": task.tokenizer.encode(["a", "b"], config.max_label_length)}
    compute = jax.jit(task.loss)
    loss, metrics, _ = compute(variables, batch, jax.random.key(0))
    assert metrics.keys() == {"loss", "visual_loss", "cross_loss"} and np.isfinite(loss)
    # One character has one permutation, so nothing is random.
    assert loss == compute(variables, batch, jax.random.key(1))[0]
    batch["label"] = task.tokenizer.encode(["sale", "offers"], config.max_label_length)
    assert compute(variables, batch, jax.random.key(0))[0] != loss


def test_dropout_makes_the_loss_random(golden):
    config, variables = load_golden(golden / "clip4str_loss")
    task = RecognitionModel(dataclasses.replace(config, dropout=0.5), MEAN_STD_0_5, MEAN_STD_0_5)
    batch = {
        "image": np.zeros((2, *config.clip.image_size, 3), np.uint8),
        "label": task.tokenizer.encode(["a", "b"], config.max_label_length),
    }
    loss = jax.jit(task.loss)
    losses = {float(loss(variables, batch, jax.random.key(i))[0]) for i in range(3)}
    assert len(losses) == 3


def test_normalization_of_pixels():
    task = RecognitionModel(CLIP4STRConfig(), mean=(0.5, 0.5, 0.0), std=(0.5, 0.25, 1.0))
    pixels = np.array([[[[255, 255, 255], [0, 0, 0]]]], np.uint8)
    compare("normalized", task.normalize(pixels)[0, 0], [[1.0, 2.0, 1.0], [-1.0, -2.0, 0.0]])


def test_preprocessing_equals_the_original_on_the_fixture_images(golden):
    config = read_json(golden / "preprocess" / "config.json")
    with np.load(golden / "preprocess" / "outputs.npz") as outputs:
        for kind in ("openai", "half"):
            mean, std = (np.broadcast_to(config[f"{x}_{kind}"], 3) for x in ("mean", "std"))
            task = RecognitionModel(CLIP4STRConfig(), mean, std)
            for name, value in outputs.items():
                if name.startswith(f"norm_{kind}_"):
                    resized = outputs[name.replace(f"norm_{kind}_", "resized_").replace("every7_", "")]
                    step = 7 if "every7" in name else 1
                    actual = task.normalize(resized[None])[0, ::step, ::step].transpose(2, 0, 1)
                    compare(name, actual, value)
