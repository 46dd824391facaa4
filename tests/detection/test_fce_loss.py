"""FCENet's losses: against the original with gradients, and by hand."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tcm_jax.detection.fce import FCENet
from tcm_jax.detection.fce.model import Level
from tests.conftest import channels_last, compare, read_json

NAMES = ("p3", "p4", "p5")


def test_losses_and_gradients_are_the_originals(detection_golden):
    config = read_json(detection_golden / "losses/config.json")["fce"]
    inputs = np.load(detection_golden / "losses/inputs.npz")
    outputs = np.load(detection_golden / "losses/outputs.npz")
    detector = FCENet(
        fourier_degree=config["fourier_degree"],
        loss_points=config["num_sample"],
        negative_ratio=config["ohem_ratio"],
    )
    assert config["cases"]
    for case in config["cases"]:

        def of(name, case=case):
            return jnp.asarray(channels_last(inputs[f"fce_{case}__{name}"]))

        levels = [Level(of(f"cls_{name}"), of(f"reg_{name}")) for name in NAMES]
        targets = {f"{name}_maps": of(f"{name}_maps") for name in NAMES}

        def total(levels, targets=targets):
            losses = detector.losses(levels, targets)
            return sum(losses.values()), losses

        gradients, losses = jax.jit(jax.grad(total, has_aux=True))(levels)
        for name, value in losses.items():
            compare(f"{case} {name}", value, outputs[f"fce_{case}__{name}"], 1e-5)
        compare(f"{case} total", sum(losses.values()), outputs[f"fce_{case}__total"], 1e-5)
        for name, gradient in zip(NAMES, gradients, strict=True):
            for kind, ours in (("cls", gradient.logits), ("reg", gradient.coefficients)):
                compare(f"{case} {kind}", ours, channels_last(outputs[f"fce_{case}__grad_{kind}_{name}"]), 1e-4)


@pytest.mark.parametrize("cross_entropy", [True, False])
def test_auxiliary_loss_is_the_originals(detection_golden, cross_entropy):
    config = read_json(detection_golden / "losses/config.json")
    inputs = np.load(detection_golden / "losses/inputs.npz")
    outputs = np.load(detection_golden / "losses/outputs.npz")
    detector = FCENet(
        negative_ratio=config["fceidentity"]["negative_ratio"],
        auxiliary_cross_entropy=cross_entropy,
    )
    weight, variant = config["fceidentity"]["loss_weight"], "bbce" if cross_entropy else "dice"
    for case in config["fce"]["cases"]:
        name = f"fceidentity_{case}"
        targets = {"matching_maps": jnp.asarray(channels_last(inputs[f"{name}__matching_maps"]))}

        def loss(logits, targets=targets):
            return weight * detector.auxiliary_loss(logits, targets, coupled=True)

        value, gradient = jax.jit(jax.value_and_grad(loss))(jnp.asarray(inputs[f"{name}__logits"][:, 0]))
        compare(f"{name} {variant}", value, outputs[f"{name}__{variant}__loss_pix_cls"], 1e-5)
        compare(f"{name} gradient", gradient, outputs[f"{name}__{variant}__grad_logits"][:, 0], 1e-4)


def blank(count: int = 1, size: int = 4, degree: int = 2) -> tuple[list[Level], dict]:
    """Zero outputs and targets without text, where everything counts."""
    channels = 2 * (2 * degree + 1)
    level = Level(jnp.zeros((count, size, size, 4)), jnp.zeros((count, size, size, channels)))
    maps = np.zeros((count, size, size, 3 + channels), np.float32)
    maps[..., 2] = 1
    return [level] * 3, {f"{name}_maps": maps.copy() for name in NAMES}


def test_without_text_by_hand():
    """16 pixels of log 2 on three levels, divided by a hundred; nothing else is defined."""
    levels, targets = blank()
    losses = FCENet(fourier_degree=2).losses(levels, targets)
    assert losses["loss_text"] == pytest.approx(3 * 16 * math.log(2) / 100, rel=1e-6)
    assert losses["loss_center"] == losses["loss_reg_x"] == losses["loss_reg_y"] == 0


def test_contour_by_hand():
    """One pixel of text, not in the center region, whose contour is two pixels too far right and half too low."""
    levels, targets = blank()
    maps = targets["p4_maps"]
    maps[0, 1, 2, 0] = 1
    maps[0, 1, 2, 3 + 2], maps[0, 1, 2, 3 + 5 + 2] = -2.0, -0.5  # the 0th of -2..2, real and imaginary
    losses = FCENet(fourier_degree=2).losses(levels, targets)
    assert losses["loss_reg_x"] == pytest.approx((2 - 0.5) * 0.5, rel=1e-6)
    assert losses["loss_reg_y"] == pytest.approx(0.5 * 0.5**2 * 0.5, rel=1e-6)
    assert losses["loss_center"] == pytest.approx(1.5 * math.log(2), rel=1e-6)
    maps[0, 1, 2, 1] = 1
    assert FCENet(fourier_degree=2).losses(levels, targets)["loss_reg_x"] == pytest.approx(1.5, rel=1e-6)


@pytest.mark.parametrize("text, counts", [(1, 1), (1, 0), (0, 0)])
def test_full_and_ignored_maps_are_finite(text, counts):
    levels, targets = blank()
    for maps in targets.values():
        maps[..., 0], maps[..., 2] = text, counts

    def total(levels):
        return sum(FCENet(fourier_degree=2).losses(levels, targets).values())

    value, gradients = jax.jit(jax.value_and_grad(total))(levels)
    assert np.isfinite(value)
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(gradients))
