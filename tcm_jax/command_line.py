"""The flags of the commands that take a config file."""

import re
import sys
from collections.abc import Callable

from absl import flags


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
