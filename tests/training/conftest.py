"""A run that takes seconds: a tiny CLIP4STR on synthetic words."""

import contextlib
import copy
import logging
from collections.abc import Iterator

import jax
import pytest

from tcm_jax.training.report import RunLog

CONFIG = {
    "task": "recognition",
    "seed": 1,
    "batch": 8,
    "accumulate": 1,
    "steps": 6,
    "epochs": 0,
    "dtype": "float32",
    "init": "",
    "log_every": 1,
    "model": {
        "clip": {
            "embed_dim": 64,
            "image_size": (32, 32),
            "patch_size": (8, 8),
            "vision_width": 64,
            "vision_layers": 1,
            "vision_heads": 1,
            "text_width": 64,
            "text_layers": 1,
            "text_heads": 2,
        },
        "charset": "36",
        "max_label_length": 8,
        "decoder_heads": 2,
        "perm_num": 2,
    },
    "optim": {"lr": 1e-3, "lr_batch": 8, "decoder_lr_multiplier": 2.0, "text_freeze_layers": 0},
    "data": {
        "train": [{"synthetic": {"seed": 0, "size": 100, "difficulty": 0.0}}],
        "augment": 0,
        "workers": 0,
    },
    "eval": {"every": 3, "batch": 8, "sources": []},
    "checkpoint": {"every": 2, "keep": 2},
}


@pytest.fixture
def config() -> dict:
    """A config as `ConfigDict.to_dict` gives it, for a test to change."""
    return copy.deepcopy(CONFIG)


@contextlib.contextmanager
def compiled_programs() -> Iterator[dict[str, list[str]]]:
    """Names of the programs that were compiled until a run had reported "NAME STEP", such as "train 1"."""
    write, messages, programs = RunLog.write, [], {}
    handler = logging.Handler()
    handler.emit = lambda record: messages.append(record.getMessage())

    def count(self, step, values, name="train"):
        write(self, step, values, name)
        programs[f"{name} {step}"] = [text.split(" in ")[0] for text in messages if "Finished XLA compilation" in text]

    with pytest.MonkeyPatch.context() as patch, jax.log_compiles():
        patch.setattr(RunLog, "write", count)
        logging.getLogger("jax").addHandler(handler)
        try:
            yield programs
        finally:
            logging.getLogger("jax").removeHandler(handler)
