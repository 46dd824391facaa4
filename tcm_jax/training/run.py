"""A training run: everything in its order, from the config to the last checkpoint."""

import contextlib
import itertools
import os
import time
from collections.abc import Callable, Mapping
from typing import Any

import jax
from jax.sharding import Mesh

from tcm_jax import pretrained
from tcm_jax.data.pipeline import train_batches
from tcm_jax.data.words.build import weights
from tcm_jax.distributed import Watch, barrier, startup_line
from tcm_jax.distributed.interrupt import StopSignal
from tcm_jax.distributed.multihost import broadcast_from_host0
from tcm_jax.files import as_path, write_json
from tcm_jax.pretrained import find_model
from tcm_jax.training import partition
from tcm_jax.training.checkpoint import Checkpoints
from tcm_jax.training.config import ConfigError
from tcm_jax.training.loop import Loop, device_batches, shorten
from tcm_jax.training.mesh import batch_share, describe, make_mesh
from tcm_jax.training.optim import Tree
from tcm_jax.training.profile import Profile
from tcm_jax.training.program import sharded_init, train_program
from tcm_jax.training.report import RunLog
from tcm_jax.training.speed import speed
from tcm_jax.training.task import Task
from tcm_jax.training.validation import LAST, Validation, stored
from tcm_jax.training.workdir import check_config, versions

DATA_SECONDS = 3600.0  # that processes may take longer than others to open the data


def run(config: Mapping[str, Any], workdir: str | os.PathLike, parse: Callable[[Mapping[str, Any]], Task]) -> None:
    """Trains from the start or from the newest checkpoint in `workdir` to the last step.

    Args:
        config: plain nested dictionaries; see configs/ and `tcm_jax.training`.
        parse: makes the task of a config, `tcm_jax.tasks.parse`.

    Raises:
        Interrupted: Ctrl-C or SIGTERM; the state is saved.
        ConfigError, SourceError, ResumeError, CheckpointError, NonFiniteError: as their names say.
    """
    task, workdir = parse(config), as_path(workdir)
    c = task.config
    try:
        mesh = make_mesh(c.mesh)
    except ValueError as error:
        raise ConfigError(str(error)) from error
    with contextlib.ExitStack() as stack:
        stack.enter_context(jax.set_mesh(mesh))
        watch = stack.enter_context(Watch(c.stall_seconds, c.lost_seconds))
        contents = {"config": config, "versions": versions(), "mesh": dict(mesh.shape)}
        checkpoints = stack.enter_context(Checkpoints(workdir / "checkpoints", c.checkpoint, contents))
        if checkpoints.steps:
            for line in check_config(workdir, config):
                say(f"changed since the checkpoint: {line}")
        sources, validation_sources = task.training_sources(), task.validation_sources()
        if not sources:
            raise ConfigError("config.data.train is empty; expected at least one entry")
        for source in (*sources, *validation_sources):
            say(task.describe(source))
        records = sum(len(source) for source in sources)
        total = c.total_steps(records)
        try:
            program = train_program(task, mesh, records)
        except ValueError as error:
            raise ConfigError(str(error)) from error
        share = batch_share(mesh)
        print(startup_line(c.batch, share), flush=True)
        barrier("the data is open", DATA_SECONDS)
        if jax.process_index() == 0:
            write_json(workdir / "config.json", config)
            write_json(workdir / "versions.json", versions())

        say(f"{total:,} steps of {c.batch} images in {c.compute_dtype.__name__} on {describe(mesh)}")
        say(f"parameters: {program.optimizer.describe(program.state.params)}")
        whole = partition.undivided(program.state.params, task.partition_rules(), mesh)
        if whole:
            say(f"{len(whole)} parameters are whole where the mesh does not divide them: {shorten(list(whole))}")

        state = checkpoints.restore(program.state)
        if state is None:
            state = program.first_state(first_variables(task, mesh))
        start = int(state.step)
        say(f"resuming after step {start:,}" if start else "starting")

        report = stack.enter_context(RunLog(workdir, start, total, quiet=jax.process_index() != 0))
        stop = stack.enter_context(StopSignal())
        validation = Validation(
            task, program.optimizer, validation_sources, mesh, workdir, origin(c.init), report, stop, watch
        )
        if start >= total:
            if broadcast_from_host0([int(stored(workdir / LAST).get("step") != start)])[0]:  # stopped just before
                validation.validate(start, state)
                validation.finish(start, state)
            report.message("all steps are done")
            return
        host_batches = train_batches(
            sources,
            task.sample(),
            batch_size=c.batch,
            seed=c.seed,
            start_step=start,
            weights=weights(c.data.entries()),
            workers=c.data.workers,
            share=share,
        )
        stack.enter_context(contextlib.closing(host_batches))
        feed = device_batches(host_batches, mesh)
        first = next(feed)
        clock = time.monotonic()
        step = program.lower().compile()
        report.message(f"compiled in {time.monotonic() - clock:.1f} s")
        Loop(
            step=step,
            batches=itertools.chain([first], feed),
            mesh=mesh,
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
            watch=watch,
            profile=stack.enter_context(Profile(workdir / "tensorboard", start, total, c.profile_steps)),
            speed=speed(config, mesh, parse),
            workdir=workdir,
        ).run(state)


def first_variables(task: Task, mesh: Mesh) -> Tree:
    """Random variables, or those of the model directory `config.init`; says which is which."""
    c = task.config
    variables = sharded_init(task, mesh)(jax.random.key(c.seed))
    if not c.init:
        return variables
    try:
        directory = find_model(c.init)
        variables, report = task.initialize(variables, pretrained.load(directory))
    except (OSError, ValueError) as error:
        raise ConfigError(f"config.init: {error}") from error
    say(f"{directory}: {report}")
    return variables


def origin(init: str) -> dict[str, str]:
    """Source and licence of the trained model: those of the model it started from, if any."""
    if not init:
        return {"source": "trained from random weights", "license": "unknown"}
    first = pretrained.read_config(find_model(init))
    return {"source": f"trained from {first['source'].removeprefix('trained from ')}", "license": first["license"]}


def say(text: str) -> None:
    """A line for the user, from one of the processes."""
    if jax.process_index() == 0:
        print(text, flush=True)
