"""Options as values: keywords, flags and stored values of one dataclass, and the names that they had before."""

import argparse
import json
import shutil
from dataclasses import dataclass, field
from typing import Literal

import pytest

from tcm_jax import Detector, Recognizer
from tcm_jax.commands import info
from tcm_jax.detection.options import DetectionOptions
from tcm_jax.options import add_flags, check_choices, from_flags, from_keywords, settings_flag, stored
from tcm_jax.pretrained import read_config
from tcm_jax.recognition.options import ReadingOptions
from tcm_jax.renames import renamed, renamed_key


@dataclass(frozen=True)
class Baking:
    """How a cake is baked.

    Args:
        minutes: how long it is baked; the oven
            is hot before.
        layers: heights of its layers.
        shape: of the tin.
        glazed: whether it is glazed.
    """

    minutes: int = 45
    layers: tuple[float, ...] | None = None
    shape: Literal["round", "square"] | None = None
    glazed: bool = field(default=True, metadata={"flag": "--plain", "const": False})

    def __post_init__(self) -> None:
        check_choices(self)


def parsed(words: str, **defaults) -> Baking:
    parser = argparse.ArgumentParser()
    add_flags(parser.add_argument, Baking, "minutes", "layers", "shape", "glazed", **defaults)
    return from_flags(Baking, parser.parse_args(words.split()))


def test_flags_are_the_fields():
    assert parsed("") == Baking()
    assert parsed("--minutes 50 --layers 1 2.5 --shape round --plain") == Baking(50, (1.0, 2.5), "round", False)
    assert parsed("", minutes=30) == Baking(30)
    parser = argparse.ArgumentParser()
    add_flags(parser.add_argument, Baking, "minutes")
    assert "how long it is baked; the oven is hot before (default: 45)" in " ".join(parser.format_help().split())
    with pytest.raises(SystemExit):
        parsed("--shape heart")


def test_settings_of_a_mapping():
    parser = argparse.ArgumentParser()
    settings_flag(parser.add_argument, "decoding", "values")
    given = parser.parse_args(["--set", "score_threshold=0.5", "--set", "approximate=false"])
    assert from_flags(DetectionOptions, given).decoding == {"score_threshold": 0.5, "approximate": False}
    assert parser.parse_args([]).decoding == {}


def test_keywords_count_more_than_options():
    assert from_keywords(Baking, Baking(50, (1.0,)), {"minutes": 60}) == Baking(60, (1.0,))
    with pytest.raises(ValueError, match="Baking has no field 'minuets'; did you mean 'minutes'"):
        from_keywords(Baking, None, {"minuets": 60})
    with pytest.raises(ValueError, match="shape is 'heart'; expected one of round, square"):
        Baking(shape="heart")


def test_a_user_overrides_the_model_and_a_model_the_original():
    own = ReadingOptions(views=(0.0, 0.1), dictionary_prior=8, branches="both")
    given = ReadingOptions(views=(0.0,)).over(own)
    assert (given.views, given.dictionary_prior, given.branches) == ((0.0,), 8, "both")
    original = ReadingOptions().over(ReadingOptions())
    assert (original.views, original.dictionary_prior, original.branches) == ((0.0,), 1, "cross")
    assert ReadingOptions(lexicon=("stop",)).over(own).dictionary_prior == 1
    scales = DetectionOptions(scale=(1280, 736), coarse_scales=((320, 184),))
    assert DetectionOptions().over(scales).scales == [(1280, 736), (320, 184)]
    assert DetectionOptions(scale=(640, 368)).over(scales).scales == [(640, 368)]
    assert stored(own) == {"views": [0.0, 0.1], "dictionary_prior": 8, "branches": "both"}


OLD = {  # of a config, or of a model directory
    "model": {
        "family": "db",
        "detector": {"alpha": 5.0, "score_threshold": 0.3},
        "vocabulary_weight": 8.0,
        "both_branches": True,
    },
    "preprocessing": {"mean": [0.5], "margins": [0.0], "scale": [96, 64], "coarse_scales": []},
}


def test_keys_of_before():
    told = []
    new = renamed(OLD, lambda old, new: told.append((old, new)))
    assert new == {
        "model": {"family": "db", "detector": {"alpha": 5.0, "decoding": {"score_threshold": 0.3}}},
        "preprocessing": {"mean": [0.5]},
        "inference": {
            "views": [0.0],
            "scale": [96, 64],
            "coarse_scales": [],
            "dictionary_prior": 8.0,
            "branches": "both",
        },
    }
    assert ("model.both_branches", "inference.branches") in told and len(told) == 6
    assert renamed(new) == new
    assert renamed_key("preprocessing.scale") == "inference.scale"
    assert renamed_key("model.detector.score_threshold") == "model.detector.decoding.score_threshold"
    assert renamed_key("model.detector.alpha") == "model.detector.alpha"


def test_a_model_directory_of_before(tiny_detector, tiny_model, tmp_path, capsys):
    detector, recognizer = tmp_path / "detector", tmp_path / "recognizer"
    for new, old in ((tiny_detector, detector), (tiny_model, recognizer)):
        shutil.copytree(new, old)
        config = json.loads((old / "config.json").read_text())
        inference = config.pop("inference")
        config["preprocessing"] |= {k: inference[k] for k in inference}
        if "detector" in config["model"]:
            config["model"]["detector"] |= config["model"]["detector"].pop("decoding")
        else:
            config["model"] |= {"both_branches": True, "vocabulary_weight": 8.0}
            config["preprocessing"]["margins"] = [0.0, 0.1]
        (old / "config.json").write_text(json.dumps(config))
    assert read_config(detector) == read_config(tiny_detector)
    assert Detector(detector, quiet=True).options == Detector(tiny_detector, quiet=True).options
    options = Recognizer(recognizer, quiet=True).options
    assert (options.views, options.dictionary_prior, options.branches) == ((0.0, 0.1), 8, "both")
    info.main([str(detector)])
    assert "score_threshold 0.5" in capsys.readouterr().out


def test_names_of_before_are_taken_with_a_warning(tiny_model, tiny_detector):
    with pytest.warns(FutureWarning, match="margins is called views now"):
        assert Recognizer(tiny_model, margins=(0, 0.1), quiet=True).options.views == (0, 0.1)
    with pytest.warns(FutureWarning, match="buckets is called canvases now"):
        assert Detector(tiny_detector, buckets="exact", quiet=True).options.canvases == "exact"
