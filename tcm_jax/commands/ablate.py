"""Trains rows of an ablation over several seeds and prints their scores.

    python -m tcm_jax.ablate --config configs/tcm_db.py:ablation --rows bsl pp lp4 lg full --seeds 3 \\
        --workdir runs/ablation --without-auxiliary

A row is one more word of the config's variant, or several: "pp,no_auxiliary". Further arguments --config.KEY=VALUE go
to every run. Each run is a process of `tcm_jax.train` with a working directory below --workdir; ablation.json and
ablation.md there are written anew after each. The same command again skips the finished runs and resumes the others.
Ctrl-C and SIGTERM let the running ones save their state (exit status 130 and 143). Exit status 1: a run failed.
"""

import json
import os
import statistics
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import Any

from absl import flags
from ml_collections import config_flags

from tcm_jax.commands.command_line import command, error_text, new_parser
from tcm_jax.detection.model import detection_config
from tcm_jax.distributed.interrupt import SignalHandler
from tcm_jax.files import as_path, atomic_file, write_json

METRICS = {"precision": "Precision", "recall": "Recall", "hmean": "H-mean", "best_hmean": "best H-mean"}
_RESULT = "result.json"  # in a run's working directory
_VALIDATION = "validation/"

Numbers = Mapping[str, Mapping[str, float]]  # by data set and metric


class RunError(RuntimeError):
    """A run ended without a result; the message says how."""


@dataclass(frozen=True)
class Run:
    """One row with one seed.

    Args:
        config: all values, as plain dictionaries.
        arguments: of `tcm_jax.commands.train`, which make the same values and name the working directory.
    """

    row: str
    seed: int
    config: Mapping[str, Any]
    workdir: Path
    arguments: tuple[str, ...]

    def __str__(self) -> str:
        return f"{self.row}, seed {self.seed}"

    def result(self) -> Numbers | None:
        """The scores if the run with these very values is finished."""
        path = self.workdir / _RESULT
        stored = json.loads(path.read_text("utf-8")) if path.is_file() else {}
        return stored["scores"] if stored.get("config") == json.loads(json.dumps(self.config)) else None

    def store_result(self) -> None:
        """Stores the scores of the last validation as the result.

        Raises:
            RunError: there was no validation.
        """
        path = self.workdir / "metrics.jsonl"
        lines = [json.loads(line) for line in path.read_text("utf-8").splitlines()]
        lines = [line for line in lines if line["of"].startswith(_VALIDATION)]
        if not lines:
            raise RunError(f"{path} has no validation; does config.eval.sources name a data set?")
        last = [line for line in lines if line["step"] == lines[-1]["step"]]
        scores = {line["of"].removeprefix(_VALIDATION): {key: line[key] for key in METRICS} for line in last}
        write_json(self.workdir / _RESULT, {"config": self.config, "step": last[0]["step"], "scores": scores})


class Trainer(SignalHandler):
    """Trains runs, each in a process of its own. While entered, SIGINT and SIGTERM are passed on to all of them.

    Args:
        command: trains, given a run's arguments.
        environment: further environment variables of the processes.
    """

    def __init__(
        self,
        command: Sequence[str] = (sys.executable, "-m", "tcm_jax.train"),
        environment: Mapping[str, str] | None = None,
    ) -> None:
        self.command = command
        self.environment = {**(environment or {}), **os.environ}
        self._processes: set[subprocess.Popen] = set()

    def __call__(self, run: Run) -> None:
        """Trains one run; its output is printed line by line behind its name.

        Raises:
            RunError: it failed or was stopped.
        """
        if self.received:
            raise RunError("not started")
        with subprocess.Popen(
            [*self.command, *run.arguments],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            encoding="utf-8",
            errors="replace",
            env=self.environment,
            process_group=0,  # Ctrl-C in a terminal goes to all of the terminal's group, and would come twice
        ) as process:
            self._processes.add(process)
            if self.received:  # while it started
                process.send_signal(self.received)
            for line in process.stdout or ():
                sys.stdout.write(f"[{run}] {line}")
                sys.stdout.flush()
        self._processes.discard(process)
        if process.returncode:
            raise RunError(f"exit status {process.returncode}")

    def handle(self, number: int, frame: FrameType | None) -> None:
        """Passes the signal on."""
        super().handle(number, frame)
        for process in list(self._processes):
            process.send_signal(number)


def ablate(runs: Sequence[Run], train: Callable[[Run], None], workdir: Path, processes: int = 1) -> dict[str, str]:
    """Trains what is not finished and writes the tables after each run.

    Args:
        train: trains one run to its end or raises RunError; called from `processes` threads.
        workdir: for ablation.json and ablation.md.

    Returns:
        what went wrong, by run.
    """
    failed: dict[str, str] = {}

    def finish(run: Run) -> None:
        train(run)
        run.store_result()

    missing = [run for run in runs if run.result() is None]
    print(f"{len(runs) - len(missing)} of {len(runs)} runs are finished", flush=True)
    write_tables(runs, workdir)
    with ThreadPoolExecutor(processes) as pool:
        futures = {pool.submit(finish, run): run for run in missing}
        for done, future in enumerate(as_completed(futures), start=len(runs) - len(missing) + 1):
            run = futures[future]
            try:
                future.result()
                write_tables(runs, workdir)
                outcome = ", ".join(f"{name} h-mean {100 * x['hmean']:.1f}" for name, x in (run.result() or {}).items())
            except RunError as error:
                failed[str(run)] = outcome = str(error)
            print(f"[{run}] {outcome} ({done} of {len(runs)} runs)", flush=True)
    return failed


