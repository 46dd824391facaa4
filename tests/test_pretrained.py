"""Model directories: complete or not there, and never trusted."""

import json

import numpy as np
import pytest
import safetensors.numpy

from tcm_jax import pretrained
from tcm_jax.pretrained import Pretrained


def model(value: float = 1.0) -> Pretrained:
    return Pretrained(
        task="clip",
        model={"embed_dim": 4},
        variables={"params": {"a": {"kernel": np.full((2, 3), value, np.float32)}, "b": np.float32(2)}},
        preprocessing={"mean": [0.5] * 3, "std": [0.5] * 3},
        source="a test",
        license="MIT",
    )


def test_what_is_saved_is_loaded(tmp_path):
    model().save(tmp_path / "new" / "model")
    loaded = pretrained.load(tmp_path / "new" / "model")
    assert (loaded.task, loaded.model, loaded.source, loaded.license) == ("clip", {"embed_dim": 4}, "a test", "MIT")
    np.testing.assert_array_equal(loaded.variables["params"]["a"]["kernel"], np.ones((2, 3)))
    assert loaded.variables["params"]["b"].shape == ()
    assert pretrained.count_parameters(loaded.variables) == 7
    assert sorted(p.name for p in (tmp_path / "new").iterdir()) == ["model"]
    assert len({path.stat().st_mode for path in (tmp_path / "new" / "model").iterdir()}) == 1  # readable alike


def test_views_are_saved_as_they_look(tmp_path):
    """safetensors writes the memory behind a transposed or broadcast array."""
    matrix = np.arange(6, dtype=np.float32).reshape(2, 3)
    views = {"transposed": matrix.T, "repeated": np.broadcast_to(np.float32(7), (2, 2)), "part": matrix[:, 1]}
    Pretrained("clip", {}, {"params": views}, {}).save(tmp_path / "m")
    loaded = pretrained.load(tmp_path / "m").variables["params"]
    for name, view in views.items():
        np.testing.assert_array_equal(loaded[name], view)


def test_half_precision_is_a_matter_of_the_file_alone(tmp_path):
    matrix = np.linspace(-3, 3, 6, dtype=np.float32).reshape(2, 3)
    model = Pretrained("clip", {}, {"params": {"a": matrix, "variance": np.float32([70_000])}}, {})
    model.save(tmp_path / "m", half=True)
    assert safetensors.numpy.load_file(tmp_path / "m" / "weights.safetensors")["params/a"].dtype == np.float16
    loaded = pretrained.load(tmp_path / "m").variables["params"]
    assert loaded["a"].dtype == np.float32 and loaded["variance"] == 70_000
    np.testing.assert_allclose(loaded["a"], matrix, rtol=2**-11)
    with pytest.raises(ValueError, match="params/a has values up to 70000, which float16 can't hold"):
        Pretrained("clip", {}, {"params": {"a": np.float32([[70_000]])}}, {}).save(tmp_path / "m", half=True)


def test_a_failed_save_leaves_the_old_model(tmp_path, monkeypatch):
    model(1.0).save(tmp_path / "m")

    def full_disk(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(safetensors.numpy, "save_file", full_disk)
    with pytest.raises(OSError, match="No space left"):
        model(2.0).save(tmp_path / "m")
    monkeypatch.undo()
    assert pretrained.load(tmp_path / "m").variables["params"]["a"]["kernel"].max() == 1
    assert [p.name for p in tmp_path.iterdir()] == ["m"], "no temporary folder is left"
    model(2.0).save(tmp_path / "m")
    assert pretrained.load(tmp_path / "m").variables["params"]["a"]["kernel"].max() == 2
    assert [p.name for p in tmp_path.iterdir()] == ["m"]


def test_missing_files_are_named(tmp_path):
    with pytest.raises(FileNotFoundError, match="nowhere is no model directory: it has no config.json"):
        pretrained.load(tmp_path / "nowhere")
    model().save(tmp_path / "m")
    (tmp_path / "m" / "weights.safetensors").unlink()
    with pytest.raises(FileNotFoundError, match="it has no weights.safetensors"):
        pretrained.load(tmp_path / "m")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda folder: truncate(folder / "weights.safetensors"), "not a readable model directory"),
        (lambda folder: (folder / "weights.safetensors").write_bytes(b"\x80\x04pickle"), "not a readable model"),
        (lambda folder: (folder / "config.json").write_text("{"), "not a readable model directory"),
        (lambda folder: edit(folder, format="tcm_jax/9"), "format is 'tcm_jax/9', expected 'tcm_jax/1'"),
        (lambda folder: edit(folder, color="red"), "color"),
    ],
)
def test_broken_directories_are_refused(tmp_path, change, message):
    model().save(tmp_path / "m")
    change(tmp_path / "m")
    with pytest.raises(ValueError, match=message):
        pretrained.load(tmp_path / "m")


def truncate(path):
    path.write_bytes(path.read_bytes()[:-5])


def edit(folder, **values):
    path = folder / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | values))
