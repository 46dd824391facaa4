"""One training step, on a task that can be computed by hand and on a tiny recognizer."""

import dataclasses

import jax
import jax.flatten_util
import jax.numpy as jnp
import numpy as np
import pytest

from tcm_jax.recognition.config import RecognitionOptimConfig
from tcm_jax.recognition.model import RecognitionModel
from tcm_jax.recognition.optimizer import make_optimizer
from tcm_jax.tasks import parse
from tcm_jax.training.mesh import make_mesh, shard_batch
from tcm_jax.training.methods import adamw
from tcm_jax.training.optim import Group, Optimizer
from tcm_jax.training.schedules import one_cycle
from tcm_jax.training.state import averaged_variables, init_state, make_step
from tests.conftest import compare


class Line:
    """y = a x + b with squared error; b is called "frozen". It counts the batches that it has seen."""

    def init(self, key):
        return {"params": {"a": jnp.ones(3), "frozen": jnp.zeros(())}, "batch_stats": {"seen": jnp.zeros(())}}

    def loss(self, variables, batch, key):
        params = variables["params"]
        error = batch["x"] @ params["a"] + params["frozen"] - batch["y"]
        loss = (error**2).mean()
        seen = variables["batch_stats"]["seen"] + 1
        return loss, {"loss": loss, "random": jax.random.uniform(key)}, {"seen": seen}


LABELS = {"a": "all", "frozen": "frozen"}


def line_batch(rows: int = 4) -> dict:
    rng = np.random.default_rng(0)
    return {
        "x": rng.normal(size=(rows, 3)).astype(np.float32),
        "y": np.ones(rows, np.float32),
        "name": ["?"],
    }


def start(accumulate=1, seed=0, batch=None, **optim):
    """State and compiled step of a line, and its batch on the device."""
    task, mesh = Line(), make_mesh()
    groups = {"all": Group(1.0, 0.2)}
    optimizer = Optimizer(adamw, groups, LABELS, lambda factor: one_cycle(0.1 * factor, 10, 0.075), 20.0, **optim)
    state = jax.device_put(init_state(task.init(None), optimizer), jax.sharding.NamedSharding(mesh, jax.P()))
    batch = shard_batch(line_batch() if batch is None else batch, mesh)
    step = jax.jit(make_step(task, optimizer, seed, accumulate), donate_argnums=0)
    return state, step, batch, optimizer


def test_frozen_parameters_stay_and_have_no_state():
    state, step, batch, _ = start()
    shapes = {leaf.shape for leaf in jax.tree.leaves(state.opt_state)}
    assert shapes == {(), (3,)}  # Adam's count and the moments of "a"
    assert sum(leaf.size for leaf in jax.tree.leaves(state.opt_state)) == 1 + 2 * 3
    state, _ = step(state, batch)
    assert float(state.params["frozen"]) == 0
    assert not np.array_equal(state.params["a"], np.ones(3))
    assert int(state.step) == 1


def test_micro_batches_give_the_update_of_the_whole_batch():
    state, step, batch, _ = start()
    whole, metrics = step(state, batch)
    state, step, batch, _ = start(accumulate=2)
    parts, part_metrics = step(state, batch)
    np.testing.assert_allclose(whole.params["a"], parts.params["a"], rtol=1e-6)
    np.testing.assert_allclose(metrics["loss"], part_metrics["loss"], rtol=1e-6)
    np.testing.assert_allclose(metrics["grad_norm"], part_metrics["grad_norm"], rtol=1e-6)
    assert (float(whole.batch_stats["seen"]), float(parts.batch_stats["seen"])) == (1, 2)


def test_average_of_the_parameters_by_hand():
    state, step, batch, optimizer = start(ema=0.75)
    expected = np.ones(3)
    for _ in range(3):
        state, _ = step(state, batch)
        expected = 0.75 * expected + 0.25 * np.asarray(state.params["a"])
        np.testing.assert_allclose(averaged_variables(state, optimizer)["params"]["a"], expected, rtol=1e-6)
    assert set(state.ema["params"]) == {"a"}  # frozen parameters need no average
    assert set(averaged_variables(state, optimizer)["params"]) == {"a", "frozen"}
    assert float(state.batch_stats["seen"]) == 3
    # 0, 0.25 * 1, 0.75 * 0.25 + 0.25 * 2 = 0.6875, 0.75 * 0.6875 + 0.25 * 3
    assert float(averaged_variables(state, optimizer)["batch_stats"]["seen"]) == 1.265625


