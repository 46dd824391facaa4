"""Keys that have changed their names: model directories, recipes and runs of before are read through this one table."""

from collections.abc import Callable, Mapping
from typing import Any

_DECODING = {
    "db": "text_representation mask_threshold score_threshold min_width filter_min_width approximate arc_length_ratio "
    "unclip_ratio max_candidates separate_words",
    "pan": "text_representation text_threshold kernel_threshold score_threshold min_area",
    "fce": "text_representation alpha beta score_threshold nms_threshold num_points",
}
KEYS = {
    "preprocessing.margins": "inference.views",
    "preprocessing.scale": "inference.scale",
    "preprocessing.coarse_scales": "inference.coarse_scales",
    "model.vocabulary_weight": "inference.dictionary_prior",
    "model.both_branches": "inference.branches",
}
_VALUES = {"inference.branches": {True: "both", False: "cross"}}


def renamed(config: Mapping[str, Any], report: Callable[[str, str], None] = lambda old, new: None) -> dict[str, Any]:
    """A config, or the config.json of a model directory, with the keys of today.

    Args:
        config: nested dictionaries, which stay as they are.
        report: called with the old and the new name of each key that has another name now.
    """
    new = _copy(config)
    family = config.get("model", {}).get("family", "db") if "detector" in config.get("model", {}) else None
    decoding = _DECODING.get(family, "").split() if family else []
    moved = {f"model.detector.{name}": f"model.detector.decoding.{name}" for name in decoding}
    for old_key, new_key in {**KEYS, **moved}.items():
        *path, name = old_key.split(".")
        section = _section(new, path)
        if section is None or name not in section:
            continue
        value = section.pop(name)
        value = _VALUES.get(new_key, {}).get(value, value) if isinstance(value, bool) else value
        *path, name = new_key.split(".")
        target = new
        for part in path:
            target = target.setdefault(part, {})
        target.setdefault(name, value)
        report(old_key, new_key)
    if config.get("preprocessing") and not new["preprocessing"]:
        del new["preprocessing"]  # all of it is elsewhere now
    return new


def renamed_key(key: str) -> str:
    """Today's name of a config's dotted key; alpha and beta of a detector stay, as those of DBNet are others."""
    section, _, name = key.rpartition(".")
    if section == "model.detector" and name not in ("alpha", "beta") and name in " ".join(_DECODING.values()).split():
        return f"{section}.decoding.{name}"
    return KEYS.get(key, key)


def _copy(value: Any) -> Any:
    return {key: _copy(each) for key, each in value.items()} if isinstance(value, Mapping) else value


def _section(config: dict[str, Any], path: list[str]) -> dict[str, Any] | None:
    section: Any = config
    for part in path:
        section = section.get(part)
        if not isinstance(section, dict):
            return None
    return section
