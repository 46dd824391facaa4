"""Reading and writing checkpoint files: every container, renamed, cut short, foreign."""

import io
import pickle
import sys
import tarfile
import zipfile

import numpy as np
import pytest
import safetensors.torch
import torch
from PIL import Image

from tcm_jax.convert import checkpoints
from tcm_jax.convert.architecture import identify
from tcm_jax.convert.engine import ConversionError
from tests.convert.conftest import torch_tensors
from tests.golden_models import golden_state

TENSORS = {key: x.numpy() for key, x in torch_tensors().items()}


def assert_read(path, container, expected=TENSORS):
    checkpoint = checkpoints.read(path)
    assert checkpoint.container == container
    assert checkpoint.tensors.keys() == expected.keys()
    for key, tensor in expected.items():
        np.testing.assert_array_equal(checkpoint.tensors[key], tensor)
        assert checkpoint.tensors[key].dtype == tensor.dtype
    return checkpoint


class Holder(torch.nn.Module):
    """A module whose state dict has the given keys."""

    def __init__(self, state):
        super().__init__()
        for key, tensor in state.items():
            *parents, name = key.split(".")
            module = self
            for parent in parents:
                if not hasattr(module, parent):
                    module.add_module(parent, torch.nn.Module())
                module = getattr(module, parent)
            module.register_buffer(name, tensor)


def test_containers_are_recognised_by_content_not_by_name(tmp_path):
    path = tmp_path / "weights.jpg"
    torch.save(torch_tensors(), path)
    assert_read(path, "torch")
    safetensors.torch.save_file(torch_tensors(), path)
    assert_read(path, "safetensors")
    torch.jit.save(torch.jit.script(Holder(torch_tensors())), path)
    assert_read(path, "torchscript")


def test_half_precision_is_widened_and_integers_stay(tmp_path):
    path = tmp_path / "weights"
    mixed = {"bf16": torch.tensor([1.5, -2]).bfloat16(), "f16": torch.tensor([0.1]).half()}
    mixed |= {"f64": torch.tensor(0.1).double(), "int": torch.tensor(224)}
    expected = {"bf16": np.float32([1.5, -2]), "f16": np.float32([np.float16(0.1)]), "f64": np.float32(0.1)}
    expected["int"] = np.array(224)
    dtypes = {"bf16": "float32", "f16": "float16", "f64": "float64", "int": "int64"}
    torch.save(mixed, path)
    assert assert_read(path, "torch", expected).dtypes == dtypes
    safetensors.torch.save_file(mixed, path)
    assert assert_read(path, "safetensors", expected).dtypes == dtypes | {"bf16": "bfloat16"}
    torch.jit.save(torch.jit.script(Holder(mixed)), path)
    assert assert_read(path, "torchscript", expected).dtypes == dtypes


def test_an_openai_archive(golden, tmp_path):
    """Half precision but for embeddings and norms, and three integers, as in OpenAI's archives."""
    state = golden_state(golden / "clip_vit")
    half = ("weight", "bias", "proj", "text_projection", "in_proj_weight", "in_proj_bias")
    archive = {
        key: torch.tensor(x).half()
        if key.endswith(half) and "ln_" not in key and "embedding" not in key
        else torch.tensor(x)
        for key, x in state.items()
    }
    archive |= {"input_resolution": torch.tensor(32), "context_length": torch.tensor(77)}
    archive["vocab_size"] = torch.tensor(49408)
    path = tmp_path / "ViT-B-16.pt"
    torch.jit.save(torch.jit.script(Holder(archive)), path)
    architecture = identify(checkpoints.read(path))
    assert (architecture.origin, architecture.config.activation) == ("OpenAI CLIP", "quick_gelu")
    assert not architecture.notes
    # The same weights as a plain dictionary, which says no more than its dtypes.
    integers = ("input_resolution", "context_length", "vocab_size")
    torch.save({k: x for k, x in archive.items() if k not in integers}, path)
    plain = identify(checkpoints.read(path))
    assert (plain.origin, plain.config) == ("OpenAI CLIP", architecture.config)
    # All in one precision: OpenCLIP's default is assumed, and said so.
    torch.save(torch_tensors(state), path)
    assumed = identify(checkpoints.read(path))
    assert (assumed.origin, assumed.config.activation) == ("OpenCLIP", "gelu")
    assert "gelu" in assumed.notes[0]


def image(path):
    Image.new("RGB", (8, 8)).save(path, "JPEG")


def legacy(path):
    torch.save(torch_tensors(), path, _use_new_zipfile_serialization=False)


