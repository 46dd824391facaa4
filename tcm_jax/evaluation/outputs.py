"""What the evaluations of words and of scenes have in common: where results go, and the progress that is shown."""

import sys
from pathlib import Path

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from tcm_jax.files import absolute, check_writable


def results_path(checkpoint: str) -> Path:
    """Where the JSON of a checkpoint goes unless the user says otherwise: beside it. Checked to be writable."""
    path = absolute(checkpoint)
    path = path.with_name(f"{path.name}.results.json")
    check_writable(path, "--output")
    return path


def progress_bars() -> Progress:
    """On stderr, if that is a terminal."""
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    return Progress(*columns, console=Console(stderr=True), disable=not sys.stderr.isatty())
