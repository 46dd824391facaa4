"""The models of the package: they are there, small, and work without a word about them."""

from pathlib import Path

import pytest

from tcm_jax import Detector, Recognizer, Spotter, pretrained
from tcm_jax.commands import doctor, info
from tcm_jax.pretrained import DETECTOR, RECOGNIZER


def test_they_are_small_and_say_where_they_come_from():
    assert sum(path.stat().st_size for path in DETECTOR.parent.rglob("*") if path.is_file()) < 40e6
    for directory in (DETECTOR, RECOGNIZER):
        facts = info.describe(str(directory))
        assert facts["license"] == "Apache-2.0" and "docs/model_card.md" in facts["source"]


def test_the_picture_of_the_readme_is_read():
    spotter = Spotter.load()
    assert spotter(Path(__file__).parents[2] / "docs" / "example.jpg").texts == ["3am", "GLowING", "DISC", "SARMY"]
    assert spotter.detector.model.directory == DETECTOR and spotter.recognizer.model.directory == RECOGNIZER


def test_parts_are_mixed(tiny_model):
    spotter = Spotter.load(recognizer=tiny_model)
    assert spotter.detector.model.directory == DETECTOR and spotter.recognizer.model.directory == tiny_model
    assert Detector(quiet=True).model.directory == DETECTOR
    assert Recognizer(quiet=True).model.directory == RECOGNIZER


@pytest.mark.slow
def test_the_installation_is_sound(capsys):
    doctor.main([])
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) >= 8 and all(line.startswith("ok ") for line in lines)


def test_a_missing_model_is_reported_with_what_to_do(capsys, monkeypatch, tmp_path):
    monkeypatch.setattr(pretrained, "RECOGNIZER", tmp_path / "recognizer")
    with pytest.raises(SystemExit, match="1 thing is wrong"):
        doctor.main([])
    (line,) = [line for line in capsys.readouterr().out.splitlines() if line.startswith("wrong")]
    assert "recognizer" in line and "pip install --force-reinstall" in line
