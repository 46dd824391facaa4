"""Plans: compiled for a TPU slice and counted by hand, links by hand, and the command."""

import dataclasses
import itertools
import json
import re
import subprocess
import sys
from types import SimpleNamespace

import jax
import jax.numpy as jnp
import pytest
from jax.sharding import AxisType, NamedSharding, PartitionSpec

from tcm_jax.commands import plan
from tcm_jax.planning import hlo
from tcm_jax.planning.chips import CHIPS, find
from tcm_jax.planning.roofline import Grid, roofline
from tcm_jax.planning.topologies import TopologyError, topology
from tcm_jax.planning.work import Collective, Operation, Work, work

V5E = find("TPU v5 lite")


def layers(x, weights):
    """Six layers in a loop, and the sum of what comes out."""
    last, _ = jax.lax.scan(lambda x, w: (jnp.tanh(x @ w), None), x, weights)
    return (last.astype(jnp.float32) ** 2).sum()


def compiled_for_v5e(x_spec: PartitionSpec, w_spec: PartitionSpec) -> jax.stages.Compiled:
    """The gradients of `layers` for a batch of 64 and a width of 1024 on a slice of four chips."""
    devices = topology("v5e:2x2").devices
    mesh = jax.make_mesh((4,), ("fsdp",), devices=devices, axis_types=(AxisType.Auto,))
    x_at, w_at = (NamedSharding(mesh, spec) for spec in (x_spec, w_spec))
    x = jax.ShapeDtypeStruct((64, 1024), jnp.bfloat16, sharding=x_at)
    w = jax.ShapeDtypeStruct((6, 1024, 1024), jnp.bfloat16, sharding=w_at)
    return jax.jit(jax.grad(layers, argnums=1), out_shardings=w_at).lower(x, w).compile()


@pytest.mark.slow
def test_data_parallel_layers_on_a_tpu_slice():
    compiled = compiled_for_v5e(PartitionSpec("fsdp"), PartitionSpec())
    done = work(hlo.parse(compiled.as_text()), devices=4)
    product = 2 * 16 * 1024 * 1024  # 16 of the 64 rows on each chip
    assert done.flops == 3 * 6 * product  # forward, gradients of x, gradients of w
    # What the gradients are: 6 matrices in bfloat16 over a ring of 4, there and back.
    sent = sum(size for kind, (_, size) in done.sent().items() if kind in ("all-reduce", "reduce-scatter"))
    assert sent == pytest.approx(2 * (3 / 4) * 6 * 1024 * 1024 * 2, rel=0.01)
    assert compiled.cost_analysis()["flops"] < done.flops / 3  # XLA counts a loop's body once
    assert not done.unbounded


@pytest.mark.slow
def test_sharded_weights_on_a_tpu_slice_are_gathered_in_the_loop():
    compiled = compiled_for_v5e(PartitionSpec("fsdp"), PartitionSpec(None, "fsdp"))
    count, sent = work(hlo.parse(compiled.as_text()), devices=4).sent()["all-gather"]
    assert sent >= (3 / 4) * 6 * 1024 * 1024 * 2  # at least once for the forward pass
    assert count >= 6


def test_bytes_sent():
    four = ((0, 1, 2, 3),)
    assert Collective("all-gather", 400, four).sent == 300
    assert Collective("all-reduce", 400, four).sent == 600
    assert Collective("collective-permute", 400, ((0, 1),)).sent == 400


def grid(*sides: int) -> Grid:
    """Chips in the order of their coordinates, the last one running fastest."""
    positions = itertools.product(*map(range, sides))
    return Grid([SimpleNamespace(coords=position) for position in positions], sides)


def test_exchanges_on_lines_rings_and_interleaved_groups():
    link = V5E.link_bandwidth

    def links(grid: Grid, group: tuple[int, ...]) -> float:
        exchange = Collective("all-gather", 1e9, (group,))
        return exchange.sent / grid.seconds(exchange, V5E) / link

    assert links(grid(4, 4), (0, 1, 2, 3)) == 1  # a line: its ends have one link
    assert links(grid(4, 4), tuple(range(16))) == 2  # both sides of the grid
    assert links(grid(16, 16), tuple(range(16))) == 2  # a ring of 16
    assert links(grid(16, 16), tuple(range(256))) == 4
    assert links(grid(16, 16), tuple(range(0, 16, 4))) == 0.5  # four groups share the ring
    whole = Collective("all-to-all", 1e9, (tuple(range(16)),))  # a quarter of the ring lies between two chips
    assert grid(16, 16).seconds(whole, V5E) == pytest.approx(whole.sent * 4 / (2 * link))


