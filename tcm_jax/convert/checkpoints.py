"""Checkpoint files of PyTorch and Hugging Face to numpy arrays and back. A file never runs code.

A file is recognised by its bytes, never by its name:

    safetensors            header of JSON; read without PyTorch
    torch.save             zip with data.pkl; read by torch.load(weights_only=True)
    TorchScript archive    zip with data.pkl, constants.pkl and code/; only its tensors are taken
    anything else          refused, bare pickles (PyTorch before 1.6) too
"""

import hashlib
import json
import os
import struct
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import ml_dtypes  # noqa: F401  makes bfloat16 known to numpy, for safetensors
import numpy as np
import safetensors
import safetensors.numpy

from tcm_jax.convert.engine import ConversionError
from tcm_jax.convert.torch_files import TorchFile, import_torch, read_torch, read_torchscript
from tcm_jax.files import as_path, atomic_file, local_copy

Container = Literal["safetensors", "torch", "torchscript"]

# What a Hugging Face folder is searched for, in this order; an index names the files of a split checkpoint.
FOLDER = (
    "model.safetensors.index.json",
    "model.safetensors",
    "pytorch_model.bin.index.json",
    "pytorch_model.bin",
    "open_clip_model.safetensors",
    "open_clip_pytorch_model.bin",
)


@dataclass(frozen=True)
class Checkpoint:
    """What was read.

    Args:
        files: all files of it, which weights came from.
        container: kind of the files.
        tensors: floating-point ones in float32, the others as they are.
        dtypes: numpy name of the dtype that a key has in the file.
        hyper_parameters: those of a Lightning checkpoint.
        config: text of the configuration in an mmcv checkpoint, Python that nothing runs.
    """

    files: tuple[Path, ...]
    container: Container
    tensors: Mapping[str, np.ndarray]
    dtypes: Mapping[str, str]
    hyper_parameters: Mapping[str, Any] = field(default_factory=dict)
    config: str = ""

    def companion(self, name: str, *keys: str) -> dict[str, Any]:
        """The object at `keys` in the JSON file `name` beside the weights; empty if there is none.

        Raises ConversionError if the file is no JSON, or what lies there is no object.
        """
        path = self.files[0].with_name(name)
        if not path.is_file():
            return {}
        try:
            values = json.loads(path.read_text("utf-8"))
        except ValueError as error:
            raise ConversionError(f"{path} is no JSON: {error}") from error
        for key in ("", *keys):
            values = values.get(key) or {} if key else values
            if not isinstance(values, dict):
                raise ConversionError(f"{path}: {key or 'it'} is a {type(values).__name__}, expected an object")
        return values

    def sha256(self) -> dict[str, str]:
        """Hash of every file by name."""
        hashes = {}
        for path in self.files:
            with path.open("rb") as file:
                hashes[path.name] = hashlib.file_digest(file, "sha256").hexdigest()
        return hashes


def read(source: str | os.PathLike) -> Checkpoint:
    """Reads a checkpoint file, or a folder of Hugging Face.

    Raises:
        ConversionError: no such file, a broken one, one of another kind, or one that asks for code.
    """
    source = local_copy(source)
    if source.is_dir():
        name = next((n for n in FOLDER if (source / n).is_file()), None)
        if name is None:
            raise ConversionError(f"{source} holds no weights; expected one of {', '.join(FOLDER)}")
        return _read_split(source / name) if name.endswith(".index.json") else _read_file(source / name)
    if not source.is_file():
        raise ConversionError(f"{source} is no file and no folder")
    return _read_file(source)


