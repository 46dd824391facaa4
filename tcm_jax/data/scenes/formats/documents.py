"""JSON and MATLAB files and their fields, with errors that say what is wrong with them."""

import io
import json
from pathlib import Path
from typing import Any

import numpy as np
import scipy.io

from tcm_jax.data.text_files import decode_utf8, read_bytes
from tcm_jax.records import SourceError

_KINDS = {str: "a string", bool: "true or false", list: "a list"}


def json_object(path: Path) -> dict[str, Any]:
    """The object that a JSON file holds; `SourceError` names the line that is not JSON."""
    try:
        document = json.loads(decode_utf8(read_bytes(path), path))
    except json.JSONDecodeError as error:
        raise SourceError(f"{path}:{error.lineno}: not JSON ({error.msg}, column {error.colno})") from error
    if not isinstance(document, dict):
        raise SourceError(f"{path} holds a {type(document).__name__}; expected one JSON object")
    return document


def field(entry: dict[str, Any], key: str, kind: type = object, default: Any = None) -> Any:
    """The value of `key`, a `kind`, in a JSON object; if there is none, `default`, or ValueError if that is None."""
    if key not in entry:
        if default is not None:
            return default
        raise ValueError(f"no {key!r}; found {', '.join(entry)}")
    if not isinstance(entry[key], kind):
        raise ValueError(f"{key!r} is {entry[key]!r}; expected {_KINDS[kind]}")
    return entry[key]


def points(entry: dict[str, Any], key: str) -> np.ndarray:
    """float32 [n, 2] from the field x1, y1, x2, y2, ... or [[x1, y1], ...]; numbers that are not finite are kept.

    Raises:
        ValueError: the field is missing or malformed.
    """
    values = field(entry, key)
    try:
        # numpy also accepts strings of digits and None as numbers, which a JSON file may not have here.
        array = np.asarray(values)
        if array.size and array.dtype.kind not in "iuf":
            raise ValueError
        if array.ndim not in (1, 2) or array.size % 2 or (array.ndim == 2 and array.shape[1] != 2):
            raise ValueError
    except ValueError:
        raise ValueError(f"{key!r} is {str(values)[:60]}; expected x and y of all points") from None
    return array.astype(np.float32).reshape(-1, 2)


def mat_names(data: bytes) -> set[str]:
    """Names of the variables in the beginning of a MATLAB file; none if it is no such file.

    The last name may be that of a variable that is cut off.
    """
    if not data.startswith(b"MATLAB"):
        return set()
    try:
        return {name for name, _, _ in scipy.io.whosmat(io.BytesIO(data))}
    except Exception:  # scipy raises errors of many kinds for broken files
        return set()


def mat_variables(path: Path, names: tuple[str, ...], data: bytes | None = None) -> dict[str, np.ndarray]:
    """Those of the variables `names` that a MATLAB file has; `data` are its bytes, if they are read already."""
    try:
        loaded = scipy.io.loadmat(path if data is None else io.BytesIO(data), appendmat=False, variable_names=names)
    except NotImplementedError as error:
        raise SourceError(f"{path} is of MATLAB 7.3 (HDF5); expected version 5 to 7, save it with '-v7'") from error
    except Exception as error:  # as above
        raise SourceError(f"{path} is not a readable MATLAB file: {error}") from error
    return {name: loaded[name] for name in names if name in loaded}
