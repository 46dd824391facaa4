"""What a model is: architecture, characters, sizes, where it comes from, licence.

python -m tcm_jax.info models/clip4str-b16
python -m tcm_jax.info runs/mine --json

Nothing but the description and the headers of the weights are read, so that it takes no time and no memory.
"""

import json
import sys
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
from safetensors import safe_open

from tcm_jax.commands.command_line import new_parser
from tcm_jax.config import from_dict
from tcm_jax.detection.model import detection_config
from tcm_jax.files import as_path, local_copy
from tcm_jax.models.clip4str import CLIP4STRConfig
from tcm_jax.pretrained import WEIGHTS, find_model, read_config

SCHEMA_VERSION = 1
_KINDS = {"recognition": "recognizer (CLIP4STR)", "detection": "detector (TCM-{})", "clip": "CLIP"}
_PYTORCH = (".bin", ".ckpt", ".pt", ".pth")


def main(arguments: Sequence[str] | None = None, prog: str = "python -m tcm_jax.info") -> None:
    """Runs the command; a problem ends it with a message and exit code 1."""
    parser = new_parser(prog, __doc__)
    parser.add_argument("checkpoint", metavar="CHECKPOINT", help="model directory or training workdir")
    parser.add_argument("--json", action="store_true", help="print JSON, with all fields of the architecture")
    options = parser.parse_args(arguments)
    try:
        facts = describe(options.checkpoint)
    except (KeyError, OSError, TypeError, ValueError) as error:
        sys.exit(f"error: {error}")
    print(json.dumps(facts, indent=1, ensure_ascii=False) if options.json else _text(facts))


def describe(checkpoint: str) -> dict[str, Any]:
    """What is known of a model, as JSON values; `schema_version` changes when a key changes its meaning or goes away.

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
    return {
        "schema_version": SCHEMA_VERSION,
        "path": str(directory),
        "kind": _kind(config),
        **{key: config.get(key) for key in ("task", "preprocessing", "source", "license", "extra")},
        "model": _architecture(config.get("task", ""), config.get("model", {})),
        "weights": weights,
        "training": _training(as_path(checkpoint), as_path(directory)),
    }


def _kind(config: Mapping[str, Any]) -> str:
    task = config.get("task", "")
    return _KINDS.get(task, f"unknown task {task!r}").format(config.get("model", {}).get("family", "").upper())


def _architecture(task: str, model: Mapping[str, Any]) -> dict[str, Any]:
    """All fields, also those that the description leaves to their defaults.

    Raises:
        ValueError: unknown or missing fields.
    """
    if task == "recognition":
        return asdict(from_dict(CLIP4STRConfig, model, "model"))
    return asdict(detection_config(model)) if task == "detection" else dict(model)


def _weights(path: Path) -> dict[str, Any]:
    """Sizes by the headers of the file.

    Raises:
        ValueError: it is no such file.
    """
    parameters: Counter[str] = Counter()
    types: set[str] = set()
    try:
        with safe_open(path, "numpy") as file:
            for name in file.keys():
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
    """Of a training's working directory the steps that are stored and the last line of its log; None for others."""
    if root == directory:
        return None
    checkpoints = root / "checkpoints"
    stored = sorted(int(p.name) for p in checkpoints.iterdir() if p.name.isdigit()) if checkpoints.is_dir() else []
    metrics = root / "metrics.jsonl"
    lines = local_copy(metrics).read_text("utf-8").splitlines() if metrics.is_file() else []
    return {
        "workdir": str(root),
        "used": directory.name,
        "steps": stored,
        "last": json.loads(lines[-1]) if lines else None,
    }


def _text(facts: Mapping[str, Any]) -> str:
    """For people."""
    model, weights, training = facts["model"] or {}, facts["weights"], facts["training"]
    rows = [
        ("model", facts["path"]),
        ("kind", facts["kind"]),
        *_architecture_rows(model),
        ("parameters", f"{weights['parameters']:,} ({weights['bytes'] / 1e6:.1f} MB, {', '.join(weights['types'])})"),
        *((f"  {part}", f"{count:,}") for part, count in weights["parts"].items()),
        *((f"images: {key}", _short(value)) for key, value in (facts["preprocessing"] or {}).items()),
        ("source", facts["source"] or "unknown"),
        ("licence", facts["license"] or "unknown"),
        *((str(key), _short(value)) for key, value in (facts["extra"] or {}).items()),
    ]
    if training:
        last = training["last"] or {}
        rows.append(("training", f"{training['workdir']}, {training['used']} of it is used"))
        rows.append(("  stored steps", ", ".join(map(str, training["steps"])) or "none"))
        rows.append(("  last of its log", ", ".join(f"{key} {_short(value)}" for key, value in last.items()) or "none"))
    width = max(len(name) for name, _ in rows)
    return "\n".join(f"{name:<{width}}  {value}" for name, value in rows)


def _architecture_rows(model: Mapping[str, Any]) -> list[tuple[str, str]]:
    clip = model.get("clip") or model.get("tcm", {}).get("clip") or model
    rows = []
    if "image_size" in clip and "patch_size" in clip:
        height, width = clip["image_size"]
        layers = clip.get("vision_layers")
        tower = "ResNet" if isinstance(layers, list | tuple) else f"ViT, patches of {_short(clip['patch_size'])}"
        image = (
            f"{tower}, {_short(layers)} layers, width {clip.get('vision_width')}, made for {height} x {width} pixels"
        )
        if stem := clip.get("vision_stem"):
            image += f", behind convolutions of width {_short(stem)}"
        rows.append(("image tower", image))
        rows.append(("text tower", f"{clip.get('text_layers')} layers, width {clip.get('text_width')}"))
    if "charset" in model:
        rows.append(("characters", f"{len(model['charset'])}: {model['charset']}"))
        rows.append(("longest word", f"{model.get('max_label_length')} characters"))
        decoding = ("decode_ar", "refine_iters", "both_branches", "vocabulary_weight")  # older models lack two
        rows.append(("decoding", ", ".join(f"{key} {_short(model[key])}" for key in decoding if key in model)))
    if "detector" in model:
        fields = detection_config(model).detector.decoding_fields
        rows.append(("decoding", ", ".join(f"{key} {_short(model['detector'][key])}" for key in fields)))
    return rows


def _short(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:.5g}"
    return ", ".join(map(_short, value)) if isinstance(value, list | tuple) else str(value)