def tar(path):
    with tarfile.open(path, "w") as archive:
        archive.addfile(tarfile.TarInfo("storages"), io.BytesIO())


def foreign_zip(path):
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("word/document.xml", "<w/>")


def no_pickle(path):
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("x/data.pkl", b"not a pickle")
        archive.writestr("x/version", b"3")


def broken_archive(path):
    with zipfile.ZipFile(path, "w") as archive:
        for name in ("data.pkl", "constants.pkl", "code/x.py", "version"):
            archive.writestr(f"x/{name}", b"3")


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda path: path.write_bytes(b""), "begins with b''; expected a safetensors file"),
        (
            lambda path: path.write_text("version https://git-lfs.github.com/spec/v1"),
            "begins with b'version h'",
        ),
        (image, "expected a safetensors file"),
        (tar, "expected a safetensors file"),
        (legacy, "bare pickle, as PyTorch wrote before 1.6"),
        (lambda path: path.write_bytes(pickle.dumps({})), "bare pickle"),
        (foreign_zip, "zip file without data.pkl"),
        (no_pickle, "broken file of torch.save|expected tensors"),
        (broken_archive, "broken TorchScript archive"),
        (
            lambda path: path.write_bytes(b"\x10" + b"\0" * 7 + b"{" + b"x" * 30),
            "broken or unsupported safetensors",
        ),
        (lambda path: torch.save([torch.ones(1)], path), "holds a list, expected a dictionary"),
        (lambda path: torch.save({}, path), "holds no tensors"),
        (lambda path: torch.save({"a": "text"}, path), "'a' is a str, expected a tensor"),
        (lambda path: torch.save({1: torch.ones(1)}, path), "1 is a Tensor, expected a tensor"),
        (lambda path: torch.save({"a": torch.eye(2).to_sparse()}, path), "a is no plain tensor"),
        (lambda path: path.mkdir(), "holds no weights; expected one of model.safetensors"),
        (lambda path: None, "is no file and no folder"),
    ],
)
def test_broken_and_foreign_files(tmp_path, make, message):
    path = tmp_path / "weights.pt"
    make(path)
    with pytest.raises(ConversionError, match=message) as error:
        checkpoints.read(path)
    assert str(path) in str(error.value)


@pytest.mark.parametrize("container", ["torch", "safetensors", "torchscript"])
def test_files_cut_short(tmp_path, container):
    path = tmp_path / "weights"
    if container == "torch":
        torch.save(torch_tensors(), path)
    elif container == "safetensors":
        safetensors.torch.save_file(torch_tensors(), path)
    else:
        torch.jit.save(torch.jit.script(Holder(torch_tensors())), path)
    content = path.read_bytes()
    for length in (4, 20, len(content) // 2, len(content) - 5):
        path.write_bytes(content[:length])
        with pytest.raises(ConversionError, match="weights"):
            checkpoints.read(path)


def test_without_torch(tmp_path, monkeypatch):
    torch.save(torch_tensors(), tmp_path / "weights.pt")
    safetensors.torch.save_file(torch_tensors(), tmp_path / "weights.safetensors")
    monkeypatch.setitem(sys.modules, "torch", None)
    assert_read(tmp_path / "weights.safetensors", "safetensors")
    checkpoints.write(tmp_path / "out.safetensors", TENSORS)
    assert_read(tmp_path / "out.safetensors", "safetensors")
    with pytest.raises(ConversionError, match=r"pip install 'tcm_jax\[torch\]'"):
        checkpoints.read(tmp_path / "weights.pt")
    with pytest.raises(ConversionError, match=r"pip install 'tcm_jax\[torch\]'"):
        checkpoints.write(tmp_path / "out.pt", TENSORS)
    assert not (tmp_path / "out.pt").exists()


def test_written_files(tmp_path):
    strided = {"a": np.arange(6, dtype=np.float32).reshape(2, 3).T, "n": np.int64(3)}
    for name, container in (
        ("x.pt", "torch"),
        ("x.pth", "torch"),
        ("x.bin", "torch"),
        ("x.safetensors", "safetensors"),
    ):
        checkpoints.write(tmp_path / "new" / name, strided)
        assert_read(tmp_path / "new" / name, container, strided)
    assert sorted(p.name for p in (tmp_path / "new").iterdir()) == ["x.bin", "x.pt", "x.pth", "x.safetensors"]
    with pytest.raises(ConversionError, match=r"must end in .safetensors, .pt, .pth or .bin"):
        checkpoints.write(tmp_path / "x.npz", strided)
