"""Prints facts about a model: architecture, characters, sizes, source, licence.

python -m tcm_jax.info models/clip4str-b16
python -m tcm_jax.info runs/mine --json

Only the config and the header of the weights are read, so that it takes little time and memory.
"""

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
from safetensors import safe_open

from tcm_jax.commands.command_line import command, error_text, new_parser
from tcm_jax.config import from_dict
from tcm_jax.detection.model import detection_config
from tcm_jax.files import as_path, local_copy
from tcm_jax.models.clip4str import CLIP4STRConfig
from tcm_jax.pretrained import CONFIG, WEIGHTS, find_model, read_config

SCHEMA_VERSION = 1
_KINDS = {"recognition": "recognizer (CLIP4STR)", "detection": "detector (TCM-{})", "clip": "CLIP"}
_PYTORCH = (".bin", ".ckpt", ".pt", ".pth")


@command
def main(arguments: Sequence[str] | None = None, prog: str = "python -m tcm_jax.info") -> None:
    """Runs the command."""
    parser = new_parser(prog, __doc__)
    parser.add_argument("checkpoint", metavar="CHECKPOINT", help="model directory or training workdir")
    parser.add_argument("--json", action="store_true", help="print JSON, with all fields of the architecture")
    options = parser.parse_args(arguments)
    facts = describe(options.checkpoint)
    print(json.dumps(facts, indent=1, ensure_ascii=False) if options.json else _table(facts))


def describe(checkpoint: str) -> dict[str, Any]:
    """Facts about a model as JSON values; `schema_version` changes when a key changes its meaning or goes away.

    Raises:
        FileNotFoundError: no model at `checkpoint`.
        ValueError: a checkpoint of PyTorch, or a broken model.
    """
    if as_path(checkpoint).suffix.lower() in _PYTORCH:
        message = f"{checkpoint} looks like a checkpoint of PyTorch; `tcm-jax convert` makes a model directory of it"
        raise ValueError(message)
    directory = find_model(checkpoint)
    config = read_config(directory)
    weights = _weights(local_copy(directory) / WEIGHTS)
    task, model = config.get("task", ""), config.get("model", {})
    return {
        "schema_version": SCHEMA_VERSION,
        "path": str(directory),
        "kind": _KINDS.get(task, f"unknown task {task!r}").format(model.get("family", "").upper()),
        **{key: config.get(key) for key in ("task", "preprocessing", "inference", "source", "license", "extra")},
        "model": _architecture(task, model),
        "weights": weights,
        "training": _training(as_path(checkpoint), as_path(directory)),
    }


def _architecture(task: str, model: Mapping[str, Any]) -> dict[str, Any]:
    """All fields of the architecture, with the defaults of those that the config leaves out.

    Raises:
        ValueError: unknown or missing fields, or values of another type.
    """
    try:
        if task == "recognition":
            return asdict(from_dict(CLIP4STRConfig, model, "model"))
        return asdict(detection_config(model)) if task == "detection" else dict(model)
    except (KeyError, TypeError) as error:
        raise ValueError(f"{CONFIG}: model is no description of a model: {error_text(error)}") from error


def _weights(path: Path) -> dict[str, Any]:
    """Sizes of the weights, from the header of the file.

    Raises:
        ValueError: it is not a safetensors file.
    """
    parameters: Counter[str] = Counter()
    types: set[str] = set()
    try:
        with safe_open(path, "numpy") as file:
            for name in file.keys():  # noqa: SIM118 - a file of safetensors is not iterable
                array = file.get_slice(name)
                types.add(array.get_dtype())
                collection, *parts = name.split("/")
                if collection == "params":
                    parameters[parts[0]] += int(np.prod(array.get_shape()))
    except Exception as error:  # safetensors has no class of its own for a broken header
        raise ValueError(f"{path} can't be read as safetensors: {error}") from error
    return {
        "bytes": path.stat().st_size,
        "types": sorted(types),
        "parameters": parameters.total(),
        "parts": dict(parameters.most_common()),
    }


def _training(root: Path, directory: Path) -> dict[str, Any] | None:
    """Stored steps and the last line of the log of a training workdir; None for a model directory."""
    if root == directory:
        return None
    checkpoints, metrics = root / "checkpoints", root / "metrics.jsonl"
    steps = sorted(int(p.name) for p in checkpoints.iterdir() if p.name.isdigit()) if checkpoints.is_dir() else []
    lines = local_copy(metrics).read_text("utf-8").splitlines() if metrics.is_file() else []
    last = json.loads(lines[-1]) if lines else None
    return {"workdir": str(root), "used": directory.name, "steps": steps, "last": last}


def _table(facts: Mapping[str, Any]) -> str:
    """The facts as lines of names and values."""
    model, weights, training = facts["model"] or {}, facts["weights"], facts["training"]
    rows = [
        ("model", facts["path"]),
        ("kind", facts["kind"]),
        *_architecture_rows(model),
        ("parameters", f"{weights['parameters']:,} ({weights['bytes'] / 1e6:.1f} MB, {', '.join(weights['types'])})"),
        *((f"  {part}", f"{count:,}") for part, count in weights["parts"].items()),
        *((f"images: {key}", _format(value)) for key, value in (facts["preprocessing"] or {}).items()),
        *((f"inference: {key}", _format(value)) for key, value in (facts["inference"] or {}).items()),
        ("source", facts["source"] or "unknown"),
        ("licence", facts["license"] or "unknown"),
        *((str(key), _format(value)) for key, value in (facts["extra"] or {}).items()),
    ]
    if training:
        last = training["last"] or {}
        rows.append(("training", f"{training['workdir']}, {training['used']} of it is used"))
        rows.append(("  stored steps", ", ".join(map(str, training["steps"])) or "none"))
        rows.append(("  last of its log", _pairs(last) or "none"))
    width = max(len(name) for name, _ in rows)
    return "\n".join(f"{name:<{width}}  {value}" for name, value in rows)


def _architecture_rows(model: Mapping[str, Any]) -> list[tuple[str, str]]:
    clip = model.get("clip") or model.get("tcm", {}).get("clip") or model
    rows = []
    if "image_size" in clip and "patch_size" in clip:
        height, width = clip["image_size"]
        layers, size = clip.get("vision_layers"), f"{height} x {width} pixels"
        tower = "ResNet" if isinstance(layers, list | tuple) else f"ViT, patches of {_format(clip['patch_size'])}"
        image = f"{tower}, {_format(layers)} layers, width {clip.get('vision_width')}, for images of {size}"
        if stem := clip.get("vision_stem"):
            image += f", after convolutions of width {_format(stem)}"
        rows.append(("image tower", image))
        rows.append(("text tower", f"{clip.get('text_layers')} layers, width {clip.get('text_width')}"))
    if "charset" in model:
        rows.append(("characters", f"{len(model['charset'])}: {model['charset']}"))
        rows.append(("longest word", f"{model.get('max_label_length')} characters"))
        rows.append(("decoding", _pairs({key: model[key] for key in ("decode_ar", "refine_iters")})))
    if "detector" in model:
        rows.append(("decoding", _pairs(model["detector"]["decoding"])))
    return rows


def _pairs(values: Mapping[str, Any]) -> str:
    return ", ".join(f"{key} {_format(value)}" for key, value in values.items())


def _format(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:.5g}"
    return ", ".join(map(_format, value)) if isinstance(value, list | tuple) else str(value)
