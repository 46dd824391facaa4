"""Typed configurations from plain dictionaries (config files, JSON) and command-line arguments."""

import contextlib
import dataclasses
import difflib
import typing
from collections.abc import Mapping
from typing import Any, TypeVar

T = TypeVar("T")


def from_dict(cls: type[T], values: Mapping[str, Any], name: str = "config") -> T:
    """Builds the dataclass `cls` from `values`; nested dataclasses from nested mappings, lists become tuples.

    Raises:
        ValueError: a key that `cls` doesn't have; the message suggests a similar one.
    """
    hints = typing.get_type_hints(cls)
    fields = {f.name for f in dataclasses.fields(cls)}  # type: ignore[arg-type]
    arguments = {}
    for key, value in values.items():
        if key not in fields:
            near = difflib.get_close_matches(key, fields, n=1)
            hint = f"; did you mean {near[0]!r}?" if near else f"; known are {', '.join(sorted(fields))}"
            raise ValueError(f"{name} has no field {key!r}{hint}")
        if isinstance(value, Mapping) and dataclasses.is_dataclass(hints[key]):
            value = from_dict(hints[key], value, f"{name}.{key}")
        arguments[key] = _as_tuple(value)
    return cls(**arguments)


def _as_tuple(value: Any) -> Any:
    """Lists as tuples, also inside each other, so that equal configurations are equal and can be hashed."""
    return tuple(map(_as_tuple, value)) if isinstance(value, list | tuple) else value


def setting(text: str) -> tuple[str, Any]:
    """The name and value of NAME=VALUE, an argument of --set; the value as a bool or a number if it is one, else a str.

    Raises:
        ValueError: there is no "=".
    """
    name, equals, value = text.partition("=")
    if not equals:
        raise ValueError(f"--set {text}: expected NAME=VALUE, such as score_threshold=0.5")
    if value.lower() in ("true", "false"):
        return name, value.lower() == "true"
    for number in (int, float):
        with contextlib.suppress(ValueError):
            return name, number(value)
    return name, value
