"""Options as values: a field of a frozen dataclass is a keyword of the API, a flag of a command, and a key of a config.

A flag is called as its field, its help is what the docstring of the class says of the field, and its form follows from
the field's type. A field's metadata may say otherwise: "flag" is another name, "const" the value that the flag alone
stands for, "metavar" what the help shows.
"""

import argparse
import dataclasses
import inspect
import re
import sys
import types
import typing
import warnings
from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeVar

from tcm_jax.config import from_dict, setting

Options = TypeVar("Options")

RENAMED = {"margins": "views", "vocabulary_weight": "dictionary_prior", "buckets": "canvases"}  # old name -> field


def from_keywords(kind: type[Options], options: Options | None, keywords: Mapping[str, Any]) -> Options:
    """`options` (default: those of `kind`) with the values of `keywords`; old names are taken, with a warning.

    Raises:
        ValueError: a name that `kind` does not have, or a value outside its choices.
    """
    values = {}
    for name, value in keywords.items():
        if new := RENAMED.get(name):
            warnings.warn(f"{name} is called {new} now", FutureWarning, stacklevel=3)
        values[new or name] = value
    given = from_dict(kind, values, kind.__name__)
    return given if options is None else dataclasses.replace(options, **{name: getattr(given, name) for name in values})  # type: ignore[type-var]


def add_flags(add: Callable[..., argparse.Action], kind: type, *names: str, **defaults: Any) -> list[argparse.Action]:
    """Declares the flags of some fields of `kind` by the parser's `add`, and returns them.

    Args:
        names: of the fields. defaults: of a command, in place of the fields' own.
    """
    fields = {field.name: field for field in dataclasses.fields(kind)}
    hints, help_texts = typing.get_type_hints(kind), _documented(kind)
    actions = []
    for name in names:
        field, default = fields[name], defaults.get(name, fields[name].default)
        flag = field.metadata.get("flag", "--" + name.replace("_", "-"))
        settings = {**_form(hints[name]), **{k: v for k, v in field.metadata.items() if k == "metavar"}}
        if "const" in field.metadata:
            settings = {"action": "store_const", "const": field.metadata["const"]}
        shown = f"{default:.3g}" if isinstance(default, float) else str(default)
        shown = "" if default is None or "const" in settings else f" (default: {shown})"
        help_text = help_texts[name].replace("%", "%%") + shown
        actions.append(add(flag, dest=name, default=default, help=help_text, **settings))
        for old in (old for old, new in RENAMED.items() if new == name and "const" not in settings):
            old_flag = "--" + old.replace("_", "-")
            add(old_flag, dest=name, default=default, help=argparse.SUPPRESS, action=_renamed(flag), **settings)
    return actions


def from_flags(kind: type[Options], parsed: argparse.Namespace, **values: Any) -> Options:
    """The options that flags give; `values` for fields without a flag.

    Raises:
        ValueError: a value outside its choices.
    """
    names = [field.name for field in dataclasses.fields(kind)]  # type: ignore[arg-type]
    flags = {name: getattr(parsed, name) for name in names if hasattr(parsed, name) and name not in values}
    return from_dict(kind, {**flags, **values}, kind.__name__)


def settings_flag(add: Callable[..., argparse.Action], dest: str, help_text: str) -> argparse.Action:
    """Declares `--set NAME=VALUE`, which may be repeated and gives a mapping."""

    class Add(argparse.Action):
        def __call__(self, parser: Any, namespace: Any, text: Any, option: str | None = None) -> None:
            name, value = setting(text)
            setattr(namespace, dest, {**getattr(namespace, dest), name: value})

    return add("--set", dest=dest, default={}, action=Add, metavar="NAME=VALUE", help=help_text)


def _documented(kind: type) -> dict[str, str]:
    """What the docstring of `kind` says of each field in its section "Args"."""
    section = inspect.cleandoc(kind.__doc__ or "").partition("Args:\n")[2].partition("\n\n")[0]
    entries = re.findall(r"^ {4}(\w+): (.*(?:\n {8}.*)*)", section, re.MULTILINE)
    return {name: " ".join(text.split()).rstrip(".") for name, text in entries}


def _form(hint: Any) -> dict[str, Any]:
    """argparse's settings for a field of this type; None in a union stands for a flag that is not given."""
    kinds = [kind for kind in typing.get_args(hint) if kind is not type(None)]
    if typing.get_origin(hint) in (types.UnionType, typing.Union):
        return _form(kinds[0])
    if typing.get_origin(hint) is tuple:
        nargs = "+" if kinds[-1] is ... else len(kinds)
        return {"nargs": nargs, "type": kinds[0], "metavar": "X"}
    if typing.get_origin(hint) is typing.Literal:
        return {"choices": kinds}
    return {"type": hint, "metavar": "N" if hint is int else "X"} if hint in (int, float) else {}


def _renamed(flag: str) -> type[argparse.Action]:
    """An action that stores the value, and warns that the flag is called `flag` now."""

    class Store(argparse.Action):
        def __call__(self, parser: Any, namespace: Any, values: Any, option: str | None = None) -> None:
            print(f"warning: {option} is called {flag} now", file=sys.stderr)
            setattr(namespace, self.dest, values)

    return Store


def stored(options: Any) -> dict[str, Any]:
    """The fields of `options` that are not the defaults, as JSON values, for a model directory."""
    default = type(options)()
    return {key: _plain(value) for key, value in vars(options).items() if value != getattr(default, key)}


def _plain(value: Any) -> Any:
    return [_plain(each) for each in value] if isinstance(value, Sequence) and not isinstance(value, str) else value


def check_choices(options: Any) -> None:
    """Raises ValueError if a field of type Literal has another value."""
    for name, hint in typing.get_type_hints(type(options)).items():
        kinds = [kind for kind in (hint, *typing.get_args(hint)) if typing.get_origin(kind) is typing.Literal]
        choices = [choice for kind in kinds for choice in typing.get_args(kind)]
        value = getattr(options, name)
        if choices and value not in choices and not (value is None and hint not in kinds):
            raise ValueError(f"{name} is {value!r}; expected one of {', '.join(map(str, choices))}")
