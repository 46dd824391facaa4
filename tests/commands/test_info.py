"""What the commands `info` and `doctor` say."""

import json
import shutil
import subprocess
import sys

import numpy as np
import pytest

from tcm_jax import pretrained
from tcm_jax.commands import doctor, info
from tests.tiny_detector import write_tiny_detector


@pytest.fixture(scope="module")
def tiny_detector(tmp_path_factory):
    path = tmp_path_factory.mktemp("info") / "detector"
    write_tiny_detector(path)
    return path


def test_of_a_recognizer(tiny_model, capsys):
    info.main([str(tiny_model)])
    text = capsys.readouterr().out
    assert "recognizer (CLIP4STR)" in text
    assert "ViT, patches of 8, 8, 1 layers, width 64" in text
    assert "94: 0123456789abc" in text
    assert "25 characters" in text
    assert "refine_iters 1\n" in text
    assert "random weights" in text
    assert "CC0-1.0" in text
    count = pretrained.count_parameters(pretrained.load(tiny_model).variables)
    assert f"{count:,} (" in text


def test_of_a_detector_as_json(tiny_detector, capsys):
    info.main([str(tiny_detector), "--json"])
    facts = json.loads(capsys.readouterr().out)
    assert facts["kind"] == "detector (TCM-DB)"
    assert facts["license"] == "CC0-1.0"
    assert facts["inference"]["scale"] == [192, 96]
    assert facts["training"] is None
    # Running statistics are no parameters.
    assert facts["weights"]["parameters"] == sum(facts["weights"]["parts"].values())
    assert facts["weights"]["parameters"] == pretrained.count_parameters(pretrained.load(tiny_detector).variables)


def test_of_a_training(tiny_model, tmp_path, capsys):
    shutil.copytree(tiny_model, tmp_path / "run/best")
    for step in (100, 20):
        (tmp_path / "run/checkpoints" / str(step)).mkdir(parents=True)
    (tmp_path / "run/metrics.jsonl").write_text('{"step": 1}\n{"step": 100, "loss": 0.25}\n')
    info.main([str(tmp_path / "run")])
    text = capsys.readouterr().out
    assert "best of it is used" in text
    assert "20, 100" in text
    assert "step 100, loss 0.25" in text


def test_what_is_no_model(tmp_path, capsys):
    def error_of(path) -> str:
        with pytest.raises(SystemExit) as exit:
            info.main([str(path)])
        return str(exit.value.code)

    assert "`tcm-jax convert` makes a model directory of it" in error_of("clip4str.ckpt")
    assert "nowhere does not exist" in error_of(tmp_path / "nowhere")


def test_of_broken_weights(tiny_model, tmp_path):
    model = tmp_path / "model"
    shutil.copytree(tiny_model, model)
    (model / "weights.safetensors").write_bytes(b"broken")
    with pytest.raises(ValueError, match=r"weights\.safetensors can't be read as safetensors"):
        info.describe(str(model))


def diagnosis(monkeypatch, capsys, recognizer, detector) -> tuple[str, str]:
    """What `doctor` prints, and what it ends with, where these models come with the package."""
    for module in ("tcm_jax.pretrained", "tcm_jax.recognition.recognizer"):
        monkeypatch.setattr(f"{module}.RECOGNIZER", recognizer)
    for module in ("tcm_jax.pretrained", "tcm_jax.detection.detector"):
        monkeypatch.setattr(f"{module}.DETECTOR", detector)
    monkeypatch.setattr("tcm_jax.compilation.enable_compilation_cache", lambda: None)
    with pytest.raises(SystemExit) as exit:
        doctor.main([])
    return capsys.readouterr().out, str(exit.value.code)


def test_doctor_tells_what_is_wrong(tiny_model, tiny_detector, tmp_path, monkeypatch, capsys):
    """Random weights read something else."""
    monkeypatch.setenv("JAX_COMPILATION_CACHE_DIR", str(tmp_path / "programs"))
    text, end = diagnosis(monkeypatch, capsys, tiny_model, tiny_detector)
    assert "ok    Python 3." in text
    assert ", numpy 2" in text
    assert "sha256 " in text
    assert f"compiled programs are kept in {tmp_path / 'programs'}: 0 files" in text
    assert "wrong reads '" in text
    assert "where 'HELLO' is drawn" in text
    assert end.endswith(" wrong")


def test_doctor_without_models(tmp_path, monkeypatch, capsys):
    text, end = diagnosis(monkeypatch, capsys, tmp_path / "recognizer", tmp_path / "detector")
    assert text.count("weights.safetensors is missing; run `pip install") == 2
    assert "wrong self test: FileNotFoundError" in text
    assert end == "3 things are wrong"


def test_doctor_starts_where_packages_are_missing():
    missing = ["absl", "cv2", "flax", "jax", "numpy", "PIL", "rich", "safetensors", "tcm_jax.compilation"]
    program = f"import sys; sys.modules.update(dict.fromkeys({missing}))\nfrom tcm_jax import doctor; doctor.main([])"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert "ok    Python 3." in done.stdout
    for check in ("devices", "programs", "weights", "self test"):
        assert f"wrong {check}: " in done.stdout
    assert done.stderr == "4 things are wrong\n"


def test_the_drawn_word_is_where_it_is_said_to_be():
    image, (left, top, right, bottom) = doctor.drawn_image()
    ink = np.argwhere(image.max(2) < 60)
    assert ((top, left) <= ink.min(0)).all()
    assert (ink.min(0) < (top + 12, left + 12)).all()
    assert (ink.max(0) <= (bottom, right)).all()
    assert ((bottom - 12, right - 12) < ink.max(0)).all()