def _read_split(index: Path) -> Checkpoint:
    """The checkpoint whose files `index` (Hugging Face's *.index.json) names."""
    try:
        names = sorted(set(json.loads(index.read_text("utf-8"))["weight_map"].values()))
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise ConversionError(f"{index} is no index of a split checkpoint: {error!r}") from error
    strange = [n for n in names if not isinstance(n, str) or n != Path(n).name or n in ("", "..")]
    if strange or not names:
        raise ConversionError(f"{index} names {strange or 'no files'}; expected files beside the index")
    parts = [read(index.with_name(n)) for n in names]
    tensors: dict[str, np.ndarray] = {}
    dtypes: dict[str, str] = {}
    for part in parts:
        twice = tensors.keys() & part.tensors.keys()
        if twice:
            raise ConversionError(f"{part.files[0]}: {min(twice)} is in another file of {index} too")
        tensors |= part.tensors
        dtypes |= part.dtypes
    return Checkpoint(tuple(f for p in parts for f in p.files), parts[0].container, tensors, dtypes)


def _read_file(path: Path) -> Checkpoint:
    container = _container(path)
    if container == "torch":
        content = read_torch(path)
    else:
        content = TorchFile(_read_safetensors(path) if container == "safetensors" else read_torchscript(path))
    if not content.tensors:
        raise ConversionError(f"{path} holds no tensors")
    dtypes = {key: x.dtype.name for key, x in content.tensors.items()}
    arrays = {
        key: x if x.dtype.kind in "iub" else x.astype(np.float32, copy=False) for key, x in content.tensors.items()
    }
    return Checkpoint((path,), container, arrays, dtypes, content.hyper_parameters, content.config)


def _container(path: Path) -> Container:
    """The kind of file, by its first bytes and, for a zip file, by the names in it."""
    expected = "expected a safetensors file, a file of torch.save or a TorchScript archive"
    with path.open("rb") as file:
        start = file.read(9)
    if len(start) == 9 and start[8:] == b"{" and struct.unpack("<Q", start[:8])[0] <= path.stat().st_size - 8:
        return "safetensors"
    if start.startswith(b"PK\x03\x04"):
        try:
            with zipfile.ZipFile(path) as archive:
                names = archive.namelist()
        except zipfile.BadZipFile as error:
            raise ConversionError(f"{path} is a broken zip file, perhaps cut short ({error}); {expected}") from error
        inner = {n.partition("/")[2] for n in names}
        if "data.pkl" not in inner:
            raise ConversionError(f"{path} is a zip file without data.pkl; {expected}")
        return "torchscript" if "constants.pkl" in inner and any(n.startswith("code/") for n in inner) else "torch"
    if start.startswith(b"\x80"):
        raise ConversionError(
            f"{path} is a bare pickle, as PyTorch wrote before 1.6; {expected}. Load it where you trust it "
            "and save its state dict again with torch.save"
        )
    raise ConversionError(f"{path} begins with {start!r}; {expected} (cut short?)")


def _read_safetensors(path: Path) -> dict[str, np.ndarray]:
    try:
        with safetensors.safe_open(path, framework="np") as file:
            return {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118  not a dictionary
    except (safetensors.SafetensorError, TypeError, ValueError) as error:
        raise ConversionError(f"{path} is a broken or unsupported safetensors file: {error}") from error


def write(path: str | os.PathLike, state: Mapping[str, np.ndarray]) -> None:
    """Writes a state dict: as safetensors if `path` ends so, with torch.save if it ends in .pt, .pth or .bin.

    The file appears in one step, or not at all.

    Raises:
        ConversionError: another ending, or PyTorch is needed and not installed.
    """
    path = as_path(path)
    arrays = {key: np.asarray(x, order="C") for key, x in state.items()}
    if path.suffix not in (".safetensors", ".pt", ".pth", ".bin"):
        raise ConversionError(f"{path} must end in .safetensors, .pt, .pth or .bin")
    torch = None if path.suffix == ".safetensors" else import_torch(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    with atomic_file(path, "wb") as file:
        if torch is None:
            file.write(safetensors.numpy.save(arrays))
        else:
            torch.save({key: torch.from_numpy(x) for key, x in arrays.items()}, file)
