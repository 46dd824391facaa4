"""The optimizer against PyTorch's, through the fixtures of the original."""

import functools
import re
from collections import Counter

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tcm_jax.convert import rules
from tcm_jax.convert.architecture import template
from tcm_jax.models.clip import PRESETS
from tcm_jax.models.clip4str import CLIP4STRConfig
from tcm_jax.pretrained import unflatten
from tcm_jax.recognition.config import RecognitionOptimConfig
from tcm_jax.recognition.optimizer import make_optimizer, parameter_group, torch_ndim
from tcm_jax.training.methods import adamw
from tcm_jax.training.optim import Group, Optimizer
from tcm_jax.training.schedules import one_cycle
from tests.conftest import compare, read_json


def optim_config(values: dict) -> RecognitionOptimConfig:
    """The optimizer of a fixture's config.json."""
    b1, b2 = values["optimizer"]["betas"]
    return RecognitionOptimConfig(
        lr=values["lr"],
        decoder_lr_multiplier=values["coef_lr"],
        weight_decay=values["wd"],
        decoder_weight_decay_multiplier=values["coef_wd"],
        b1=b1,
        b2=b2,
        eps=values["optimizer"]["eps"],
        warmup_fraction=values["warmup"],
        clip_norm=values["gradient_clip_norm"],
        text_freeze_layers=values["text_freeze_nlayer"],
        image_freeze_layers=values["image_freeze_nlayer"],
    )


def full_size(backbone: str) -> dict[str, tuple[int, ...]]:
    """Paths and shapes of a full-size model, without "params/"."""
    shapes = template(CLIP4STRConfig(clip=PRESETS[backbone]))
    return {path.removeprefix("params/"): shape for path, shape in shapes.items()}


def torch_keys(paths) -> dict[str, str]:
    """The PyTorch key of every leaf; the three parts of a fused projection have the same."""
    keys = {}
    for rule in rules.table("clip4str"):
        for target in rule.targets:
            pattern = re.compile(re.escape(target.removeprefix("params/")).replace(r"\{\}", r"(\d+)"))
            for path in paths:
                if match := pattern.fullmatch(path):
                    keys[path] = rule.source.format(*match.groups())
    return keys


def labels(shapes, text_freeze_layers, image_freeze_layers) -> dict[str, str]:
    return {
        path: parameter_group(path, torch_ndim(path, shape), text_freeze_layers, image_freeze_layers)
        for path, shape in shapes.items()
    }


def test_every_parameter_is_in_the_group_of_the_original(golden):
    values = read_json(golden / "optim" / "config.json")
    shapes = full_size(values["backbone"])
    found = labels(shapes, values["text_freeze_nlayer"], values["image_freeze_nlayer"])
    keys = torch_keys(shapes)
    expected = {entry["key"]: entry["group"] for entry in read_json(golden / "optim" / "groups.json")}
    assert {keys[path]: label for path, label in found.items()} == expected
    assert all(found[path] == expected[keys[path]] for path in shapes)  # also each part of a fused projection

    num_params = Counter({keys[path]: label for path, label in found.items()}.values())
    num_values = Counter()
    for path, label in found.items():
        num_values[label] += int(np.prod(shapes[path]))
    config = optim_config(values)
    for group in values["groups"]:
        name = group["group"]
        assert (num_params[name], num_values[name]) == (group["num_params"], group["num_values"])
        assert config.groups[name] == pytest.approx((group["lr_multiplier"], group["weight_decay"]))


def test_frozen_parameters_are_those_of_the_original(golden):
    for name, values in read_json(golden / "clip4str_loss" / "frozen_keys.json").items():
        shapes = full_size(values["backbone"])
        freeze = values["text_freeze_nlayer"], values["image_freeze_nlayer"]
        if "raises" in values:
            with pytest.raises(ValueError, match=r"_freeze_layers is \d+; expected -1 .* to 12"):
                labels(shapes, *freeze)
            continue
        keys = torch_keys(shapes)
        frozen = [path for path, label in labels(shapes, *freeze).items() if label == "frozen"]
        assert {keys[path] for path in frozen} == set(values["frozen"]), name
        num_frozen = sum(int(np.prod(shapes[path])) for path in frozen)
        assert num_frozen == values["num_frozen_values"], name
        total = sum(int(np.prod(shape)) for shape in shapes.values())
        assert total - num_frozen == values["num_trainable_values"], name


