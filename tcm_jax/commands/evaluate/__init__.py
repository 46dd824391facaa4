"""Scores of recognizers and detectors on test sets; the model decides which.

Words, as the table of PARSeq and CLIP4STR:
  python -m tcm_jax.evaluate --checkpoint models/clip4str-b16 data/test
  python -m tcm_jax.evaluate --checkpoint runs/mine my_words/ other_words/labels.tsv --cased --punctuation
Images, by MMOCR's hmean-iou:
  python -m tcm_jax.evaluate --checkpoint models/tcm-db-ic15 data/icdar2015/test data/totaltext/test
  python -m tcm_jax.evaluate --checkpoint runs/a --checkpoint runs/b data/icdar2015 --images test_images \\
      --annotations test_gts --score-threshold 0.5 --deteval
Images, end to end, by the protocols of ICDAR 2015:
  python -m tcm_jax.evaluate --checkpoint models/tcm-db-ic15 --recognizer models/clip4str-b16 data/icdar2015/test
"""

import argparse
import logging
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from tcm_jax.commands.command_line import command, new_parser
from tcm_jax.commands.evaluate import images as scenes
from tcm_jax.commands.evaluate import spotting, words
from tcm_jax.files import as_path
from tcm_jax.models.layers import DTYPES
from tcm_jax.pretrained import find_model, read_config
from tcm_jax.records import SourceError


@dataclass(frozen=True)
class _Kind:
    """What is done with a model.

    Args:
        name: what such a model is called.
        add_options: declares the options that only such models take, and returns them.
        prepare: opens models and test sets; returns the function that evaluates.
    """

    name: str
    add_options: Callable[[Callable[..., argparse.Action]], list[argparse.Action]]
    prepare: Callable[[argparse.Namespace], Callable[[], None]]


def _prepare_images(options: argparse.Namespace) -> Callable[[], None]:
    return (scenes if options.recognizer is None else spotting).prepare(options)


_KINDS = {  # by the task of the model
    "recognition": _Kind("recognizer", words.add_options, words.prepare),
    "detection": _Kind("detector", scenes.add_options, _prepare_images),
}
_Own = dict[str, list[argparse.Action]]  # options by the task that they are for


@command
def main(arguments: Sequence[str] | None = None, prog: str = "python -m tcm_jax.evaluate") -> None:
    """Runs the command; a problem with the input ends it with a message and exit code 1."""
    parser, own = _parser(prog)
    options = parser.parse_intermixed_args(arguments)
    logging.basicConfig(format="%(message)s")
    try:
        task = _task(options.checkpoint)
        _check_options(options, own, task)
        run = _KINDS[task].prepare(options)
    except (OSError, ValueError) as error:
        sys.exit(f"error: {error}")
    try:
        run()
    except SourceError as error:
        sys.exit(f"error: {error}")


def _task(checkpoints: Sequence[str]) -> str:
    """The task of the models, one of `_KINDS`, from their configuration alone.

    Raises:
        OSError, ValueError: no model, one for another task, or models for several.
    """
    tasks: dict[Path, str] = {}
    for directory in map(find_model, checkpoints):
        tasks[directory] = task = read_config(directory).get("task", "")
        if task not in _KINDS:
            raise ValueError(f"{directory} is a model for {task!r}; expected one for {' or '.join(_KINDS)}")
    if len(set(tasks.values())) > 1:
        each = ", ".join(f"{directory} is a {_KINDS[task].name}" for directory, task in tasks.items())
        raise ValueError(f"models of one kind can be compared; {each}")
    return task


def _check_options(options: argparse.Namespace, own: _Own, task: str) -> None:
    """Raises ValueError if an option is given that models for `task` would ignore."""
    for other, actions in own.items():
        for action in actions:
            if other != task and getattr(options, action.dest) != action.default:
                option, model = action.option_strings[0], options.checkpoint[0]
                raise ValueError(f"{option} is for {_KINDS[other].name}s; {model} is a {_KINDS[task].name}")


def _parser(prog: str) -> tuple[argparse.ArgumentParser, _Own]:
    parser = new_parser(prog, __doc__)
    add = parser.add_argument
    add(
        "paths",
        nargs="+",
        metavar="PATH",
        help="words: LMDB, ArrayRecord file, label file, folder or root of them; images: folder of one split, or its "
        "label file",
    )
    add(
        "--checkpoint",
        action="append",
        required=True,
        metavar="MODEL",
        help="model directory or training workdir (its best, else its last); several detectors are compared",
    )
    add(
        "--hold-out",
        type=int,
        default=0,
        metavar="N",
        help="only every N-th record, which training with hold_out=N in its data entries never sees",
    )
    add("--dtype", choices=DTYPES, default="float32", help="of the computation (default: float32)")
    add("--output", type=as_path, metavar="FILE", help="JSON file (default: MODEL.results.json for each model)")
    own = {
        task: kind.add_options(parser.add_argument_group(f"options of {kind.name}s").add_argument)
        for task, kind in _KINDS.items()
    }
    return parser, own
