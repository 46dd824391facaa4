"""A training run: everything in its order, from the config to the last checkpoint."""

import contextlib
import itertools
import os
import time
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import jax
from jax.sharding import Mesh

from tcm_jax import pretrained
from tcm_jax.data.entries import weights
from tcm_jax.data.pipeline import train_batches
from tcm_jax.distributed import Watchdog, barrier
from tcm_jax.distributed.interrupt import StopSignal
from tcm_jax.distributed.share import startup_line
from tcm_jax.files import as_path, write_json
from tcm_jax.pretrained import find_model
from tcm_jax.training import partition
from tcm_jax.training.checkpoint import Checkpoints
from tcm_jax.training.config import ConfigError
from tcm_jax.training.loop import Loop, prefetch_to_device
from tcm_jax.training.mesh import batch_share, describe_mesh, make_mesh
from tcm_jax.training.optim import Tree
from tcm_jax.training.profile import Profile
from tcm_jax.training.program import sharded_init, train_program
from tcm_jax.training.report import RunLog, print_on_host0, shorten
from tcm_jax.training.speed import speed_metrics
from tcm_jax.training.task import Task
from tcm_jax.training.validation import Validation
from tcm_jax.training.workdir import check_config, versions

_DATA_SECONDS = 3600.0  # that processes may take longer than others to open the data


def run(config: Mapping[str, Any], workdir: str | os.PathLike, parse: Callable[[Mapping[str, Any]], Task]) -> None:
    """Trains from the start or from the newest checkpoint in `workdir` to the last step.

    Args:
        config: plain nested dictionaries; see configs/ and `tcm_jax.training.config`.
        parse: makes the task of a config, `tcm_jax.tasks.parse`.

    Raises:
        Interrupted: Ctrl-C or SIGTERM; the state is saved.
        ConfigError, SourceError, ResumeError, CheckpointError, NonFiniteError: as their names say.
    """
    task, workdir = parse(config), as_path(workdir)
    c = task.config
    with _config_errors():
        mesh = make_mesh(c.mesh)
    with contextlib.ExitStack() as stack:
        stack.enter_context(jax.set_mesh(mesh))
        watchdog = stack.enter_context(Watchdog(c.stall_seconds, c.lost_seconds))
        metadata = {"config": config, "versions": versions()}
        checkpoints = stack.enter_context(Checkpoints(workdir / "checkpoints", c.checkpoint, metadata))
        if checkpoints.steps:
            for line in check_config(workdir, config):
                print_on_host0(f"changed since the checkpoint: {line}")
        sources, validation_sources = task.training_sources(), task.validation_sources()
        if not sources:
            raise ConfigError("config.data.train is empty; expected at least one entry")
        for source in (*sources, *validation_sources):
            print_on_host0(task.describe(source))
        records = sum(len(source) for source in sources)
        total = c.total_steps(records)
        with _config_errors():
            program = train_program(task, mesh, records)
        share = batch_share(mesh)
        print(startup_line(c.batch, share), flush=True)
        barrier("the data is open", _DATA_SECONDS)
        if jax.process_index() == 0:
            write_json(workdir / "config.json", config)
            write_json(workdir / "versions.json", versions())

        print_on_host0(f"{total:,} steps of {c.batch} images in {c.compute_dtype.__name__} on {describe_mesh(mesh)}")
        print_on_host0(f"parameters: {program.optimizer.describe(program.state.params)}")
        if uncut := partition.not_divisible(program.state.params, task.partition_rules(), mesh):
            print_on_host0(
                f"the mesh does not divide a dimension of {len(uncut)} parameters, which is not sharded: "
                f"{shorten(list(uncut))}"
            )

        state = checkpoints.restore(program.state)
        if state is None:
            state = program.first_state(first_variables(task, mesh))
        start = int(state.step)
        print_on_host0(f"resuming after step {start:,}" if start else "starting")

        log = stack.enter_context(RunLog(workdir, start, total, quiet=jax.process_index() != 0))
        stop = stack.enter_context(StopSignal())
        validation = Validation(
            task, program.optimizer, validation_sources, mesh, workdir, provenance(c.init), log, stop, watchdog
        )
        if start >= total:
            if not validation.has_exported_last(start):  # the run was stopped just before
                validation.validate(start, state)
                validation.export_last(start, state)
            log.message("all steps are done")
        else:
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
            profile = Profile(workdir / "tensorboard", start, total, c.profile_steps)
            stack.enter_context(contextlib.closing(profile))
            batches = prefetch_to_device(host_batches, mesh)
            first = next(batches)
            clock = time.monotonic()
            step = program.lower().compile()
            log.message(f"compiled in {time.monotonic() - clock:.1f} s")
            Loop(
                step=step,
                batches=itertools.chain([first], batches),
                mesh=mesh,
                config=c,
                total=total,
                validation=validation,
                log=log,
                checkpoints=checkpoints,
                stop=stop,
                watchdog=watchdog,
                profile=profile,
                speed=speed_metrics(config, mesh, parse),
                workdir=workdir,
            ).run(state)
        checkpoints.wait()
        log.message(f"done; models are in {validation.exported_models()}")


@contextlib.contextmanager
def _config_errors() -> Iterator[None]:
    """A ValueError is about a value of the config."""
    try:
        yield
    except ValueError as error:
        raise ConfigError(str(error)) from error


def first_variables(task: Task, mesh: Mesh) -> Tree:
    """Random variables, or those of the model directory `config.init`; prints which parameters are of which."""
    c = task.config
    variables = sharded_init(task, mesh)(jax.random.key(c.seed))
    if not c.init:
        return variables
    try:
        directory = find_model(c.init)
        variables, report = task.initialize(variables, pretrained.load(directory))
    except (OSError, ValueError) as error:
        raise ConfigError(f"config.init: {error}") from error
    print_on_host0(f"{directory}: {report}")
    return variables


def provenance(init: str) -> dict[str, str]:
    """Source and license of the trained model: those of the model it started from, if any."""
    if not init:
        return {"source": "trained from random weights", "license": "unknown"}
    first = pretrained.read_config(find_model(init))
    return {"source": f"trained from {first['source'].removeprefix('trained from ')}", "license": first["license"]}
