"""Optimizers, schedule and parameter groups of the released detection recipes, against the originals."""

import csv

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
import torch

from tcm_jax.convert import engine, rules
from tcm_jax.detection import optimizer as released
from tcm_jax.detection.optimizer import RELEASED_KEYS, Multipliers, matched_key
from tcm_jax.pretrained import flatten, unflatten
from tcm_jax.training.methods import METHODS, adam, adamw, sgd
from tcm_jax.training.optim import Group
from tcm_jax.training.ranger import centralize, centralized_axes, lookahead, ranger, step_sizes
from tcm_jax.training.schedules import poly
from tests.conftest import read_json
from tests.golden_detectors import arrays, load_golden_detector


def torch_axes(path: str, shape: tuple[int, ...]) -> tuple[int, ...]:
    """Of tensors in PyTorch's layout."""
    return tuple(range(1, len(shape)))


def rows(file) -> list[dict[str, str]]:
    with open(file, newline="", encoding="utf-8") as lines:
        return list(csv.DictReader(lines, delimiter="\t"))


def method_of(values: dict, config: dict):
    """The method of a toy run, (lr, weight_decay) -> transformation."""
    if values["cls"] == "Ranger":
        defaults = config["ranger_defaults"]
        options = {
            "axes": torch_axes,
            "sync_period": defaults["k"],
            "slow_step": defaults["alpha"],
            "threshold": defaults["N_sma_threshhold"],
        }
    else:
        defaults, options = config["adam_defaults"], {}
    b1, b2 = defaults["betas"]
    method = METHODS[values["cls"].lower()]
    return lambda lr, decay: method(lr, decay, b1=b1, b2=b2, eps=defaults["eps"], **options)


def test_updates_are_those_of_the_original(detection_golden):
    folder = detection_golden / "optim"
    config, inputs, outputs = (
        read_json(folder / "config.json"),
        arrays(folder / "inputs.npz"),
        arrays(folder / "outputs.npz"),
    )
    first = {key.removeprefix("param0__"): x for key, x in inputs.items() if key.startswith("param0__")}
    for run, values in config["toy_updates"].items():
        make = method_of(values, config)

        @jax.jit
        def step(gradients, state, params, lr, make=make, decay=values["weight_decay"]):
            updates, state = make(lr, decay).update(gradients, state, params)  # the rate is traced, as in training
            return optax.apply_updates(params, updates), state

        params = {name: jnp.asarray(x) for name, x in first.items()}
        state = make(values["lr"], values["weight_decay"]).init(params)
        for i in range(config["steps"]):
            gradients = {name: jnp.asarray(inputs[f"grad__{name}"][i]) for name in params}
            params, state = step(gradients, state, params, values["lr"])
            for name, x in params.items():
                expected = outputs[f"{run}__{name}"][i]
                np.testing.assert_allclose(x, expected, rtol=0, atol=1e-6, err_msg=f"{run} {name} step {i}")


def test_gradients_of_the_models_are_centralized_as_in_pytorch(detection_golden):
    for folder in sorted(detection_golden.glob("tcm_*")):
        _, variables = load_golden_detector(folder)
        tree = {path: np.asarray(x) for path, x in flatten(variables["params"]).items()}  # taken for gradients
        ours, _ = centralize(centralized_axes).update(unflatten(tree), optax.EmptyState())

        def to_torch(flat):
            return engine.to_torch({f"params/{path}": x for path, x in flat.items()}, rules.table("tcm"))

        ours = to_torch(flatten(ours))
        for name, x in to_torch(tree).items():
            expected = x - x.mean(torch_axes(name, x.shape), keepdims=True) if x.ndim > 1 else x
            np.testing.assert_allclose(ours[name], expected, atol=1e-6, err_msg=name)


@pytest.mark.parametrize(
    ("path", "shape", "axes"),
    [
        ("neck/lateral_convs_0/conv/kernel", (3, 3, 8, 4), (0, 1, 2)),
        ("neck/fpems_0/up_add1/depthwise_conv/kernel", (3, 3, 1, 4), (0, 1, 2)),
        ("bbox_head/binarize_3/kernel", (2, 2, 8, 4), (0, 1, 3)),  # (in, out, 2, 2) in PyTorch
        ("context_decoder/decoder_0/mlp_0/kernel", (8, 32), (0,)),
        ("context_decoder/decoder_0/self_attn/q_proj/kernel", (8, 2, 4), (0,)),
        ("context_decoder/decoder_0/self_attn/proj/kernel", (2, 4, 8), (0, 1)),
        ("backbone/attnpool/c_proj/kernel", (2, 4, 8), (0, 1)),
        ("backbone/attnpool/q_proj/bias", (2, 4), ()),
        ("backbone/attnpool/positional_embedding", (50, 8), (1,)),
        ("contexts", (1, 4, 8), (1, 2)),
        ("gamma", (8,), ()),
        ("vis_gamma", (), ()),
    ],
)
def test_axes_of_gradient_means(path, shape, axes):
    assert centralized_axes(path, shape) == axes


def test_lookahead_by_hand():
    transform = lookahead(sync_period=2, slow_step=0.5)
    params, seen = jnp.array(0.0), []
    state = transform.init(params)
    for _ in range(4):
        updates, state = transform.update(jnp.array(1.0), state, params)
        params += updates
        seen.append(float(params))
    assert seen == [1.0, 1.0, 2.0, 2.0]  # 0 + 1, then half of the way from 0 to 2; 1 + 1, then half from 1 to 3


