"""The command `tcm-jax`: one name for the programs of the package.

tcm-jax spot photo.jpg
tcm-jax evaluate --checkpoint models/clip4str-b16 data/test

Each sub-command is the main function of a module that also works as `python -m MODULE`, and loads when it is called:
`tcm-jax --help` imports neither JAX nor Flax. The converters, `python -m convert` in a checkout, are installed as
tcm_jax.convert (setup.py).
"""

import argparse
import importlib
import os
import runpy
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import tcm_jax

_BROKEN_PIPE = 141  # the shells' exit code for it


def _call(module: str, arguments: list[str], prog: str) -> int | None:
    return importlib.import_module(module).main(arguments, prog)


def _run_as_program(module: str, arguments: list[str], prog: str) -> None:
    """For modules whose flags are absl's, which belong to the program that runs: the help shows those of `__main__`."""
    sys.argv = [prog, *arguments]
    runpy.run_module(module, run_name="__main__", alter_sys=True)


@dataclass(frozen=True)
class _Command:
    """What a sub-command does, the module that does it, and how that is started; `named`: it has several commands of
    its own and is told which.
    """

    help: str
    module: str
    start: Callable[[str, list[str], str], int | None] = _call
    named: bool = False


_COMMANDS = {
    "spot": _Command("find and read the text in photos", "tcm_jax.commands.spot"),
    "detect": _Command("find text in photos", "tcm_jax.commands.predict", named=True),
    "read": _Command("read word images", "tcm_jax.commands.predict", named=True),
    "train": _Command("train a recognizer or a detector", "tcm_jax.commands.train", _run_as_program),
    "evaluate": _Command("score models on test sets", "tcm_jax.commands.evaluate"),
    "convert": _Command("convert PyTorch checkpoints, and back", "tcm_jax.commands.convert"),
    "plan": _Command("compile a training for a machine that is not there", "tcm_jax.commands.plan", _run_as_program),
    "data": _Command("look at, check, convert and render data", "tcm_jax.commands.data"),
    "crops": _Command("cut words out of photos whose text is known", "tcm_jax.commands.crops"),
    "info": _Command("what a model is", "tcm_jax.commands.info"),
    "export": _Command("write a model as programs that run without this package", "tcm_jax.commands.export"),
    "demo": _Command("serve a web page that reads photos", "tcm_jax.commands.demo"),
    "doctor": _Command("check the installation", "tcm_jax.commands.doctor"),
}


def main(arguments: Sequence[str] | None = None) -> int | None:
    """Runs a sub-command; returns its exit code, unless it exits itself."""
    given = list(sys.argv[1:] if arguments is None else arguments)
    name = _parser().parse_args(given[:1]).command
    command = _COMMANDS[name]
    arguments, prog = (given, "tcm-jax") if command.named else (given[1:], f"tcm-jax {name}")
    try:
        code = command.start(command.module, arguments, prog)
        sys.stdout.flush()
        return code
    except BrokenPipeError:  # whoever reads the output has enough of it, as in `tcm-jax info MODEL | head`
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # for what is flushed at the exit
        return _BROKEN_PIPE


def _parser() -> argparse.ArgumentParser:
    """Of the first argument alone; the others are the sub-command's."""
    lines = [f"  {name:9} {command.help}" for name, command in _COMMANDS.items()]
    parser = argparse.ArgumentParser(
        prog="tcm-jax",
        usage="%(prog)s COMMAND ...",
        description=tcm_jax.__doc__,
        epilog="\n".join(["commands:", *lines, "", "tcm-jax COMMAND --help tells more."]),
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action="version", version=f"tcm_jax {tcm_jax.__version__}")
    parser.add_argument("command", choices=_COMMANDS, metavar="COMMAND", help="one of those below")
    return parser
