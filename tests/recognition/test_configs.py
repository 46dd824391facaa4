"""Every recipe: its values are valid, its sizes are the published ones, and its tiny form trains."""

import json
import runpy
from pathlib import Path

import numpy as np
import pytest

from tcm_jax.commands.train import run
from tcm_jax.config import from_dict
from tcm_jax.convert.architecture import template
from tcm_jax.models.clip4str import CLIP4STRConfig
from tcm_jax.recognition.optimizer import parameter_group
from tcm_jax.tasks import parse
from tcm_jax.text.charset_spec import load_charset

CONFIGS = sorted((Path(__file__).parents[2] / "configs").glob("clip4str_*.py"))
VARIANTS = {
    "clip4str_quickstart": ["", "real", "tiny"],
    "clip4str_language": ["german", "greek", "tiny"],
    "clip4str_small": ["", "deep", "shallow", "gpu", "tiny"],
}
PAPER = ["real", "synth", "rbu", "tiny"]
CASES = [(path, variant) for path in CONFIGS for variant in VARIANTS.get(path.stem, PAPER)]


def load(path: Path, variant: str) -> dict:
    return runpy.run_path(str(path))["get_config"](variant).to_dict()


def model_config(config: dict) -> CLIP4STRConfig:
    model = dict(config["model"])
    model |= {key: load_charset(model[key]) for key in ("charset", "caption_charset")}
    return from_dict(CLIP4STRConfig, model)


@pytest.mark.parametrize(("path", "variant"), CASES, ids=lambda x: getattr(x, "stem", x))
def test_every_variant_is_valid(path, variant):
    config = load(path, variant) | {"init": ""}
    assert parse(config).config.batch == config["batch"]


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.stem)
def test_unknown_variants_are_refused(path):
    with pytest.raises(ValueError, match="unknown variant 'large'; known are"):
        load(path, "large")


@pytest.mark.slow
@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.stem)
def test_the_tiny_form_trains(path, tmp_path):
    config = load(path, "tiny")
    run(config, tmp_path)
    lines = [json.loads(line) for line in (tmp_path / "metrics.jsonl").read_text().splitlines()]
    assert np.isfinite([line["loss"] for line in lines if "loss" in line]).all()
    assert (tmp_path / "last" / "weights.safetensors").is_file()


@pytest.mark.parametrize(
    ("name", "total", "trainable"),
    [("base", 158e6, 114e6), ("base32", 159e6, 115e6), ("large", 446e6, 366e6), ("huge", 1020e6, 893e6)],
)
def test_sizes_are_the_published_ones(name, total, trainable):
    """Source: the summaries in the original's scripts, which cut to millions."""
    config = load(Path(CONFIGS[0]).with_name(f"clip4str_{name}.py"), "real")
    freeze = config["optim"]["text_freeze_layers"]
    sizes = {"frozen": 0, "trainable": 0}
    for path, shape in template(model_config(config)).items():
        group = parameter_group(path.removeprefix("params/"), len(shape), freeze)
        sizes["frozen" if group == "frozen" else "trainable"] += int(np.prod(shape))
    assert 0 <= sum(sizes.values()) - total < 1e6
    assert 0 <= sizes["trainable"] - trainable < 1e6
