"""What all commands share: their parsers, how errors and Ctrl-C end them, and their one progress bar."""

import argparse
import contextlib
import functools
import re
import sys
from collections.abc import Callable, Iterable, Iterator
from typing import TYPE_CHECKING, ParamSpec, TypeVar

from tcm_jax.renames import renamed_key

if TYPE_CHECKING:  # else where it is used: `doctor` has to start where packages are missing
    from absl import flags

INTERRUPTED = 130  # the shells' exit code for Ctrl-C

P = ParamSpec("P")
R = TypeVar("R")
T = TypeVar("T")


def command(main: Callable[P, R]) -> Callable[P, R]:
    """`main`, which OSError and ValueError end with a line on stderr and exit code 1, and Ctrl-C with the shells'."""

    @functools.wraps(main)
    def run(*arguments: P.args, **options: P.kwargs) -> R:
        try:
            return main(*arguments, **options)
        except KeyboardInterrupt:
            print("interrupted", file=sys.stderr)
            sys.exit(INTERRUPTED)
        except BrokenPipeError:
            raise  # `tcm_jax.commands.main` knows what it means
        except (OSError, ValueError) as error:
            sys.exit(f"error: {error}")

    return run


def new_parser(prog: str, description: str | None) -> argparse.ArgumentParser:
    """A parser whose help shows `description`, the docstring of a command's module, as it is."""
    return argparse.ArgumentParser(
        prog=prog, description=description, formatter_class=argparse.RawDescriptionHelpFormatter
    )


@contextlib.contextmanager
def progress_bar(description: str, total: int, quiet: bool = False) -> Iterator[Callable[..., None]]:
    """A bar on stderr if that is a terminal; yields the function that advances it, by 1 or by the number given."""
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    # Lines on stdout scroll above the bar where both are the terminal, and stay out of it where they are not.
    with Progress(
        *(TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn()),
        console=Console(stderr=True),
        disable=quiet or not sys.stderr.isatty(),
        redirect_stdout=sys.stdout.isatty(),
    ) as progress:
        bar = progress.add_task(description, total=total)
        yield lambda advance=1: progress.advance(bar, advance)


def progress(items: Iterable[T], description: str, total: int | None = None) -> Iterator[T]:
    """The items, under a `progress_bar`; `total` is their number where they have no length."""
    with progress_bar(description, len(items) if total is None else total) as advance:  # type: ignore[arg-type]
        for item in items:
            yield item
            advance()


def config_parser(config_flag: "flags.FlagHolder") -> Callable[[list[str]], list[str]]:
    """What absl's `app.run` parses flags with: mistakes end the program with one line, and `--batch-per-chip` is
    `--batch_per_chip`.
    """
    from absl import flags

    def parse(arguments: list[str]) -> list[str]:
        try:
            rest = flags.FLAGS([re.sub(r"^--[a-z][a-z._-]+", _current_name, argument) for argument in arguments])
            if config_flag.value is None:
                raise flags.Error("flag --config is missing; expected a file of configs/")
            if len(rest) > 1:
                raise flags.Error(f"unexpected arguments {' '.join(rest[1:])}; expected --KEY=VALUE")
            return rest
        except (flags.Error, AttributeError, KeyError, OSError, ValueError) as error:
            sys.exit(f"error: {error_text(error)}")

    return parse


def error_text(error: Exception) -> str:
    """The message of an error, which str() quotes for a KeyError and an AttributeError."""
    return str(error.args[0] if error.args else error).strip()


def _current_name(flag: re.Match[str]) -> str:
    """A flag as absl knows it, with the names that a config's keys have now."""
    name = flag[0][2:]
    if not name.startswith("config."):
        return "--" + name.replace("-", "_")
    new = "config." + renamed_key(name.removeprefix("config."))
    if new != name:
        print(f"warning: --{name} is called --{new} now", file=sys.stderr)
    return "--" + new