def test_learning_rates_are_those_of_the_original(golden):
    values = read_json(golden / "optim" / "config.json")
    config = optim_config(values)
    batch = values["agb"] * values["devices"] * values["batch"]
    assert config.peak(batch) == pytest.approx(values["scaled_lr"])
    div = values["scheduler"]["div_factor"], values["scheduler"]["final_div_factor"]
    schedule = one_cycle(config.peak(batch), values["total"], values["warmup"], *div)
    with np.load(golden / "optim" / "lr_schedule.npz") as file:
        lr = np.array(jax.vmap(schedule)(jnp.asarray(file["step"])))
        multipliers = [group.lr_multiplier for group in config.groups.values()]
        compare("lr", lr[:, None] * multipliers, file["lr"])
        np.testing.assert_allclose(lr[:, None] * multipliers, file["lr"], rtol=1e-4)  # also where it is tiny


def test_updates_are_those_of_pytorch(golden):
    values = read_json(golden / "optim" / "config.json")
    trace, group0 = values["adamw_trace"], values["groups"][0]
    config = optim_config(values | {"gradient_clip_norm": trace["clip_norm"]})
    table = {
        f"group{i}": Group(*pair)
        for i, pair in enumerate(zip(trace["lr_multiplier"], trace["weight_decay"], strict=True))
    }
    peak = group0["max_lr"] / group0["lr_multiplier"]
    method = functools.partial(adamw, b1=config.b1, b2=config.b2, eps=config.eps)

    def schedule(multiplier: float):
        return one_cycle(multiplier * peak, trace["total_steps"], trace["pct_start"])

    labels = {f"param{i}": f"group{i}" for i in range(len(table))}
    optimizer = Optimizer(method, table, labels, schedule, config.clip_norm)
    with np.load(golden / "optim" / "adamw_trace.npz") as file:
        arrays = dict(file)
    params = {f"param{i}": jnp.asarray(arrays[f"param{i}_init"]) for i in range(len(table))}
    state = optimizer.init(params)
    update = jax.jit(optimizer.update)
    for step in range(trace["total_steps"]):
        gradients = {name: jnp.asarray(arrays[f"{name}_grads"][step]) for name in params}
        params, state, metrics = update(gradients, state, params, step)
        compare("norm", metrics["grad_norm"], arrays["grad_norm"][step])
        compare("lr", metrics["lr"] * np.array(trace["lr_multiplier"]), arrays["lr"][step])
        for name, value in params.items():
            compare(f"{name} after step {step}", value, arrays[f"{name}_after"][step])


@pytest.mark.parametrize(
    ("path", "shape", "ndim"),
    [
        ("clip_model/transformer/resblocks_0/attn/query/kernel", (64, 2, 32), 2),
        ("clip_model/transformer/resblocks_0/attn/query/bias", (2, 32), 1),
        ("clip_model/transformer/resblocks_0/attn/out/kernel", (2, 32, 64), 2),
        ("clip_model/transformer/resblocks_0/attn/out/bias", (64,), 1),
        ("clip_model/visual/conv1/kernel", (16, 16, 3, 64), 4),
        ("clip_model/logit_scale", (), 0),
        ("visual_decoder/pos_queries", (1, 26, 64), 3),
    ],
)
def test_dimensions_count_as_in_pytorch(path, shape, ndim):
    assert torch_ndim(path, shape) == ndim


def test_schedule_by_hand():
    schedule = one_cycle(peak=1.0, total_steps=9, warmup_fraction=5 / 9)
    assert [float(schedule(step)) for step in (0, 2, 4, 8)] == pytest.approx([0.04, 0.52, 1.0, 4e-6])


@pytest.mark.parametrize("total", [1, 2, 14])
@pytest.mark.parametrize("fraction", [0.0, 0.075, 1.0])
def test_schedule_of_a_short_run_is_finite(total, fraction):
    rates = [float(one_cycle(1.0, total, fraction)(step)) for step in range(total)]
    assert np.isfinite(rates).all() and min(rates) > 0 and max(rates) <= 1


def test_all_frozen_is_an_error():
    params = unflatten({"clip_model/logit_scale": jnp.zeros(())})
    with pytest.raises(ValueError, match="all parameters are frozen"):
        make_optimizer(RecognitionOptimConfig(text_freeze_layers=12), params, 8, 10)


@pytest.mark.parametrize("values", [{"lr": 0.0}, {"clip_norm": -1.0}, {"ema": 1.0}, {"warmup_fraction": 2.0}])
def test_impossible_values_are_named(values):
    with pytest.raises(ValueError, match=f"config.optim.{next(iter(values))} is"):
        RecognitionOptimConfig(**values)
