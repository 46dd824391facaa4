"""The kinds of models that can be trained, by `config.task`."""

import sys
from collections.abc import Callable, Mapping
from typing import Any

from tcm_jax.detection.task import DetectionTask
from tcm_jax.recognition.task import RecognitionTask
from tcm_jax.renames import renamed
from tcm_jax.training.config import ConfigError
from tcm_jax.training.task import Task

TASKS: dict[str, Callable[[Mapping[str, Any]], Task]] = {
    "recognition": RecognitionTask,
    "detection": DetectionTask,
}


def parse(config: Mapping[str, Any]) -> Task:
    """The task object of a config (plain nested dictionaries).

    Raises:
        ConfigError: a key or value is wrong; the message names it.
    """
    config = renamed(config, _report)
    missing = [name for name in ("task", "model", "optim", "data") if name not in config]
    if missing:
        raise ConfigError(f"the config has no {', '.join(missing)}")
    task = config["task"]
    if task not in TASKS:
        raise ConfigError(f"config.task is {task!r}; expected one of {', '.join(TASKS)}")
    try:
        return TASKS[task](config)
    except (OSError, TypeError, ValueError) as error:
        raise ConfigError(str(error)) from error


def _report(old: str, new: str) -> None:
    print(f"warning: config.{old} is called config.{new} now", file=sys.stderr)