def summary(runs: Sequence[Run]) -> list[dict[str, Any]]:
    """Mean and sample standard deviation over the seeds of each row and data set, of the finished runs."""
    values: dict[tuple[str, str], dict[int, Mapping[str, float]]] = {}
    for run in runs:
        for name, numbers in (run.result() or {}).items():
            values.setdefault((run.row, name), {})[run.seed] = numbers
    return [
        {"row": row, "set": name, "seeds": list(seeds)}
        | {key: _spread([numbers[key] for numbers in seeds.values()]) for key in METRICS}
        for (row, name), seeds in values.items()
    ]


def _spread(values: list[float]) -> dict[str, Any]:
    deviation = statistics.stdev(values) if len(values) > 1 else None
    return {"mean": statistics.fmean(values), "deviation": deviation, "values": values}


def format_table(rows: Sequence[Mapping[str, Any]]) -> str:
    """The rows of `summary` as a Markdown table, in percent, mean +- deviation."""

    def cell(value: Mapping[str, Any]) -> str:
        deviation = "" if value["deviation"] is None else f" ± {100 * value['deviation']:.1f}"
        return f"{100 * value['mean']:.1f}{deviation}"

    lines = [("Row", "Dataset", "Seeds", *METRICS.values()), ("---",) * 2 + ("---:",) * (1 + len(METRICS))]
    lines += [(r["row"], r["set"], str(len(r["seeds"])), *(cell(r[key]) for key in METRICS)) for r in rows]
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)


def write_tables(runs: Sequence[Run], workdir: Path) -> None:
    """Writes ablation.json and ablation.md."""
    rows = summary(runs)
    each = [{"row": run.row, "seed": run.seed, "arguments": run.arguments, "scores": run.result()} for run in runs]
    write_json(workdir / "ablation.json", {"command": sys.argv, "rows": rows, "runs": each})
    with atomic_file(workdir / "ablation.md") as file:
        file.write(format_table(rows))


def plan(
    config: str, rows: Sequence[str], seeds: int, workdir: Path, overrides: Sequence[str], without_auxiliary: bool
) -> list[Run]:
    """All runs, seed by seed.

    Args:
        config: FILE.py:VARIANT; overrides: --config.KEY=VALUE.
        seeds: number of seeds; they count up from the config's own.
        workdir: of all; each run has a folder there.
        without_auxiliary: each row that has the loss of the score map also without it.

    Raises:
        ValueError: a config that can't be read, or a row that it doesn't know.
    """
    if ":" not in config:
        raise ValueError(f"{config} has no variant that rows could be added to; expected FILE.py:VARIANT")
    variants: dict[str, dict[str, Any]] = {}
    for row in rows:
        variants[row] = load_config(f"{config},{row}", overrides)
        if variants[row]["task"] != "detection":
            raise ValueError(f'{config}: config.task is {variants[row]["task"]!r}; expected "detection"')
        model = detection_config(variants[row]["model"], "config.model")
        if without_auxiliary and model.tcm.text_matching and model.auxiliary_weight:
            variant = f"{row},no_auxiliary"
            variants[variant] = load_config(f"{config},{variant}", overrides)
    runs = []
    for number in range(seeds):
        for row, values in variants.items():
            seed = values["seed"] + number
            folder = workdir / row.replace(",", "-") / f"seed{seed}"
            arguments = (f"--config={config},{row}", *overrides, f"--config.seed={seed}", f"--workdir={folder}")
            runs.append(Run(row, seed, values | {"seed": seed}, folder, arguments))
    return runs


def load_config(config: str, overrides: Sequence[str]) -> dict[str, Any]:
    """The values that `tcm_jax.commands.train` makes of --config and --config.KEY=VALUE.

    Raises:
        ValueError: they can't be read.
    """
    values, arguments = flags.FlagValues(), ["ablate", f"--config={config}", *overrides]
    try:
        holder = config_flags.DEFINE_config_file("config", flag_values=values, sys_argv=arguments)
        values(arguments)
        return holder.value.to_dict()
    except (flags.Error, AttributeError, KeyError, OSError, ValueError) as error:
        raise ValueError(f"{config}: {error_text(error)}") from error


@command
def main(arguments: Sequence[str] | None = None) -> None:
    """The command line."""
    parser = new_parser("python -m tcm_jax.ablate", __doc__)
    add = parser.add_argument
    add("--config", required=True, metavar="FILE.py:VARIANT")
    add("--rows", required=True, nargs="+", metavar="ROW", help="words of the config's variant")
    add("--seeds", type=int, default=3, metavar="N", help="runs of each row (3)")
    add("--workdir", required=True, type=as_path, metavar="DIR", help="folder for all runs and the tables")
    add("--processes", type=int, default=1, metavar="N", help="runs at a time (1)")
    add("--without-auxiliary", action="store_true", help="each row also without the loss of the score map")
    options, overrides = parser.parse_known_args(arguments)
    for argument in overrides:
        if not (argument.startswith("--config.") and "=" in argument):
            parser.error(f"unexpected argument {argument}; expected --config.KEY=VALUE")
    if min(options.seeds, options.processes) < 1:
        parser.error("--seeds and --processes are at least 1")
    runs = plan(options.config, options.rows, options.seeds, options.workdir, overrides, options.without_auxiliary)

    # Programs that don't depend on the seed are compiled once for all runs.
    cache = {"JAX_COMPILATION_CACHE_DIR": str(options.workdir / "compilation_cache")}
    with Trainer(environment=cache) as trainer:
        failed = ablate(runs, trainer, options.workdir, options.processes)
    print((options.workdir / "ablation.md").read_text("utf-8"), end="")
    if trainer.received:
        print("stopped; the same command resumes", file=sys.stderr)
        sys.exit(128 + trainer.received)
    if failed:
        sys.exit("error: " + "; ".join(f"{run}: {problem}" for run, problem in failed.items()))
