"""JSON and MATLAB files read whole, with errors that say what is wrong with them."""

import io
import json
from pathlib import Path

import numpy as np
import scipy.io

from tcm_jax.data.text_files import decode_utf8, read_bytes
from tcm_jax.records import SourceError


def json_object(path: Path) -> dict:
    """The object that a JSON file holds; `SourceError` names the line that is not JSON."""
    text = decode_utf8(read_bytes(path), path)
    try:
        document = json.loads(text)
    except json.JSONDecodeError as error:
        raise SourceError(f"{path}:{error.lineno}: not JSON ({error.msg}, column {error.colno})") from error
    if not isinstance(document, dict):
        raise SourceError(f"{path} holds a {type(document).__name__}; expected one JSON object")
    return document


def mat_names(data: bytes) -> set[str]:
    """Names of variables in the beginning of a MATLAB file, none if it is no such file.

    Of a variable that is cut off, and of no other after it, the name is known too.
    """
    if not data.startswith(b"MATLAB"):
        return set()
    try:
        return {name for name, _, _ in scipy.io.whosmat(io.BytesIO(data))}
    except Exception:  # a broken file makes scipy raise errors of many kinds
        return set()


def mat_variables(path: Path, names: tuple[str, ...], data: bytes | None = None) -> dict[str, np.ndarray]:
    """Those of the variables `names` that a MATLAB file has; `data` are its bytes, where they are known."""
    try:
        file = open(path, "rb") if data is None else io.BytesIO(data)
    except OSError as error:
        raise SourceError(f"{path} can't be read: {error.strerror}") from error
    with file:
        try:
            contents = scipy.io.loadmat(file, variable_names=names)
        except NotImplementedError as error:
            raise SourceError(f"{path} is of MATLAB 7.3 (HDF5); expected version 5 to 7, save it with '-v7'") from error
        except Exception as error:  # as above
            raise SourceError(f"{path} is not a readable MATLAB file: {error}") from error
    return {name: contents[name] for name in names if name in contents}


def points(numbers: object) -> np.ndarray:
    """float32 [n, 2] from x1, y1, x2, y2, ... or from [[x1, y1], ...]; numbers that are not finite stay.

    Raises:
        ValueError: the message says what was found; it reads on after the name of a field.
    """
    try:
        # numpy also takes the letters of digits and None for numbers, a JSON file may not hold them here.
        array = np.asarray(numbers)
        if array.size and array.dtype.kind not in "iuf":
            raise ValueError
        if array.ndim not in (1, 2) or array.size % 2 or (array.ndim == 2 and array.shape[1] != 2):
            raise ValueError
    except ValueError:
        raise ValueError(f"is {str(numbers)[:60]}; expected x and y of all points") from None
    return array.astype(np.float32).reshape(-1, 2)
