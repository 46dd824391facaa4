"""Trains a recognizer or a text detector.

    python -m tcm_jax.train --config configs/clip4str_base.py:tiny --workdir runs/tiny --config.batch=16
    python -m tcm_jax.train --config configs/tcm_db.py:quickstart --workdir runs/detector

Everything goes to the working directory: config.json, versions.json, metrics.jsonl, tensorboard/, checkpoints/, and the
model directories best/ (highest validation score) and last/. The same command again goes on where the run stopped.
Ctrl-C and SIGTERM save a checkpoint first (exit status 130 and 143).
"""

import contextlib
import functools
import itertools
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jax
from absl import app, flags, logging
from jax.sharding import Mesh
from ml_collections import config_flags

from tcm_jax import pretrained
from tcm_jax.data.build import weights
from tcm_jax.data.pipeline import train_batches
from tcm_jax.data.records import SourceError
from tcm_jax.tasks.loading import find_model
from tcm_jax.training.checkpoint import CheckpointError, Checkpoints
from tcm_jax.training.config import ConfigError
from tcm_jax.training.interrupt import Interrupted, StopSignal
from tcm_jax.training.loop import Loop, NonFiniteError, device_batches
from tcm_jax.training.objective import Objective
from tcm_jax.training.objectives import parse
from tcm_jax.training.optim import Tree
from tcm_jax.training.report import Report
from tcm_jax.training.state import TrainState, compile_step, init_state, make_mesh, make_step, replicated
from tcm_jax.training.validation import LAST, Validation, stored
from tcm_jax.training.workdir import ResumeError, check_config, versions, write_json

_ERRORS = (CheckpointError, ConfigError, NonFiniteError, ResumeError, SourceError)  # that speak for themselves


def run(config: Mapping[str, Any], workdir: str | Path) -> None:
    """Trains from the start or from the newest checkpoint in `workdir` to the last step.

    Args:
        config: plain nested dictionaries; see configs/ and `tcm_jax.training`.

    Raises:
        Interrupted: Ctrl-C or SIGTERM; the state is saved.
        ConfigError, SourceError, ResumeError, CheckpointError, NonFiniteError: as their names say.
    """
    objective, workdir, mesh = parse(config), Path(workdir), make_mesh()
    c, task = objective.config, objective.task
    with jax.set_mesh(mesh), Checkpoints(workdir / "checkpoints", c.checkpoint.keep) as checkpoints:
        if checkpoints.steps:
            for line in check_config(workdir, config):
                say(f"changed since the checkpoint: {line}")
        sources, validation_sources = objective.training_sources(), objective.validation_sources()
        if not sources:
            raise ConfigError("config.data.train is empty; expected at least one entry")
        for source in (*sources, *validation_sources):
            say(objective.describe(source))
        records = sum(len(source) for source in sources)
        total = c.total_steps(records)
        if jax.process_index() == 0:
            write_json(workdir / "config.json", config)
            write_json(workdir / "versions.json", versions())

        shapes = jax.eval_shape(task.init, jax.random.key(0))
        optimizer = objective.optimizer(shapes["params"], records)
        say(f"{total:,} steps of {c.batch} images in {c.compute_dtype.__name__} on {describe_devices()}")
        say(f"parameters: {optimizer.describe(shapes['params'])}")

        new_state = functools.partial(init_state, optimizer=optimizer)
        state = checkpoints.restore(abstract(jax.eval_shape(new_state, shapes), mesh))
        if state is None:
            make = jax.jit(new_state, donate_argnums=0, out_shardings=replicated(mesh))
            state = make(first_variables(objective, mesh))
        start = int(state.step)
        say(f"resuming after step {start:,}" if start else "starting")

        with Report(workdir, start, total, quiet=jax.process_index() != 0) as report, StopSignal() as stop:
            validation = Validation(
                objective, optimizer, validation_sources, mesh, workdir, origin(c.init), report, stop
            )
            if start >= total:
                if stored(workdir / LAST).get("step") != start:  # stopped just before
                    validation.validate(start, state)
                    validation.finish(start, state)
                report.message("all steps are done")
                return
            host_batches = train_batches(
                sources,
                objective.sample(),
                batch_size=c.batch,
                seed=c.seed,
                start_step=start,
                weights=weights(c.data.entries()),
                workers=c.data.workers,
                process_index=jax.process_index(),
                process_count=jax.process_count(),
            )
            with contextlib.closing(host_batches):
                feed = device_batches(host_batches, mesh)
                first = next(feed)
                clock = time.monotonic()
                step = compile_step(make_step(task, optimizer, c.seed, c.accumulate), state, first.arrays, mesh)
                report.message(f"compiled in {time.monotonic() - clock:.1f} s")
                Loop(
                    step=step,
                    batches=itertools.chain([first], feed),
                    batch_size=c.batch,
                    total=total,
                    log_every=c.log_every,
                    checkpoint_every=c.checkpoint.every,
                    validate_every=c.eval.every,
                    validate=validation.validate,
                    finish=validation.finish,
                    report=report,
                    checkpoints=checkpoints,
                    stop=stop,
                    workdir=workdir,
                ).run(state)


