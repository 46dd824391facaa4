"""The command that converts words or scenes to a set of ArrayRecord shards."""

import argparse
import os
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

from tcm_jax.commands.command_line import INTERRUPTED, progress_bar
from tcm_jax.commands.data.common import Kind, print_left_out
from tcm_jax.data.shard_workers import make_shards
from tcm_jax.data.shards import ShardPlan, finish, finished_shards, plan_shards, read_manifest, start
from tcm_jax.data.sources import ConcatSource, parts, summary
from tcm_jax.files import absolute
from tcm_jax.records import Source

_CHARACTERS = 12  # most frequent ones that are printed


def shard(kind: Kind, options: argparse.Namespace, source: Source[Any]) -> int:
    """Makes the shards of all sources in `options.destination`; those of an earlier run of the command are kept."""
    paths = [str(absolute(path)) for path in (options.path, *options.more)]
    open_sources = partial(_open_all, kind.open, paths, kind.arguments(options))
    source = open_sources(source)
    summaries = [f"{part.name}: {summary(part)}" for part in parts(source)]
    about = {"kind": kind.name, "sources": paths, "accounts": summaries}
    plan = plan_shards(source, options.destination, options.shards, options.shard_size * 10**6, about)
    start(plan)
    print("\n".join(summaries))
    if options.beam is not None:
        try:
            from tcm_jax.data.beam import run_pipeline  # an extra, and slow to import
        except ImportError as error:
            raise ValueError(f"--beam needs Apache Beam ({error}): pip install 'tcm_jax[beam]'") from error
        run_pipeline(open_sources, plan, options.beam)
    else:
        try:
            with progress_bar("writing", plan.records) as advance:
                finish(plan, make_shards(source, plan, options.workers, advance))
        except KeyboardInterrupt:
            made = f"{finished_shards(plan):,} of {plan.shards:,} shards are made"
            print(f"interrupted: {made}; the same command makes the others")
            return INTERRUPTED
    _print_manifest(plan)
    return 0


def _open_all(open_path: Callable[..., Any], paths: Sequence[str], arguments: Sequence[str], first: Any = None) -> Any:
    """The records at all `paths` as one source; another machine can open them too.

    Args:
        open_path: (path, *arguments) -> a source.
        first: the source at the first path, if it is open already.

    Raises:
        SourceError: there is nothing usable, or anything is malformed.
    """
    opened = [] if first is None else [first]
    opened += [open_path(path, *arguments) for path in paths[len(opened) :]]
    return opened[0] if len(opened) == 1 else ConcatSource(opened, " + ".join(source.name for source in opened))


def _print_manifest(plan: ShardPlan) -> None:
    manifest = read_manifest(plan)
    ignored = f" ({manifest['ignored']:,} ignored)" if manifest["ignored"] else ""
    print(
        f"{plan.destination}: {manifest['records']:,} records, {manifest['texts']:,} texts{ignored} of at most "
        f"{manifest['longest']} characters, {manifest['bytes'] / 1e6:,.1f} MB in {plan.shards:,} shards"
    )
    frequent = "".join([*manifest["characters"]][:_CHARACTERS])
    print(f"characters: {len(manifest['characters']):,} different, most frequent {frequent!r}")
    dropped = ", ".join(f"{count:,} {reason}" for reason, count in manifest["dropped"].items())
    print(f"left out: {dropped or 'nothing'}")
    print_left_out(manifest["left_out"])


def default_workers() -> int:
    """One for each core that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
