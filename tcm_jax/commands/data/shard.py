"""The command that converts words or scenes to a set of ArrayRecord shards."""

import argparse
import os
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from tcm_jax.commands.command_line import INTERRUPTED
from tcm_jax.commands.data.common import Opened, print_left_out
from tcm_jax.data.scenes.sources import open_scenes
from tcm_jax.data.shard_workers import make_shards
from tcm_jax.data.shards import Records, ShardPlan, finish, finished_shards, plan_shards, read_manifest, start
from tcm_jax.data.words.sources import ConcatSource, open_source
from tcm_jax.files import absolute

_CHARACTERS = 12  # most frequent ones that are printed


@dataclass(frozen=True)
class Sources:
    """What is converted, by paths, so that another machine can open it too.

    Args:
        kind: "words" or "scenes".
        paths: of one or several sources, whose records follow each other.
        arguments: of `open_scenes`: the format, and the folders of photos and annotations.
    """

    kind: str
    paths: tuple[str, ...]
    arguments: tuple[str, ...] = ()

    def open(self, first: Any = None) -> Records:
        """All records as one source.

        Args:
            first: the source at the first path, if it is open already.

        Raises:
            SourceError: there is nothing usable, or anything is malformed.
        """
        open_one: Callable[..., Any] = open_source if self.kind == "words" else open_scenes
        opened = [first] if first else []
        opened += [open_one(path, *self.arguments) for path in self.paths[len(opened) :]]
        return opened[0] if len(opened) == 1 else ConcatSource(opened, " + ".join(source.name for source in opened))


def convert(options: argparse.Namespace, kind: str, found: Opened | None) -> int:
    """Makes the shards of all sources in `options.destination`; those of an earlier run of the command are kept."""
    paths = tuple(str(absolute(path)) for path in (options.path, *options.more))
    sources = Sources(kind, paths, (options.format, options.images, options.annotations) if kind == "scenes" else ())
    source = sources.open(found.whole() if found else None)
    parts: list[Any] = source.sources if isinstance(source, ConcatSource) else [source]
    accounts = [f"{part.name}: {getattr(part, 'report', f'{len(part):,} records')}" for part in parts]
    about = {"kind": kind, "sources": list(paths), "accounts": accounts}
    plan = plan_shards(source, options.destination, options.shards, options.shard_size * 10**6, about)
    start(plan)
    print("\n".join(accounts))
    if options.beam is None:
        try:
            _with_workers(source, plan, options.workers)
        except KeyboardInterrupt:
            made = f"{finished_shards(plan):,} of {plan.shards:,} shards are made"
            print(f"interrupted: {made}; the same command makes the others")
            return INTERRUPTED
    else:
        _with_beam(sources, plan, options.beam)
    _print_account(plan)
    return 0


def _with_workers(source: Records, plan: ShardPlan, workers: int) -> None:
    columns = TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn()
    with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task("writing", total=plan.records)
        shards = make_shards(source, plan, workers, lambda done: bar.update(task, completed=done))
    finish(plan, shards)


def _with_beam(sources: Sources, plan: ShardPlan, options: list[str]) -> None:
    try:
        from tcm_jax.data.beam import run_pipeline  # an extra, and slow to import
    except ImportError as error:
        raise ValueError(f"--beam needs Apache Beam ({error}): pip install 'tcm_jax[beam]'") from error
    run_pipeline(sources.open, plan, options)


def _print_account(plan: ShardPlan) -> None:
    manifest = read_manifest(plan)
    ignored = f" ({manifest['ignored']:,} ignored)" if manifest["ignored"] else ""
    print(
        f"{plan.destination}: {manifest['records']:,} records, {manifest['texts']:,} texts{ignored} of at most "
        f"{manifest['longest']} characters, {manifest['bytes'] / 1e6:,.1f} MB in {plan.shards:,} shards"
    )
    frequent = list(manifest["characters"])
    shown = "".join(frequent[:_CHARACTERS])
    print(f"characters: {len(frequent):,} different, most frequent {shown!r}")
    dropped = ", ".join(f"{count:,} {reason}" for reason, count in manifest["dropped"].items())
    print(f"left out: {dropped or 'nothing'}")
    print_left_out(manifest["left_out"])


def default_workers() -> int:
    """One for each core that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