def test_rectification_starts_at_the_sixth_step():
    sizes, warmup = step_sizes(0.95, 0.999, 5.0)
    assert warmup == 5  # lengths of the average: 4.996 after five updates, 5.994 after six
    n, longest = 1999 - 12 * 0.999**6 / (1 - 0.999**6), 1999
    rectified = ((1 - 0.999**6) * (n - 4) / (longest - 4) * (n - 2) / n * longest / (longest - 2)) ** 0.5
    assert sizes[[0, 5, -1]] == pytest.approx([1 / 0.05, rectified / (1 - 0.95**6), 1.0], rel=1e-6)


@pytest.mark.parametrize("threshold", [3.0, 1999.5])
def test_thresholds_without_a_start_are_named(threshold):
    with pytest.raises(ValueError, match=f"threshold is {threshold}; expected 4 .. 1999"):
        ranger(1e-3, threshold=threshold)


def test_weight_decay_by_hand():
    params, gradient = jnp.array(2.0), jnp.array(0.0)
    for method, expected in ((adamw, 2.0 - 0.1 * 0.5 * 2.0), (adam, 2.0 - 0.1)):  # Adam normalizes it to 1
        transform = method(0.1, 0.5)
        updates, _ = transform.update(gradient, transform.init(params), params)
        assert float(params + updates) == pytest.approx(expected)


def test_sgd_is_pytorchs():
    gradients = np.random.default_rng(0).normal(size=(5, 3)).astype(np.float32)
    expected = torch.nn.Parameter(torch.ones(3))
    optimizer = torch.optim.SGD([expected], lr=0.1, momentum=0.9, weight_decay=0.01)
    params, state = jnp.ones(3), sgd(0.1, 0.01).init(jnp.ones(3))
    for i, gradient in enumerate(gradients):
        lr = optimizer.param_groups[0]["lr"] = 0.1 / (i + 1)  # the accumulated gradient does not contain it
        expected.grad = torch.from_numpy(gradient)
        optimizer.step()
        updates, state = sgd(lr, 0.01).update(jnp.asarray(gradient), state, params)
        params = params + updates
        np.testing.assert_allclose(params, expected.detach(), rtol=1e-6, atol=1e-7)


def test_methods_serve_groups():
    """A transformation for each group, its rate traced."""
    params = unflatten({"backbone/kernel": jnp.ones((2, 2)), "neck/kernel": jnp.ones((2, 2)), "gamma": jnp.ones(2)})
    labels = unflatten({path: released.group_of(path) for path in flatten(params)})
    groups = released.groups(weight_decay=0.1)

    def transform(method, lr):
        return optax.partition({k: method(lr * g.lr_multiplier, g.weight_decay) for k, g in groups.items()}, labels)

    gradients = unflatten({p: jnp.arange(x.size, dtype=float).reshape(x.shape) for p, x in flatten(params).items()})
    for method in METHODS.values():
        state = transform(method, 0.0).init(params)
        step = jax.jit(lambda lr, method=method, state=state: transform(method, lr).update(gradients, state, params)[0])
        updates = flatten(step(0.01))
        np.testing.assert_allclose(updates["backbone/kernel"], 0.1 * updates["neck/kernel"], atol=1e-7)


def test_poly_schedule_is_that_of_the_original(detection_golden):
    folder = detection_golden / "optim"
    values = read_json(folder / "config.json")["schedule"]
    for row in rows(folder / "poly_schedule.tsv"):
        schedule = poly(float(row["base_lr"]), int(row["max_epochs"]), 7, values["power"], values["min_lr"])
        for step in (7 * int(row["epoch"]), 7 * int(row["epoch"]) + 6):  # its first and its last
            expected = pytest.approx(float(row["lr"]), rel=1e-6, abs=1e-6 * values["min_lr"])
            assert float(schedule(step)) == expected, row


def test_poly_schedule_by_hand():
    schedule = jax.jit(poly(base=1.0, epochs=4, steps_per_epoch=2, power=1.0, minimum=0.2))
    assert [float(schedule(step)) for step in (0, 1, 2, 7, 8, 100)] == pytest.approx([1.0, 1.0, 0.8, 0.4, 0.2, 0.2])
    with pytest.raises(ValueError, match="0 epochs of 7 steps"):
        poly(1.0, 0, 7)


def test_groups_are_those_of_the_original(detection_golden):
    folder = detection_golden / "optim"
    for name, values in read_json(folder / "config.json")["configs"].items():
        optimizer = values["optimizer"]
        keys = {
            key: Multipliers(m.get("lr_mult", 1.0), m.get("decay_mult", 1.0))
            for key, m in optimizer["paramwise_cfg"]["custom_keys"].items()
        }
        assert keys == RELEASED_KEYS
        groups = released.groups(optimizer["weight_decay"], keys)
        for row in rows(folder / f"param_groups_{name}.tsv"):
            key = matched_key(row["key"], keys)
            lr, decay = float(row["lr_mult"]), float(row["decay_mult"])
            assert (key or "-") == row["matched_custom_key"], row
            assert keys.get(key, Multipliers()) == (lr, decay), row
            group = released.group_of(row["key"], keys)
            assert group == "frozen" if lr == 0 else groups[group] == Group(lr, decay * optimizer["weight_decay"])


def test_our_paths_match_as_pytorchs_names():
    for rule in rules.table("tcm"):
        numbers = [str(i) for i in range(rule.source.count("{}"))]
        for target in rule.targets:
            if target.startswith("params/"):
                path = target.removeprefix("params/").format(*numbers)
                assert released.group_of(path) == released.group_of(rule.source.format(*numbers)), path


def test_the_longest_key_wins():
    assert matched_key("backbone.norm1.weight", RELEASED_KEYS) == "backbone"
    assert matched_key("ab", ["b", "a"]) == "a"
    assert matched_key("neck.conv.weight", RELEASED_KEYS) is None
