"""One training step of the three detectors against the original's losses, gradients and running statistics."""

import csv

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tcm_jax import pretrained
from tcm_jax.convert import engine, rules
from tests.conftest import channels_last, compare
from tests.golden_detectors import arrays, image_of, load_golden_detector

LOSS_NAMES = {"aux.loss_pix_cls": "loss_score_map"}


def golden_targets(family: str, step: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """The targets of a fixture as our losses take them."""
    targets = {k.removeprefix("target__"): x for k, x in step.items() if k.startswith("target__")}
    if family == "fce":
        return {name: channels_last(x) for name, x in targets.items()}
    if family == "pan":
        targets["gt_mask"] = targets["gt_mask"].reshape(-1, *targets["gt_mask"].shape[-2:])
    return targets


@pytest.fixture(scope="module", params=["tcm_db", "tcm_pan", "tcm_fce"])
def trained(request, detection_golden):
    """(fixture folder, its train_step.npz, our losses, gradients and new statistics by PyTorch's names)."""
    folder = detection_golden / request.param
    task, variables = load_golden_detector(folder)
    step = arrays(folder / "train_step.npz")
    targets = {k: jnp.asarray(x) for k, x in golden_targets(task.config.family, step).items()}

    @jax.jit
    def run(params, statistics, image):
        def total(params):
            variables = {"params": params, "batch_stats": statistics}
            output, state = task.model.apply(variables, image, train=True, mutable=["batch_stats"])
            losses = task.losses(output, targets)
            return sum(losses.values()), (losses, state["batch_stats"])

        return jax.grad(total, has_aux=True)(params)

    gradients, (losses, statistics) = run(variables["params"], variables["batch_stats"], image_of(folder))

    def torch_names(tree) -> dict[str, np.ndarray]:
        return engine.to_torch(pretrained.flatten(tree), rules.table("tcm"))

    gradients = torch_names({"params": gradients, "batch_stats": jax.tree.map(jnp.zeros_like, statistics)})
    buffers = torch_names({"params": variables["params"], "batch_stats": statistics})
    return folder, step, losses, gradients, buffers


def test_losses(trained):
    _, step, losses, _, _ = trained
    for name, expected in step.items():
        if name.startswith("loss__"):
            name = name.removeprefix("loss__")
            actual = sum(losses.values()) if name == "total" else losses[LOSS_NAMES.get(name, name.split(".")[1])]
            compare(name, actual, expected, 1e-4)


def test_gradients(trained):
    folder, step, _, gradients, _ = trained
    with (folder / "train_grads.tsv").open() as file:
        norms = {row["key"]: row["grad_l2"] for row in csv.DictReader(file, delimiter="\t")}
    expected = {key: 0.0 if value == "none" else float(value) for key, value in norms.items()}
    floor = 1e-4 * max(expected.values())  # below it there is only rounding, as for a bias before a BatchNorm
    for name, array in step.items():
        if name.startswith("grad__"):
            difference, scale = np.abs(gradients[name.removeprefix("grad__")] - array).max(), np.abs(array).max()
            print(f"{name}: max abs {difference:.3g}, max rel {difference / max(scale, floor):.3g}")
            assert difference <= 1e-3 * max(scale, floor), name
    relative = {
        key: abs(float(np.linalg.norm(gradients[key])) - norm) / max(norm, floor) for key, norm in expected.items()
    }
    errors = sorted(relative.values())
    print(
        f"gradient norms: median {errors[len(errors) // 2]:.2g}, 95 % {errors[int(0.95 * len(errors))]:.2g}, "
        f"largest {errors[-1]:.2g}"
    )
    assert errors[int(0.95 * len(errors))] <= 1e-3
    assert errors[-1] <= 1e-2, max(relative, key=relative.__getitem__)


def test_running_statistics(trained):
    _, step, _, _, buffers = trained
    for name, expected in step.items():
        if name.startswith("buffer__") and not name.endswith("num_batches_tracked"):
            compare(name, buffers[name.removeprefix("buffer__")], expected, 1e-5)
