"""A run is the same on every mesh."""

import json
import os
import subprocess
import sys

import numpy as np
import pytest

from tests.training.meshes import MESHES, ROOT

# Eight devices wait for each other in threads of one pool, of which XLA makes as many as there are cores.
EIGHT = {
    "XLA_FLAGS": f"{os.environ['XLA_FLAGS']} --xla_force_host_platform_device_count=8",
    "NPROC": "32",
    "JAX_PLATFORMS": "cpu",
}


@pytest.mark.slow
@pytest.mark.parametrize(
    ("recipe", "meshes", "held"),
    [
        ("clip4str_base", list(MESHES), {"fsdp 8, everything recomputed": 0.15, "data 2, fsdp 2, tensor 2": 0.51}),
        ("tcm_db", [*MESHES][::2], {"fsdp 8, everything recomputed": 0.14, "data 2, fsdp 2, tensor 2": 0.42}),
    ],
)
def test_loss_curves(recipe, meshes, held):
    command = [sys.executable, "-m", "tests.training.meshes", recipe, *meshes]
    done = subprocess.run(command, cwd=ROOT, env=os.environ | EIGHT, capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stderr
    curves = json.loads(done.stdout.splitlines()[-1])
    one = curves["one device"]
    assert len({*one["records"]}) == 4
    assert np.ptp(one["loss"]) > 0.5
    for name, curve in curves.items():
        print(name, {key: np.max(np.abs(np.divide(curve[key], one[key]) - 1)) for key in ("loss", "grad_norm")}, curve)
        assert curve["records"] == one["records"], name
        np.testing.assert_allclose(curve["loss"], one["loss"], rtol=2e-6, err_msg=name)
        np.testing.assert_allclose(curve["grad_norm"], one["grad_norm"], rtol=2e-3, err_msg=name)
        assert curve["held"] <= held.get(name, 1.0), name
