"""Every recipe of a text detector: its values are valid, its sizes are the published ones, its tiny form learns."""

import dataclasses
import functools
import json
import runpy
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tcm_jax import pretrained
from tcm_jax.commands.train import run
from tcm_jax.detection.model import DetectionConfig, DetectionModel, detection_config
from tcm_jax.models.tcm import BACKBONES, PAPER_PROMPT, RELEASED_PROMPT
from tcm_jax.tasks import parse
from tcm_jax.training.state import init_state, make_step
from tests.conftest import read_json

CONFIGS = Path(__file__).parents[2] / "configs"
VARIANTS = {
    "tcm_db": [
        *("ic15", "td500", "ctw1500", "totaltext", "pretrain", "pretrain_curved"),
        *("rendered", "quickstart", "real", "ablation", "tiny"),
    ],
    "tcm_pan": ["ic15", "ctw1500", "quickstart", "tiny"],
    "tcm_fce": ["ic15", "ctw1500", "totaltext", "quickstart", "tiny"],
}
ROWS = {  # the ablation, and what makes each row what it is
    "bsl": {"text_matching": False},
    "pp": {"learnable_prompt": 0, "language_prompt": False, "visual_prompt": False},
    "lp4": {"learnable_prompt": 4, "language_prompt": False, "visual_prompt": False},
    "lp18": {"learnable_prompt": 18, "language_prompt": False, "visual_prompt": False},
    "lp32": {"learnable_prompt": 32, "language_prompt": False, "visual_prompt": False},
    "lp4_only": {"prompt": "", "learnable_prompt": 4},
    "lp18_only": {"prompt": "", "learnable_prompt": 18},
    "lp32_only": {"prompt": "", "learnable_prompt": 32},
    "lg": {"language_prompt": True, "visual_prompt": False},
    "vg": {"language_prompt": False, "visual_prompt": True},
    "full": {"language_prompt": True, "visual_prompt": True, "prompt": RELEASED_PROMPT},
    "paper_prompt": {"prompt": PAPER_PROMPT},
    "no_context_decoder": {"context_decoder": False},
    "no_auxiliary": {},
    "unfrozen": {},
    "frozen": {},
    "rn101": {},
    "rn50x4": {},
    "fast": {"fast": True},
}


def load(name: str, variant: str) -> dict:
    return runpy.run_path(str(CONFIGS / f"{name}.py"))["get_config"](variant).to_dict()


@functools.cache
def shapes(config: DetectionConfig) -> dict:
    return pretrained.shapes(jax.eval_shape(DetectionModel(config).init, jax.random.key(0)))


def parameters(config: DetectionConfig, part: str = "") -> int:
    prefix = f"params/{part}"
    return sum(int(np.prod(shape)) for path, shape in shapes(config).items() if path.startswith(prefix))


@pytest.mark.parametrize(("name", "variant"), [(n, v) for n, variants in VARIANTS.items() for v in variants])
def test_every_variant_is_valid(name, variant):
    values = load(name, variant)
    config = detection_config(values["model"])
    assert config.family == name.removeprefix("tcm_")
    assert detection_config(dataclasses.asdict(config)) == config
    assert parse(values | {"init": ""}).config.batch == values["batch"]
    assert max(values["inference"]["scale"]) == values["inference"]["scale"][0]


@pytest.mark.parametrize("name", VARIANTS)
def test_unknown_names_are_refused(name):
    with pytest.raises(ValueError, match="unknown variant 'svt'; known are ic15"):
        load(name, "svt")
    with pytest.raises(ValueError, match="unknown row 'lp5'"):
        load(name, "ic15,lp5")
    with pytest.raises(ValueError, match="unknown row 'lp4_alone'"):
        load(name, "ic15,lp4_alone")


@pytest.mark.parametrize("name", VARIANTS)
def test_released_variants_have_the_released_sizes(name, detection_golden):
    counts = read_json(detection_golden / "manifests/counts.json")
    released = {"tcm_db": {"ic15": "tcm_db_18", "ctw1500": "tcm_db_46"}}.get(name, {"ic15": name})
    for variant, manifest in released.items():
        config = detection_config(load(name, variant)["model"])
        assert parameters(config) == counts[manifest]["total"]
        for part, count in counts[manifest]["parameters"].items():
            assert parameters(config, part) - (parameters(config, "gamma_") if part == "gamma" else 0) == count, part


@pytest.mark.parametrize("row", ROWS)
def test_every_row_of_the_ablation_is_one_word(row):
    values = load("tcm_db", f"td500,{row}")
    config = detection_config(values["model"])
    assert {name: getattr(config.tcm, name) for name in ROWS[row]} == ROWS[row]
    paths = shapes(config)
    assert any(path.startswith("params/text_encoder") for path in paths) == (row != "bsl")
    assert ("params/backbone/attnpool/positional_embedding" in paths) == (row != "bsl")
    assert ("params/contexts" in paths) == (row not in ("bsl", "pp"))
    assert config.auxiliary_weight == (row != "no_auxiliary")
    if row in ("rn101", "rn50x4"):
        backbone = {"rn101": "RN101", "rn50x4": "RN50x4"}[row]
        expected = dataclasses.replace(BACKBONES[backbone], image_size=(640, 640), text_positions=18)
        assert config.tcm.clip == expected