def test_random_numbers_depend_on_seed_and_step_alone():
    def draws(seed: int, steps: int) -> list[float]:
        state, step, batch, _ = start(seed=seed)
        values = []
        for _ in range(steps):
            state, metrics = step(state, batch)
            values.append(float(metrics["random"]))
        return values

    first = draws(0, 3)
    assert first == draws(0, 3)
    assert len({*first, *draws(1, 3)}) == 6
    resumed, step, batch, _ = start()
    _, metrics = step(resumed.replace(step=jax.device_put(jnp.int32(2), resumed.step.sharding)), batch)
    assert float(metrics["random"]) == first[2]


@pytest.mark.parametrize("value", [np.nan, np.inf, 1e30])  # the square of the last one overflows
def test_an_update_that_is_not_finite_is_not_made(value):
    bad = line_batch()
    bad["y"][1] = value
    state, step, batch, _optimizer = start(ema=0.5)
    state, _ = step(state, batch)
    before = jax.tree.map(np.asarray, state)
    state, metrics = step(state, shard_batch(bad, make_mesh()))
    assert not np.isfinite(float(metrics["loss"]))
    assert int(state.step) == 2
    after = jax.tree.map(np.asarray, state).replace(step=before.step)
    jax.tree.map(np.testing.assert_array_equal, after, before)


def recognizer(config, dtype=jnp.float32, **model):
    """A recognizer with its first state and a batch of words of one length."""
    model = dataclasses.replace(parse(config).config.model, **model)
    task = RecognitionModel(model, (0.5,) * 3, (0.5,) * 3, dtype)
    rng = np.random.default_rng(0)
    params = jax.tree.map(
        lambda x: jnp.asarray(rng.normal(0, 0.1, x.shape).astype(x.dtype)),
        jax.eval_shape(task.init, jax.random.key(0))["params"],
    )
    optimizer = make_optimizer(
        RecognitionOptimConfig(lr_batch=8, text_freeze_layers=0), params, batch=8, total_steps=10
    )
    words = ["word", "read", "sign", "shop", "2001", "road", "exit", "open"]
    batch = {
        "image": jnp.asarray(rng.integers(0, 256, (8, 32, 32, 3), np.uint8)),
        "label": jnp.asarray(task.tokenizer.encode(words, model.max_label_length)),
    }
    return task, optimizer, init_state({"params": params}, optimizer), batch


def moments(state) -> list:
    """The first moments of all groups."""
    return [adam[0].mu for adam in state.opt_state.values()]


def test_micro_batches_of_a_recognizer(config):
    # Two permutations, forward and mirrored: nothing is drawn. Without dropout and with labels of one length
    # the mean over micro-batches is the mean over the batch.
    task, optimizer, state, batch = recognizer(config, dropout=0.0, use_language_model=False)

    def update(accumulate: int):
        step = jax.jit(make_step(task, optimizer, 0, accumulate)).lower(state, batch)
        return step.compile({"xla_backend_optimization_level": 0})(state, batch)  # compiles faster

    (whole, metrics), (parts, part_metrics) = update(1), update(4)
    for name in metrics:
        np.testing.assert_allclose(metrics[name], part_metrics[name], rtol=1e-4)
    first_moments = (jax.flatten_util.ravel_pytree(moments(new))[0] for new in (parts, whole))
    compare("gradients", *first_moments)


def test_bfloat16_computes_and_float32_is_kept(config):
    task, optimizer, state, batch = recognizer(config, jnp.bfloat16)
    step = jax.jit(make_step(task, optimizer, 0))
    assert "bf16" in step.lower(state, batch).as_text()
    new, metrics = jax.eval_shape(step, state, batch)
    dtypes = {leaf.dtype for leaf in jax.tree.leaves((new, metrics))}
    assert dtypes == {jnp.dtype("float32"), jnp.dtype("int32")}  # the latter are counters
