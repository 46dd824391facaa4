"""Trains a recognizer or a text detector.

    python -m tcm_jax.train --config configs/clip4str_base.py:tiny --workdir runs/tiny --config.batch=16
    python -m tcm_jax.train --config configs/tcm_db.py:quickstart --workdir runs/detector

Everything goes to the working directory: config.json, versions.json, metrics.jsonl, tensorboard/, checkpoints/, and the
model directories best/ (highest validation score) and last/. The same command again resumes where the run stopped.
Ctrl-C and SIGTERM save a checkpoint first (exit status 130 and 143). Several processes make one run: those of a Slurm
job, a TPU slice or a Kubernetes job find each other, others need --coordinator_address, --num_processes and
--process_id. When one of them is lost the others end with status 75.
"""

import os
import sys
import traceback
from collections.abc import Callable, Mapping
from typing import Any

import jax
from absl import app, flags, logging
from ml_collections import config_flags

from tcm_jax import distributed
from tcm_jax.commands import command_line
from tcm_jax.distributed import EXIT_PEER_LOST, JobError, MissingProcessesError
from tcm_jax.distributed.interrupt import Interrupted, Terminated, end_on_sigterm
from tcm_jax.files import RemoteError
from tcm_jax.records import SourceError
from tcm_jax.tasks import parse
from tcm_jax.training import run as training
from tcm_jax.training.checkpoint import CheckpointError
from tcm_jax.training.config import ConfigError
from tcm_jax.training.loop import NonFiniteError
from tcm_jax.training.workdir import ResumeError

# Errors whose message is enough.
_ERRORS = (CheckpointError, ConfigError, JobError, NonFiniteError, RemoteError, ResumeError, SourceError)


def run(config: Mapping[str, Any], workdir: str | os.PathLike) -> None:
    """Trains what a config describes, see `tcm_jax.training.run`."""
    training.run(config, workdir, parse)


def _exit_status(train: Callable[[], None]) -> int:
    """Runs `train`, prints what ended it, and returns the status to exit with."""
    try:
        train()
        return 0
    except Interrupted as stop:
        print(stop, file=sys.stderr)
        return stop.status
    except KeyboardInterrupt as stop:
        print("stopped before the first step", file=sys.stderr)
        return 143 if isinstance(stop, Terminated) else command_line.INTERRUPTED
    except (MissingProcessesError, *_ERRORS) as error:
        print(f"error: {error}", file=sys.stderr)
        return EXIT_PEER_LOST if isinstance(error, MissingProcessesError) else 1
    except Exception:
        if jax.process_count() == 1:
            raise
        traceback.print_exc()  # an ordinary exit would wait for the other processes
        return 1


def main() -> None:
    """The command line."""
    config_flag = config_flags.DEFINE_config_file("config", help_string="FILE.py or FILE.py:VARIANT")
    workdir_flag = flags.DEFINE_string("workdir", None, "working directory of the run", required=True)
    address_flag = flags.DEFINE_string("coordinator_address", "", "HOST:PORT where process 0 is to listen")
    count_flag = flags.DEFINE_integer("num_processes", 0, "processes of this run; 0: as the environment says")
    index_flag = flags.DEFINE_integer("process_id", -1, "number of this process; -1: as the environment says")

    def train() -> None:
        distributed.initialize(address_flag.value, count_flag.value, index_flag.value)
        run(config_flag.value.to_dict(), workdir_flag.value)

    def start(_: list[str]) -> None:
        end_on_sigterm()
        if status := _exit_status(train):
            distributed.exit_process(status)

    logging.set_verbosity(logging.WARNING)
    app.run(start, flags_parser=command_line.config_parser(config_flag))


if __name__ == "__main__":
    main()