def targets(config: DetectionConfig, side: int) -> dict:
    """One word in the middle, for two images."""
    word = np.array([[10, 20], [54, 20], [54, 44], [10, 44]], np.float32)
    maps = config.detector.targets([word], [], (side, side))
    return {name: jnp.asarray(np.stack([x, x])) for name, x in maps.items()}


def random_variables(task: DetectionModel) -> dict:
    """Weights that keep the variance of what passes; much quicker to make than by `init`."""
    rng, flat = np.random.default_rng(0), {}
    for path, leaf in pretrained.flatten(jax.eval_shape(task.init, jax.random.key(0))).items():
        one = path.endswith(("scale", "var"))
        spread = 0.0 if leaf.ndim < 2 else (2 / np.prod(leaf.shape[:-1])) ** 0.5
        flat[path] = jnp.asarray(rng.normal(one, spread, leaf.shape), jnp.float32)
    return pretrained.unflatten(flat)


def learn(values: dict, steps: int) -> tuple[list[float], dict, dict]:
    """Losses of some steps of the recipe on one picture, parameters before and after."""
    task, side = parse(values), 64
    variables = random_variables(task)
    optimizer = task.optimizer(variables["params"], records=100)
    image = np.full((2, side, side, 3), 90, np.uint8)
    image[:, 20:44, 10:54] = np.random.default_rng(0).integers(0, 256, (24, 44, 3))
    batch = {"image": jnp.asarray(image), **targets(task.config.model, side)}
    state, step = init_state(variables, optimizer), jax.jit(make_step(task, optimizer, seed=0))
    losses = []
    for _ in range(steps):
        state, metrics = step(state, batch)
        losses.append(float(metrics["loss"]))
    return losses, pretrained.flatten(variables["params"]), pretrained.flatten(state.params)


@pytest.mark.slow
@pytest.mark.parametrize("name", VARIANTS)
def test_the_tiny_form_learns(name):
    values = load(name, "tiny")
    values["steps"], values["optim"]["lr"] = 12, 1e-3
    losses, before, after = learn(values, 12)
    assert np.isfinite(losses).all()
    assert losses[-1] < losses[0]
    moved = {path for path in before if not np.array_equal(before[path], after[path])}
    assert not any(path.startswith("text_encoder") for path in moved)
    assert {path.split("/")[0] for path in moved} >= {"backbone", "neck", "bbox_head", "contexts"}


@pytest.mark.slow
@pytest.mark.parametrize("name", VARIANTS)
def test_the_tiny_form_trains(name, tmp_path):
    run(load(name, "tiny"), tmp_path)
    lines = [json.loads(line) for line in (tmp_path / "metrics.jsonl").read_text().splitlines()]
    assert np.isfinite([line["loss"] for line in lines if "loss" in line]).all()
    (validation,) = (line for line in lines if line["of"] == "validation/scenes")
    assert validation["num_photos"] == 2 and 0 <= validation["hmean"] <= 1
    assert pretrained.load(tmp_path / "last").task == "detection"


@pytest.mark.parametrize(
    ("row", "frozen"), [("full", {"text_encoder"}), ("unfrozen", set()), ("frozen", {"text_encoder", "backbone"})]
)
def test_encoders_are_frozen_by_a_word(row, frozen):
    task = parse(load("tcm_db", f"tiny,{row}"))
    params = jax.eval_shape(task.init, jax.random.key(0))["params"]
    labels = task.optimizer(params, records=100).labels
    assert {path.split("/")[0] for path, group in labels.items() if group == "frozen"} == frozen


@pytest.mark.slow
@pytest.mark.parametrize("row", ["bsl", "pp", "lp4_only", "fast", "no_context_decoder", "no_auxiliary"])
def test_rows_run(row):
    """Loss and prediction of a tiny detector with other components."""
    config = detection_config(load("tcm_db", f"tiny,{row}")["model"])
    task = DetectionModel(config)
    variables = random_variables(task)
    batch = {"image": jnp.zeros((2, 64, 64, 3), jnp.uint8), **targets(config, 64)}
    loss, metrics, _ = jax.jit(task.loss)(variables, batch, jax.random.key(1))
    assert np.isfinite(loss)
    assert ("loss_score_map" in metrics) == (row not in ("bsl", "no_auxiliary"))
    text = task.text_embedding(variables)
    assert (text is not None) == (row in ("pp", "lp4_only", "fast"))
    predict = jax.jit(task.predict)
    maps, score_map = predict(variables, batch["image"], jnp.full((2, 2), 64), text)
    assert (score_map is None) == (row == "bsl")
    if text is not None:
        again, _ = predict(variables, batch["image"], jnp.full((2, 2), 64))
        assert np.allclose(maps, again, atol=1e-6)


def test_frozen_batch_norm_rests_in_training():
    values = load("tcm_db", "tiny")["model"]
    values["tcm"]["freeze_batch_norm"] = True
    task = DetectionModel(detection_config(values))
    variables = random_variables(task)
    image = jnp.asarray(np.random.default_rng(0).normal(size=(2, 64, 64, 3)), jnp.float32)

    @jax.jit
    def train(variables, image):
        rngs = {"dropout": jax.random.key(0)}
        return task.model.apply(variables, image, train=True, rngs=rngs, mutable=["batch_stats"])[1]["batch_stats"]

    before, after = (pretrained.flatten(tree) for tree in (variables["batch_stats"], train(variables, image)))
    moved = {path.split("/")[0] for path in before if not np.array_equal(before[path], after[path])}
    assert moved == {"bbox_head"}