def first_variables(objective: Objective, mesh: Mesh) -> Tree:
    """Random variables, or those of the model directory `config.init`; says which is which."""
    c = objective.config
    variables = jax.jit(objective.task.init, out_shardings=replicated(mesh))(jax.random.key(c.seed))
    if not c.init:
        return variables
    try:
        directory = find_model(c.init)
        variables, report = objective.initialize(variables, pretrained.load(directory))
    except (OSError, ValueError) as error:
        raise ConfigError(f"config.init: {error}") from error
    say(f"{directory}: {report}")
    return variables


def abstract(state: TrainState, mesh: Mesh) -> TrainState:
    """The state's shapes and dtypes with their place on the devices."""
    place = replicated(mesh)
    return jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=place), state)


def origin(init: str) -> dict[str, str]:
    """Source and licence of the trained model: those of the model it started from, if any."""
    if not init:
        return {"source": "trained from random weights", "license": "unknown"}
    first = pretrained.read_config(find_model(init))
    return {"source": f"trained from {first['source'].removeprefix('trained from ')}", "license": first["license"]}


def describe_devices() -> str:
    return f"{jax.device_count()} {jax.devices()[0].platform} device(s), {jax.devices()[0].device_kind}"


def say(text: str) -> None:
    """A line for the user, from one of the processes."""
    if jax.process_index() == 0:
        print(text, flush=True)


def main() -> None:
    """The command line."""
    config_flag = config_flags.DEFINE_config_file("config", help_string="FILE.py or FILE.py:VARIANT")
    workdir_flag = flags.DEFINE_string("workdir", None, "where everything goes", required=True)

    def parse_flags(arguments: list[str]) -> list[str]:
        try:
            rest = flags.FLAGS(arguments)
            if config_flag.value is None:
                raise flags.Error("flag --config is missing; expected a file of configs/")
            if len(rest) > 1:
                raise flags.Error(f"unexpected arguments {' '.join(rest[1:])}; expected --KEY=VALUE")
            return rest
        except (flags.Error, AttributeError, KeyError, OSError, ValueError) as error:
            message = error.args[0] if error.args else error  # KeyError and AttributeError quote theirs
            sys.exit(f"error: {str(message).strip()}")

    def train(_) -> None:
        try:
            run(config_flag.value.to_dict(), workdir_flag.value)
        except Interrupted as stop:
            print(stop, file=sys.stderr)
            sys.exit(stop.status)
        except KeyboardInterrupt:
            print("stopped before the first step", file=sys.stderr)
            sys.exit(130)
        except _ERRORS as error:
            sys.exit(f"error: {error}")

    logging.set_verbosity(logging.WARNING)
    app.run(train, flags_parser=parse_flags)


if __name__ == "__main__":
    main()
