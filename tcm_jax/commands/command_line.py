"""What commands share: how Ctrl-C ends them, and the flags of those that take a config file."""

import functools
import re
import sys
from collections.abc import Callable
from typing import ParamSpec, TypeVar

from absl import flags

INTERRUPTED = 130  # the shells' exit code for Ctrl-C

P = ParamSpec("P")
R = TypeVar("R")


def interruptible(command: Callable[P, R]) -> Callable[P, R]:
    """`command`, which Ctrl-C ends with a word and the shells' exit code, in place of a traceback."""

    @functools.wraps(command)
    def run(*arguments: P.args, **options: P.kwargs) -> R:
        try:
            return command(*arguments, **options)
        except KeyboardInterrupt:
            print("interrupted", file=sys.stderr)
            sys.exit(INTERRUPTED)

    return run


def parser(config_flag: flags.FlagHolder) -> Callable[[list[str]], list[str]]:
    """What absl's `app.run` parses flags with: mistakes end the program with one line, and `--batch-per-chip` is
    `--batch_per_chip`.
    """

    def parse(arguments: list[str]) -> list[str]:
        try:
            rest = flags.FLAGS([re.sub(r"^--[a-z-]+", _with_underscores, argument) for argument in arguments])
            if config_flag.value is None:
                raise flags.Error("flag --config is missing; expected a file of configs/")
            if len(rest) > 1:
                raise flags.Error(f"unexpected arguments {' '.join(rest[1:])}; expected --KEY=VALUE")
            return rest
        except (flags.Error, AttributeError, KeyError, OSError, ValueError) as error:
            message = error.args[0] if error.args else error  # KeyError and AttributeError quote theirs
            sys.exit(f"error: {str(message).strip()}")

    return parse


def _with_underscores(name: re.Match[str]) -> str:
    return "--" + name[0][2:].replace("-", "_")