def test_roofline_names_what_binds():
    gather = Collective("all-gather", 1e9, ((0, 1, 2, 3),))
    done = Work([Operation("product", 2, flops=1e12, bytes=1e9), Operation("gather", collective=gather)])
    times = roofline(done, V5E, grid(2, 2))
    assert times.compute == pytest.approx(2e12 / 197e12)
    assert times.memory == pytest.approx(2e9 / 819e9)
    assert times.network == pytest.approx(0.75e9 / (2 * 50e9))
    assert (times.best, times.bound) == (times.compute, "compute")
    assert times.serial == pytest.approx(times.compute + times.network)


def test_table_of_chips():
    assert find("TPU v5p").name == find("TPU v5").name == "v5p"
    assert find("cpu") is None
    kinds = [kind for chip in CHIPS for kind in chip.kinds]
    assert len(kinds) == len(set(kinds))
    assert all(chip.source.startswith("https://") for chip in CHIPS)


@pytest.mark.slow
def test_slices_have_one_device_for_each_chip():
    for name, count, chip in (("v4:2x2x1", 4, "v4"), ("v5e:1x1", 1, "v5e"), ("v5p:2x2x2", 8, "v5p")):
        found = topology(name)
        assert (len(found.devices), found.chip.name, found.platform) == (count, chip, "tpu")


@pytest.mark.parametrize("name", ["v5e", "v5e:3x3", "h100:8", "v99:2x2"])
def test_unknown_topologies_are_reported(name):
    with pytest.raises(TopologyError, match=re.escape(name)):
        topology(name)


@pytest.mark.slow
def test_a_program_that_does_not_fit(monkeypatch):
    machine = topology("v5e:2x2")
    mesh = jax.make_mesh((4,), ("x",), devices=machine.devices, axis_types=(AxisType.Auto,))
    x = jax.ShapeDtypeStruct((64, 2**30), jnp.bfloat16, sharding=NamedSharding(mesh, PartitionSpec("x")))
    monkeypatch.setattr(plan, "_lower", lambda *_: jax.jit(lambda x: x * 2).lower(x))
    config = {"batch": 64, "dtype": "auto"}
    parsed = SimpleNamespace(config=SimpleNamespace(mesh=None))
    monkeypatch.setattr(plan, "parse", lambda _: parsed)
    result = plan.plan(config, machine)
    assert not result.fits
    assert "15.75G" in result.text()
    assert result.dtype == "bfloat16"  # what "auto" means there, not here


@pytest.mark.slow
def test_command_on_simulated_devices(tmp_path):
    file = tmp_path / "plan.json"
    options = ["--config=configs/clip4str_base.py:tiny", "--topology=cpu:4", "--batch-per-chip=2"]
    command = [sys.executable, "-m", "tcm_jax.plan", *options, f"--json={file}"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    numbers = json.loads(file.read_text())
    assert numbers["batch"] == 8
    assert numbers["mesh"] == {"data": 4, "fsdp": 1, "tensor": 1}
    # What each device does for its two images, and for all of them nothing twice.
    assert numbers["flops"] * 4 / 8 == pytest.approx(numbers["image_flops"], rel=0.02)
    assert numbers["collectives"]["all-reduce"][1] > 0
    assert "training step on cpu:4" in done.stdout
    assert set(numbers) >= {field.name for field in dataclasses.fields(plan.Plan)}


@pytest.mark.slow
def test_command_reports_what_is_wrong():
    options = ["--config=configs/clip4str_base.py:tiny", "--topology=gpu:8"]
    done = subprocess.run([sys.executable, "-m", "tcm_jax.plan", *options], capture_output=True, text=True, timeout=60)
    assert done.returncode == 1
    assert done.stderr.startswith("error: gpu:8: this machine has no")
