"""Options that belong to crops or to annotated images, or have another default for each."""

import argparse
from collections.abc import Callable
from typing import Any

KINDS = ("words", "scenes")
_UNSET = object()


class Command:
    """A sub-command. `add` is argparse's; the options of `option` are set by `filled` once the kind is known.

    Args:
        commands: what the sub-command is added to.
        run: what it does.
    """

    def __init__(self, commands: Any, name: str, run: Callable[..., int], help: str) -> None:
        self.parser: argparse.ArgumentParser = commands.add_parser(name, help=help, description=help)
        self.add = self.parser.add_argument
        self.defaults: dict[str, dict[str, Any]] = {kind: {} for kind in KINDS}
        self.parser.set_defaults(run=run, defaults=self.defaults)

    def option(self, *flags: str, words: Any = _UNSET, scenes: Any = _UNSET, **settings: Any) -> None:
        """Adds an option, with its default for words or for scenes or for both."""
        # The option is missing from the namespace where it isn't given, which tells it from one given as the default.
        action = self.parser.add_argument(*flags, default=argparse.SUPPRESS, **settings)
        for kind, value in (("words", words), ("scenes", scenes)):
            if value is not _UNSET:
                self.defaults[kind][action.dest] = value


def chosen_kind(options: argparse.Namespace) -> str | None:
    """The kind, if any, that has the options which are given; `ValueError` if both have."""
    words, scenes = (options.defaults[kind] for kind in KINDS)
    given = [
        [name for name in own if name not in other and hasattr(options, name)]
        for own, other in ((words, scenes), (scenes, words))
    ]
    if all(given):
        flags = ["--" + names[0].replace("_", "-") for names in given]
        raise ValueError(f"{flags[0]} is for crops, {flags[1]} for annotated images; give options of one kind")
    return next((kind for kind, names in zip(KINDS, given, strict=True) if names), None)


def filled(options: argparse.Namespace, kind: str) -> argparse.Namespace:
    """`options` with the defaults of `kind` where none is given."""
    return argparse.Namespace(**{**options.defaults[kind], **vars(options)})
