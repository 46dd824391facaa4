"""Compiles the training step of a config for a machine that is elsewhere, and prints whether it fits and how fast it
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
from tcm_jax.planning.topologies import Topology, topology
from tcm_jax.planning.work import work
from tcm_jax.tasks import parse
from tcm_jax.training.mesh import make_mesh
from tcm_jax.training.program import predict_program, train_program

RECORDS = 1_000_000  # of the training data; only the schedule's constants depend on it
DOES_NOT_FIT = 2


def plan(config: Mapping[str, Any], machine: Topology, name: str = "", decode: bool = False) -> Plan:
    """Compiles one program for a machine.

    Args:
        config: plain nested dictionaries; see configs/. Weights and data are not read.
        name: of the config, for the report; decode: the inference program instead of the training step.

    Raises:
        ConfigError: a key or value is wrong. ValueError: the mesh does not fit the machine.
    """
    clock = time.monotonic()
    values = {**config, "init": ""}
    if values.get("dtype", "auto") == "auto":  # for this machine it would stand for another one
        values["dtype"] = "float32" if machine.platform == "cpu" else "bfloat16"
    remat, batch = values.get("remat", "none"), values["batch"]
    lowered = _lower(values, machine, decode)
    run = own = work(hlo.parse(lowered.as_text("hlo")))
    if not decode and remat != "none":  # the model's own work, without what rematerialisation repeats
        own = work(hlo.parse(_lower({**values, "remat": "none"}, machine, decode).as_text("hlo")))
    mesh = make_mesh(parse(values).config.mesh, machine.devices)
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
    m: Any = compiled.memory_analysis()
    sizes = (
        m.argument_size_in_bytes,
        m.output_size_in_bytes - m.alias_size_in_bytes,
        m.temp_size_in_bytes,
        m.generated_code_size_in_bytes,
    )
    memory = Memory(*sizes, peak=sum(sizes))
    times: dict[str, Any] = {}
    if machine.chip:
        r = roofline(done, machine.chip, Grid(list(mesh.devices.flat), machine.sides))
        times = {"compute": r.compute, "memory_time": r.memory, "network": r.network}
        times |= {"best": r.best, "serial": r.serial, "bound": r.bound}
    return dataclasses.replace(
        result,
        memory=memory,
        fits=machine.chip is None or memory.peak <= machine.chip.memory,
        flops=run.flops / mesh.size if done.library else done.flops,
        bytes=done.bytes,
        collectives=done.sent(),
        loops=len(done.unbounded),
        library=bool(done.library),
        **times,
        compile_seconds=time.monotonic() - clock,
    )


def _lower(values: Mapping[str, Any], machine: Topology, decode: bool) -> jax.stages.Lowered:
    task = parse(values)
    mesh = make_mesh(task.config.mesh, machine.devices)
    if decode:
        return predict_program(task, mesh, task.config.batch)
    return train_program(task, mesh, RECORDS).lower()


@contextlib.contextmanager
def progress(text: str, every: float = 30) -> Iterator[None]:
    """Prints `text` on stderr, and every `every` seconds for how long it has been so."""
    finished, clock = threading.Event(), time.monotonic()

    def repeat() -> None:
        while not finished.wait(every):
            print(f"{text}: {time.monotonic() - clock:.0f} s", file=sys.stderr, flush=True)

    print(f"{text} ...", file=sys.stderr, flush=True)
    thread = threading.Thread(target=repeat, daemon=True)
    thread.start()
    try:
        yield
    finally:
        finished.set()
        thread.join()


def main() -> None:
    """The command line."""
    config_flag = config_flags.DEFINE_config_file("config", help_string="FILE.py or FILE.py:VARIANT")
    topology_flag = flags.DEFINE_string("topology", None, "such as v5e:16x16, v5p:4x4x4 or cpu:8", required=True)
    decode_flag = flags.DEFINE_bool("decode", False, "the inference program instead of the training step")
    batch_flag = flags.DEFINE_integer("batch_per_chip", 0, "batch on each chip; replaces config.batch", lower_bound=0)
    json_flag = flags.DEFINE_string("json", None, "file to write the numbers to")

    @command_line.command
    def run(_: list[str]) -> None:
        machine = topology(topology_flag.value)
        values = config_flag.value.to_dict()
        if batch_flag.value:
            values["batch"] = batch_flag.value * len(machine.devices)
        name = Path(config_flags.get_config_filename(flags.FLAGS["config"])).name.replace(".py", "")
        with progress(f"compiling {name} for {machine.name}, {len(machine.devices)} x {machine.kind}"):
            result = plan(values, machine, name, decode_flag.value)
        print(result.text())
        if json_flag.value:
            with atomic_file(json_flag.value) as file:
                json.dump(result.json(), file, indent=1)
        sys.exit(0 if result.fits else DOES_NOT_FIT)

    logging.set_verbosity(logging.WARNING)
    app.run(run, flags_parser=command_line.config_parser(config_flag))


if __name__ == "__main__":
    main()
