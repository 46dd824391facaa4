"""A run that takes seconds: a tiny CLIP4STR on rendered words."""

import copy
import os

import jax
import pytest

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
        "augment": False,
        "workers": 0,
    },
    "eval": {"every": 3, "batch": 8, "sources": []},
    "checkpoint": {"every": 2, "keep": 2},
}


@pytest.fixture
def config() -> dict:
    """A config as `ConfigDict.to_dict` gives it, for a test to change."""
    return copy.deepcopy(CONFIG)


@pytest.fixture(scope="session", autouse=True)
def compilation_cache(tmp_path_factory):
    """The tests compile the same step again and again, also in other processes."""
    folder = str(tmp_path_factory.mktemp("xla"))
    options = {
        "jax_compilation_cache_dir": folder,
        "jax_persistent_cache_min_compile_time_secs": 0.0,
        "jax_persistent_cache_min_entry_size_bytes": -1,
    }
    before = {name: getattr(jax.config, name) for name in options}
    for name, value in options.items():
        jax.config.update(name, value)
        os.environ[name.upper()] = str(value)
    yield
    for name, value in before.items():
        jax.config.update(name, value)
        del os.environ[name.upper()]
