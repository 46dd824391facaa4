"""PyTorch's files to numpy arrays without running their code."""

import pickle
import re
import zipfile
from collections.abc import Mapping
from pathlib import Path
from types import ModuleType
from typing import Any, NamedTuple

import numpy as np

from tcm_jax.convert.engine import ConversionError


def import_torch(path: Path) -> ModuleType:
    """The module `torch`, to read or write `path` with. Raises ConversionError if it is not installed."""
    try:
        import torch
    except ImportError as error:
        raise ConversionError(
            f"{path} is a PyTorch file, and PyTorch is not installed; pip install 'tcm_jax[torch]', or use "
            "safetensors files"
        ) from error
    return torch


def read_torchscript(path: Path) -> dict[str, np.ndarray]:
    """Tensors of a TorchScript archive. Its methods are compiled but not called.

    Raises ConversionError if the archive is broken, PyTorch is not installed, or there is a `__setstate__`, which would
    be called while loading.
    """
    torch = import_torch(path)
    try:
        with zipfile.ZipFile(path) as archive:
            for name in archive.namelist():
                if name.endswith(".py") and b"__setstate__" in archive.read(name):
                    raise ConversionError(f"{path}: {name} has a __setstate__, which would run while loading")
        return _arrays(path, torch.jit.load(str(path), map_location="cpu").state_dict())
    except (RuntimeError, zipfile.BadZipFile) as error:
        raise ConversionError(f"{path} is a broken TorchScript archive: {_first_line(error)}") from error


class _Inert:
    """Stands for an object of the training program. It takes any construction and state, and does nothing."""

    state: Any = None

    def __new__(cls, *args: Any) -> "_Inert":
        return super().__new__(cls)

    def __setstate__(self, state: Any) -> None:
        self.state = state


class _Dictionary:
    """Stands for another kind of dictionary, whatever it is constructed from; PyTorch fills plain ones only."""

    def __new__(cls, *args: Any) -> dict:  # type: ignore[misc]
        return {}


# Objects that Lightning and OmegaConf leave beside the weights. Nothing here is imported or called: the
# stand-ins replace them. (PyTorch before 2.4 pickled a method of OneCycleLR as getattr(scheduler, name),
# and with the scheduler the entire optimizer.) What is not in this list is refused.
_INERT = """
    argparse.Namespace pathlib.PosixPath typing.Any
    builtins.dict builtins.getattr builtins.int builtins.list builtins.str
    numpy._core.multiarray.scalar numpy.core.multiarray.scalar numpy.dtype
    omegaconf.base.ContainerMetadata omegaconf.base.Metadata omegaconf.nodes.AnyNode
    omegaconf.dictconfig.DictConfig omegaconf.listconfig.ListConfig
    torch.optim.adamw.AdamW torch.optim.lr_scheduler.OneCycleLR
"""
STAND_INS: dict[str, type] = {
    **dict.fromkeys(_INERT.split(), _Inert),
    "collections.defaultdict": _Dictionary,
    "pytorch_lightning.utilities.parsing.AttributeDict": _Dictionary,
}


def _plain(value: Any) -> Any:
    """Hyper-parameters as plain values: Namespace, DictConfig, ListConfig and their nodes unpacked."""
    if isinstance(value, _Inert):
        state = value.state if isinstance(value.state, dict) else {}
        return _plain(state.get("_content", state.get("_val", state)))
    if isinstance(value, dict):
        return {k: _plain(v) for k, v in value.items()}
    return [_plain(v) for v in value] if isinstance(value, list | tuple) else value


class TorchFile(NamedTuple):
    """State dict, hyper-parameters of a Lightning checkpoint, text of the configuration in an mmcv checkpoint."""

    tensors: dict[str, np.ndarray]
    hyper_parameters: Mapping[str, Any] = {}
    config: str = ""


def read_torch(path: Path) -> TorchFile:
    """Contents of a file of torch.save.

    Raises ConversionError if the file is broken, has no state dict or asks for code, or PyTorch is not installed.
    """
    torch = import_torch(path)
    stand_ins = [(stand_in, name) for name, stand_in in STAND_INS.items()]
    try:
        with torch.serialization.safe_globals(stand_ins):
            content = torch.load(path, map_location="cpu", weights_only=True, mmap=True)
    except pickle.UnpicklingError as error:
        name = re.search(r"GLOBAL (\S+)", str(error))
        cause = re.search(r"WeightsUnpickler error:\s+(.+)", str(error))
        reason = f"asks for {name[1]}" if name else f"is refused: {cause[1] if cause else _first_line(error)}"
        raise ConversionError(
            f"{path} {reason}; expected tensors in plain dictionaries. Nothing of it was run. If you trust "
            "the file, load it where it came from and save its state dict alone with torch.save"
        ) from error
    except (RuntimeError, ValueError, EOFError, KeyError, IndexError, TypeError, AttributeError) as error:
        raise ConversionError(f"{path} is a broken file of torch.save: {_first_line(error)}") from error
    hyper_parameters: Any = {}
    meta: Any = {}
    for _ in range(3):  # {"model": {"state_dict": ...}}
        if isinstance(content, dict):
            hyper_parameters = content.get("hyper_parameters", hyper_parameters)
            meta = content.get("meta", meta)
            nested = [content[k] for k in ("state_dict", "model", "module") if isinstance(content.get(k), dict)]
            content = nested[0] if nested else content
    if not isinstance(content, dict):
        raise ConversionError(f"{path} holds a {type(content).__name__}, expected a dictionary of tensors")
    try:
        hyper_parameters = _plain(hyper_parameters)
    except RecursionError as error:
        raise ConversionError(f"{path}: the hyper-parameters contain themselves") from error
    config = meta.get("config") if isinstance(meta, dict) else None
    return TorchFile(
        tensors=_arrays(path, content),
        hyper_parameters=hyper_parameters if isinstance(hyper_parameters, dict) else {},
        config=config if isinstance(config, str) else "",
    )


def _arrays(path: Path, state: Mapping[str, Any]) -> dict[str, np.ndarray]:
    """PyTorch tensors as numpy arrays, bfloat16 widened; float32 ones share their memory."""
    torch = import_torch(path)
    arrays = {}
    for key, value in state.items():
        if not isinstance(key, str) or not isinstance(value, torch.Tensor):
            raise ConversionError(f"{path}: {key!r} is a {type(value).__name__}, expected a tensor")
        try:
            value = value.detach()
            arrays[key] = (value.float() if value.dtype == torch.bfloat16 else value).numpy()
        except (RuntimeError, TypeError, NotImplementedError) as error:
            raise ConversionError(f"{path}: {key} is no plain tensor: {_first_line(error)}") from error
    return arrays


def _first_line(error: Exception) -> str:
    return (str(error).strip() or repr(error)).splitlines()[0]
