"""Compiles the training step of a config for a machine that is not there, and tells whether it fits and how fast it
can be at best.

    python -m tcm_jax.plan --config configs/clip4str_base.py --topology v5e:4x4
    python -m tcm_jax.plan --config configs/clip4str_huge.py --topology v5e:16x16 --config.mesh.fsdp=16
    python -m tcm_jax.plan --config configs/clip4str_base.py --topology v6e:2x2 --decode --batch-per-chip 64

A CPU is all it needs, and `pip install 'tcm_jax[plan]'` for the TPU's compiler. Topologies: TPU slices v4:2x2x1,
v5e:16x16, v5p:4x4x4, v6e:16x16 and so on; cpu:8 simulates devices; gpu:8 are the GPUs of this machine. It reads no data
and no weights. Exit status 2 if the program does not fit.
"""

import contextlib
import dataclasses
import json
import sys
import threading
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import jax
from absl import app, flags, logging
from ml_collections import config_flags

from tcm_jax.commands import command_line
from tcm_jax.files import atomic_file
from tcm_jax.planning import hlo
from tcm_jax.planning.report import Memory, Plan
from tcm_jax.planning.roofline import Grid, roofline
from tcm_jax.planning.topologies import Topology, TopologyError, topology
from tcm_jax.planning.work import Work, work
from tcm_jax.tasks import parse
from tcm_jax.training.config import ConfigError
from tcm_jax.training.mesh import make_mesh
from tcm_jax.training.program import predict_program, train_program

RECORDS = 1_000_000  # of the training data; only the schedule's constants depend on it
DOES_NOT_FIT = 2


def plan(config: Mapping[str, Any], machine: Topology, name: str = "", decode: bool = False) -> Plan:
    """Compiles one program for a machine.

    Args:
        config: plain nested dictionaries; see configs/. Weights and data are left alone.
        name: of the config, for the report. decode: the inference program in place of the training step.

    Raises:
        ConfigError: a key or value is wrong. ValueError: the mesh does not fit the machine.
    """
    clock = time.monotonic()
    values = {**config, "init": ""}
    if values.get("dtype", "auto") == "auto":  # for this machine it would stand for another one
        values["dtype"] = "float32" if machine.platform == "cpu" else "bfloat16"
    lowered = _lower(values, machine, decode)
    remat = values.get("remat", "none")
    run = work(hlo.parse(lowered.as_text("hlo")))
    own = run if decode or remat == "none" else _model_work(values, machine)
    mesh = make_mesh(parse(values).config.mesh, machine.devices)
    batch = values["batch"]
    result = Plan(
        config=name,
        topology=machine.name,
        program="decode" if decode else "train",
        mesh=dict(mesh.shape),
        batch=batch,
        accumulate=values.get("accumulate", 1),
        remat=remat,
        dtype=values["dtype"],
        devices=len(machine.devices),
        hosts=machine.hosts,
        chip=machine.chip.name if machine.chip else None,
        capacity=machine.chip.memory if machine.chip else None,
        image_flops=own.flops / batch,
        image_flops_run=run.flops / batch,
    )
    try:
        compiled = lowered.compile()
    except jax.errors.JaxRuntimeError as error:
        if "RESOURCE_EXHAUSTED" not in str(error):
            raise
        problem = str(error).splitlines()[0].removeprefix("RESOURCE_EXHAUSTED: ")
        return dataclasses.replace(result, problem=problem, compile_seconds=time.monotonic() - clock)
    done = work(hlo.parse(compiled.as_text() or ""), mesh.size)
    grid = Grid(list(mesh.devices.flat), machine.sides)
    return dataclasses.replace(
        result,
        **_measured(compiled, done, run.flops / mesh.size, machine, grid),
        compile_seconds=time.monotonic() - clock,
    )


def _lower(values: Mapping[str, Any], machine: Topology, decode: bool) -> jax.stages.Lowered:
    task = parse(values)
    mesh = make_mesh(task.config.mesh, machine.devices)
    if decode:
        return predict_program(task, mesh, task.config.batch)
    return train_program(task, mesh, RECORDS).lower()


def _model_work(values: Mapping[str, Any], machine: Topology) -> Work:
    """What the model asks for, without what rematerialisation computes twice."""
    return work(hlo.parse(_lower({**values, "remat": "none"}, machine, decode=False).as_text("hlo")))


def _measured(compiled: jax.stages.Compiled, done: Work, share: float, machine: Topology, grid: Grid) -> dict[str, Any]:
    """The fields of `Plan` that a compiled program has; `share` is a device's part of the uncompiled one's FLOP."""
    m: Any = compiled.memory_analysis()
    outputs = m.output_size_in_bytes - m.alias_size_in_bytes
    whole = m.argument_size_in_bytes + outputs + m.temp_size_in_bytes + m.generated_code_size_in_bytes
    memory = Memory(m.argument_size_in_bytes, outputs, m.temp_size_in_bytes, m.generated_code_size_in_bytes, whole)
    fields = {
        "memory": memory,
        "fits": machine.chip is None or memory.peak <= machine.chip.memory,
        "flops": share if done.library else done.flops,
        "bytes": done.bytes,
        "collectives": done.sent(),
        "loops": len(done.unbounded),
        "library": bool(done.library),
    }
    if machine.chip:
        times = roofline(done, machine.chip, grid)
        fields |= {"compute": times.compute, "memory_time": times.memory, "network": times.network}
        fields |= {"best": times.best, "serial": times.serial, "bound": times.bound}
    return fields


@contextlib.contextmanager
def progress(text: str, every: float = 30) -> Iterator[None]:
    """Says on stderr what is being done, and from time to time that it still is."""
    over, clock = threading.Event(), time.monotonic()

    def watch() -> None:
        while not over.wait(every):
            print(f"{text}: {time.monotonic() - clock:.0f} s", file=sys.stderr, flush=True)

    print(f"{text} ...", file=sys.stderr, flush=True)
    thread = threading.Thread(target=watch, daemon=True)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()


def main() -> None:
    """The command line."""
    config_flag = config_flags.DEFINE_config_file("config", help_string="FILE.py or FILE.py:VARIANT")
    topology_flag = flags.DEFINE_string("topology", None, "such as v5e:16x16, v5p:4x4x4 or cpu:8", required=True)
    decode_flag = flags.DEFINE_bool("decode", False, "the inference program in place of the training step")
    batch_flag = flags.DEFINE_integer("batch_per_chip", 0, "in place of config.batch", lower_bound=0)
    json_flag = flags.DEFINE_string("json", None, "file for the numbers")

    @command_line.command
    def run(_) -> None:
        try:
            machine = topology(topology_flag.value)
            values = config_flag.value.to_dict()
            if batch_flag.value:
                values["batch"] = batch_flag.value * len(machine.devices)
            name = Path(config_flags.get_config_filename(flags.FLAGS["config"])).name.replace(".py", "")
            with progress(f"compiling {name} for {machine.name}, {len(machine.devices)} x {machine.kind}"):
                result = plan(values, machine, name, decode_flag.value)
        except (ConfigError, TopologyError, ValueError) as error:
            sys.exit(f"error: {error}")
        print(result.text())
        if json_flag.value:
            with atomic_file(json_flag.value) as file:
                json.dump(result.json(), file, indent=1)
        sys.exit(0 if result.fits else DOES_NOT_FIT)

    logging.set_verbosity(logging.WARNING)
    app.run(run, flags_parser=command_line.config_parser(config_flag))


if __name__ == "__main__":
    main()
