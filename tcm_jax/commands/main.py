"""The command `tcm-jax`: one name for the programs of the package.

tcm-jax spot image.jpg
tcm-jax evaluate --checkpoint models/clip4str-b16 data/test

Each sub-command is the main function of a module of this folder, which is imported when it is called: `tcm-jax --help`
imports neither JAX nor Flax.
"""

import argparse
import importlib
import os
import runpy
import sys
from collections.abc import Sequence

import tcm_jax
from tcm_jax.commands.command_line import INTERRUPTED, new_parser

_BROKEN_PIPE = 141  # the shells' exit code for it
_COMMANDS = {
    "spot": "detect and read the text in images",
    "detect": "detect text in images",
    "read": "read crops of words",
    "train": "train a recognizer or a detector",
    "evaluate": "score models on test sets",
    "convert": "convert PyTorch checkpoints, and back",
    "plan": "compile a training for a machine that is not there",
    "data": "check, inspect, convert and render data",
    "crops": "cut crops of words out of annotated images",
    "info": "print facts about a model",
    "export": "write a model as programs that run without this package",
    "demo": "serve a web page that reads images",
    "doctor": "check the installation",
}
_ABSL = ("train", "plan")  # their flags are absl's, whose help shows those of the module that runs as `__main__`


def main(arguments: Sequence[str] | None = None, prog: str = "tcm-jax") -> int | None:
    """Runs a sub-command; returns its exit code, unless it exits itself."""
    given = list(sys.argv[1:] if arguments is None else arguments)
    name = _parser().parse_args(given[:1]).command
    module, title = f"tcm_jax.commands.{name}", f"{prog} {name}"
    try:
        if name in _ABSL:
            sys.argv = [title, *given[1:]]
            runpy.run_module(module, run_name="__main__", alter_sys=True)
            return None
        code = importlib.import_module(module).main(given[1:], title)
        sys.stdout.flush()
        return code
    except KeyboardInterrupt:  # while the module is imported
        print("interrupted", file=sys.stderr)
        return INTERRUPTED
    except BrokenPipeError:  # the reader of the output has closed it, as in `tcm-jax info MODEL | head`
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # for what is flushed at the exit
        return _BROKEN_PIPE


def _parser() -> argparse.ArgumentParser:
    """A parser of the first argument; the others are the sub-command's."""
    parser = new_parser("tcm-jax", tcm_jax.__doc__)
    parser.usage = "%(prog)s COMMAND ..."
    lines = [f"  {name:9} {text}" for name, text in _COMMANDS.items()]
    parser.epilog = "\n".join(["commands:", *lines, "", "tcm-jax COMMAND --help shows its options."])
    parser.add_argument("--version", action="version", version=f"tcm_jax {tcm_jax.__version__}")
    parser.add_argument("command", choices=_COMMANDS, metavar="COMMAND", help="one of those below")
    return parser
