"""What the configuration in an mmcv checkpoint says and its tensors don't: prompt, heads, decoding, image size.

mmcv keeps the text of a run's configuration beside the weights, as Python assignments. The text is parsed and never
run: literals and `dict(...)` of literals have a value here, and nothing else has.
"""

import ast
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

# Our fields of decoding: the postprocessor's argument and its default in mmocr 0.4 and TCM.
DECODING: dict[str, dict[str, tuple[str, Any]]] = {
    "db": {
        "text_representation": ("text_repr_type", "poly"),
        "mask_threshold": ("mask_thr", 0.3),
        "score_threshold": ("min_text_score", 0.3),
        "min_width": ("min_text_width", 5),
        "filter_min_width": ("filter_min_text_poly", False),
        "approximate": ("use_approxPolyDP", True),
        "arc_length_ratio": ("arcLength_ratio", 0.01),
        "unclip_ratio": ("unclip_ratio", 1.5),
        "max_candidates": ("max_candidates", 3000),
    },
    "pan": {
        "text_representation": ("text_repr_type", "poly"),
        "text_threshold": ("min_text_confidence", 0.5),
        "kernel_threshold": ("min_kernel_confidence", 0.5),
        "score_threshold": ("min_text_avg_confidence", 0.85),
        "min_area": ("min_text_area", 16),
    },
    "fce": {
        "alpha": ("alpha", 1.0),
        "beta": ("beta", 2.0),
        "score_threshold": ("score_thr", 0.3),
        "nms_threshold": ("nms_thr", 0.1),
        "num_points": ("num_reconstr_points", 50),
    },
}


class MMCVConfig(NamedTuple):
    """Fields of the `tcm` configuration, of the detector's decoding, and of the preprocessing, that the file states."""

    tcm: dict[str, Any]
    decoding: dict[str, Any]
    preprocessing: dict[str, Any]


def read(text: str, family: str) -> MMCVConfig:
    """What the configuration `text` says of a detector of `family`.

    Raises:
        ValueError: it is no Python, or `model` or `data` are more than literals; the message names the line.
    """
    config = _assignments(text, ("model", "data"))
    model, data = mapping(config.get("model")), mapping(config.get("data"))
    post = mapping(mapping(model.get("bbox_head")).get("postprocessor"))
    decoding = {name: post.get(*at) for name, at in DECODING[family].items()} if post else {}
    return MMCVConfig(_tcm(model), decoding, _preprocessing(data.get("test")))


def _tcm(model: Mapping[str, Any]) -> dict[str, Any]:
    decoder, text = mapping(model.get("context_decoder")), mapping(model.get("text_encoder"))
    sources = {
        "context_decoder": (model, "use_context_decoder"),
        "tau": (model, "tau"),
        "decoder_heads": (decoder, "transformer_heads"),
        "dropout": (decoder, "dropout"),
    }
    fields: dict[str, Any] = {ours: group[name] for ours, (group, name) in sources.items() if name in group}
    match model:
        case {"use_learnable_prompt_only": True}:
            fields["prompt"] = ""
        case {"class_names": [str(prompt)]}:
            fields["prompt"] = prompt
    return fields | ({"clip": {"text_heads": text["transformer_heads"]}} if "transformer_heads" in text else {})


def _preprocessing(test: Any) -> dict[str, Any]:
    """Scale (long, short) and normalization of the test pipeline. The scale of an inner Resize has no effect."""
    fields: dict[str, Any] = {}
    for step in _steps(test):
        match step:
            case {"type": "MultiScaleFlipAug", "img_scale": [int(long), int(short)] | [[int(long), int(short)]]}:
                fields["scale"] = [long, short]
            case {"type": "Normalize", "mean": [_, _, _] as mean, "std": [_, _, _] as std, "to_rgb": True}:
                if all(isinstance(number, int | float) for number in (*mean, *std)):
                    fields |= {"mean": mean, "std": std}
    return fields


def _steps(value: Any) -> Iterator[Mapping[str, Any]]:
    """All dictionaries in `value`, outer ones first."""
    if isinstance(value, dict):
        yield value
        value = list(value.values())
    if isinstance(value, list):
        for inner in value:
            yield from _steps(inner)


def mapping(value: Any) -> Mapping[str, Any]:
    """`value` if it is a dictionary, else an empty one."""
    return value if isinstance(value, dict) else {}


def _assignments(text: str, names: tuple[str, ...]) -> dict[str, Any]:
    """Values of the top-level assignments to `names`."""
    try:
        statements = ast.parse(text).body
        return {
            target.id: _value(statement.value)
            for statement in statements
            if isinstance(statement, ast.Assign)
            for target in statement.targets
            if isinstance(target, ast.Name) and target.id in names
        }
    except SyntaxError as error:
        raise ValueError(f"line {error.lineno} is no Python") from error
    except (RecursionError, MemoryError) as error:
        raise ValueError("it is nested too deep") from error


def _value(node: ast.expr) -> Any:
    """A literal or a `dict` of literals; tuples become lists."""
    match node:
        case ast.Constant(value=value):
            return value
        case ast.List(elts=elements) | ast.Tuple(elts=elements):
            return [_value(e) for e in elements]
        case ast.Dict(keys=keys, values=values) if all(isinstance(k, ast.Constant) for k in keys):
            return {_value(k): _value(v) for k, v in zip(keys, values, strict=True) if k is not None}
        case ast.Call(func=ast.Name(id="dict"), args=[], keywords=keywords) if all(k.arg for k in keywords):
            return {k.arg: _value(k.value) for k in keywords}
        case ast.UnaryOp(op=ast.USub(), operand=ast.Constant(value=int() | float() as value)):
            return -value
    raise ValueError(f"line {node.lineno} is more than a literal")
