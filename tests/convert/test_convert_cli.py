"""`python -m convert` from end to end, and --verify."""

import dataclasses

import numpy as np
import pytest
import safetensors.numpy
import torch

from tcm_jax import pretrained
from tcm_jax.commands.convert import main
from tcm_jax.convert import checkpoints, conversion, verify
from tcm_jax.convert.architecture import config_of
from tests.conftest import read_json
from tests.convert.conftest import torch_tensors
from tests.convert.test_huggingface import huggingface
from tests.golden_models import golden_state


def error_of(*arguments) -> str:
    """What the command prints when it ends with exit code 1."""
    with pytest.raises(SystemExit) as end:
        main([str(argument) for argument in arguments])
    assert isinstance(end.value.code, str)
    return end.value.code


def save(path, state):
    torch.save(torch_tensors(state), path)


@pytest.fixture
def clip(golden, tmp_path):
    """A file of OpenCLIP's kind, and its state dict."""
    state = golden_state(golden / "clip_vit_gelu")
    save(tmp_path / "clip.bin", state)
    return tmp_path / "clip.bin", state


def test_recognizer_there_and_back(golden, tmp_path, capsys):
    state = golden_state(golden / "clip4str")
    hyper_parameters = read_json(golden / "clip4str" / "config.json")["model"]
    save(tmp_path / "clip4str.pt", state)
    source, directory, back = (str(tmp_path / name) for name in ("clip4str.pt", "models/tiny", "back.pt"))
    options = [
        "--charset",
        hyper_parameters["charset_train"],
        "--set",
        f"decoder_heads={hyper_parameters['dec_num_heads']}",
    ]
    options += ["--license", "Apache-2.0", "--source-name", "a fixture"]
    assert main([source, directory, "--verify", *options]) == 0
    printed = capsys.readouterr().out
    count = sum(x.size for x in state.values())
    for line in ("CLIP4STR", f"{count:,}", checkpoints.read(source).sha256()["clip4str.pt"], "Apache-2.0"):
        assert line in printed
    for stage in ("patches, ln_pre", "image tokens", "text tokens", "visual decoder", "cross decoder", "strings"):
        assert stage in printed
    assert "above" not in printed

    model = pretrained.load(directory)
    assert (model.task, model.license, model.source) == ("recognition", "Apache-2.0", "a fixture")
    assert model.preprocessing["mean"] == pytest.approx([0.481, 0.458, 0.408], abs=1e-3)

    assert main([directory, back, "--to-torch"]) == 0
    loaded = torch.load(back, weights_only=True)
    assert loaded.keys() == state.keys()
    for key, tensor in state.items():
        np.testing.assert_array_equal(loaded[key].numpy(), tensor, key)


def test_resnet_there_and_back(golden, tmp_path, capsys):
    state = golden_state(golden / "clip_resnet")
    save(tmp_path / "rn.pt", state)
    directory, back = str(tmp_path / "rn"), str(tmp_path / "rn.safetensors")
    assert main([str(tmp_path / "rn.pt"), directory, "--activation", "quick_gelu", "--verify"]) == 0
    assert "image embedding" in capsys.readouterr().out
    assert main([directory, back, "--to-torch"]) == 0
    loaded = safetensors.numpy.load_file(back)
    assert {k: x.dtype for k, x in loaded.items()} == {k: x.dtype for k, x in state.items()}
    for key, tensor in state.items():
        if not key.endswith("num_batches_tracked"):
            np.testing.assert_array_equal(loaded[key], tensor, key)


def test_verify_reads_huggingface_files(golden, tmp_path):
    save(tmp_path / "hf.bin", huggingface(golden_state(golden / "clip_vit")))
    assert main([str(tmp_path / "hf.bin"), str(tmp_path / "hf"), "--verify"]) == 0


def test_verify_finds_a_difference(clip):
    model, architecture = conversion.from_checkpoint(clip[0])
    flat = pretrained.flatten(model.variables)
    flat["params/ln_final/bias"] = flat["params/ln_final/bias"] + 0.01
    rows = verify.verify(dataclasses.replace(model, variables=pretrained.unflatten(flat)), architecture)
    assert [row.passed for row in rows] == [True, True, False]
    assert verify.report(rows).splitlines()[-1].endswith("above 0.0002")
    assert not verify.Difference("nan", float("nan"), float("nan")).passed


def test_a_difference_makes_the_command_fail(clip, tmp_path, monkeypatch):
    monkeypatch.setattr(verify, "TOLERANCE", 0.0)
    assert main([str(clip[0]), str(tmp_path / "clip"), "--verify"]) == 1


def test_the_options_reach_the_configuration(clip, tmp_path):
    source, directory = str(clip[0]), tmp_path / "clip"
    assert main([source, str(directory)]) == 0
    assert pretrained.load(directory).model["activation"] == "gelu"
    again = [source, str(directory), "--activation", "quick_gelu", "--set", "vision_heads=1"]
    assert main(again) == 0  # a model directory may be replaced
    config = pretrained.load(directory).model
    assert (config["activation"], config["vision_heads"]) == ("quick_gelu", 1)
    (height, width), (row, _) = config["image_size"], config["patch_size"]
    wide = (row, height // row * width)  # all patches in one row
    assert main([source, str(directory), "--image-size", str(wide[0]), str(wide[1])]) == 0
    config = pretrained.load(directory).model
    assert (*config["image_size"],) == wide
    assert config_of("clip", config).image_size == wide


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--set", "activation"], "--set activation: expected FIELD=VALUE"),
        (["--set", "activation=relu"], "activation 'relu' is unknown; known are quick_gelu, gelu"),
        (["--set", "clip.width=3"], "has no field 'clip'"),
        (["--charset", "94"], "is a model without character decoders"),
        (["--charset", "aa"], "holds 'a' more than once"),
    ],
)
def test_wrong_options(clip, tmp_path, options, message):
    assert message in error_of(clip[0], tmp_path / "clip", *options)
    assert not (tmp_path / "clip").exists()


def test_nothing_but_a_model_directory_is_replaced(clip, tmp_path):
    (tmp_path / "notes").mkdir()
    (tmp_path / "notes" / "todo.txt").write_text("keep me")
    for name in ("notes", "notes/todo.txt"):
        assert "is no model directory; give a new name" in error_of(clip[0], tmp_path / name)
    assert (tmp_path / "notes" / "todo.txt").read_text() == "keep me"


def test_wrong_sources(tmp_path, capsys):
    assert "none.pt is no file and no folder" in error_of(tmp_path / "none.pt", tmp_path / "out")
    assert "is no model directory" in error_of(tmp_path, tmp_path / "out.pt", "--to-torch")
    with pytest.raises(SystemExit, match="2"):
        main([str(tmp_path), str(tmp_path / "out.pt"), "--to-torch", "--verify"])
    assert "--verify does not go with --to-torch" in capsys.readouterr().err


def test_help_names_every_option(capsys):
    with pytest.raises(SystemExit, match="0"):
        main(["-h"])
    text = capsys.readouterr().out
    for option in ("to-torch", "verify", "charset", "activation", "image-size", "scale", "set", "license"):
        assert f"--{option}" in text
