"""Configs: every mistake is named."""

import jax.numpy as jnp
import pytest

from tcm_jax.tasks import parse
from tcm_jax.training.config import ConfigError, config_differences


def change(config: dict, path: str, value) -> dict:
    *parents, key = path.split(".")
    section = config
    for parent in parents:
        section = section[parent]
    section[key] = value
    return config


@pytest.mark.parametrize(
    ("path", "value", "message"),
    [
        ("bathc", 8, "config has no field 'bathc'; did you mean 'batch'"),
        (
            "model.clip.vision_layer",
            2,
            "config.model.clip has no field 'vision_layer'; did you mean 'vision_layers'",
        ),
        ("optim.weightdecay", 0.1, "config.optim has no field 'weightdecay'; did you mean 'weight_decay'"),
        ("data.filter", {"max_length": 3}, "config.data.filter has no field 'max_length'"),
        ("data.augment", 17, "config.data.augment is 17; expected 0 .. 16 operations"),
        ("data.train", [{"pth": "x"}], r"config.data.train\[0\] has no field 'pth'; did you mean 'path'"),
        ("eval.sources", [{"path": "x", "synthetic": {}}], r"config.eval.sources\[0\] has the keys"),
        ("task", "spotting", "config.task is 'spotting'; expected one of recognition, detection"),
        ("epochs", 1, "config.steps is 6 and config.epochs is 1; give exactly one"),
        ("steps", 0, "give exactly one"),
        ("dtype", "float16", "config.dtype is 'float16'"),
        ("accumulate", 3, "config.batch is 8; expected a positive multiple of config.accumulate"),
        ("init", "nowhere", "config.init is 'nowhere'; there is no such directory"),
        ("model.charset", "aa", "charset 'aa' holds 'a' more than once"),
        ("model.perm_num", 1, "perm_num is 1; expected at least 2, as perm_mirrored pairs"),
        ("inference", {"views": (2.0,)}, r"views are \(2.0,\); expected margins"),
        ("eval.normalization", "test", "config.eval.normalization is 'test'"),
        ("log_every", 0, "config.log_every is 0"),
        ("optim.clip_norm", 0.0, "config.optim.clip_norm is 0.0"),
    ],
)
def test_mistakes_are_named(config, path, value, message):
    with pytest.raises(ConfigError, match=message):
        parse(change(config, path, value))


def test_missing_sections_are_named(config):
    del config["optim"], config["model"]
    with pytest.raises(ConfigError, match="the config has no model, optim"):
        parse(config)


def test_charsets_by_name_become_characters(config):
    parsed = parse(change(config, "model.charset", "62")).config
    assert len(parsed.model.charset) == 62
    assert len(parsed.eval.charset) == 36


def test_epochs_become_steps(config):
    parsed = parse(config | {"steps": 0, "epochs": 2.5}).config
    assert parsed.total_steps(records=100) == 31  # 250 images in batches of 8


def test_automatic_dtype_is_float32_on_a_cpu(config):
    assert parse(config | {"dtype": "auto"}).config.compute_dtype == jnp.float32


def test_differences_name_the_keys():
    old = {"batch": 8, "model": {"clip": {"width": 1}, "heads": 2}}
    new = {"batch": 8, "model": {"clip": {"width": 2}}, "seed": 0}
    expected = ["config.model.clip.width: 1 -> 2", "config.model.heads: 2 -> None", "config.seed: None -> 0"]
    assert config_differences(old, new) == expected
