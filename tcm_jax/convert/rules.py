"""The rules by layout of the state dict, and those for CLIP4STR's decoders."""

from typing import Literal

from tcm_jax.convert import rules_tcm
from tcm_jax.convert.engine import KeyRule, modules, parameter
from tcm_jax.convert.rules_clip import huggingface, resnet, text, vit

Layout = Literal["clip", "clip-resnet", "clip4str", "huggingface", "tcm"]
# The tasks of the models that they give.
TASKS: dict[Layout, str] = {
    **dict.fromkeys(("clip", "clip-resnet", "huggingface"), "clip"),
    "clip4str": "recognition",
    "tcm": "detection",
}

# Not weights: BatchNorm's step counters, three integers of OpenAI's archives, transformers' position numbers.
DROPPED = (
    r".*\.num_batches_tracked",
    "input_resolution",
    "context_length",
    "vocab_size",
    r"(text|vision)_model\.embeddings\.position_ids",
)


def table(layout: Layout) -> list[KeyRule]:
    """The rules between a layout of state dicts and our models.

    "clip" and "clip-resnet" are OpenAI's and OpenCLIP's names, "huggingface" those of transformers' CLIPModel; all
    three give a `CLIP`. "clip4str" gives a `CLIP4STR`: CLIP and two decoders. "tcm" gives a `TCM`, with any neck and
    head.
    """
    match layout:
        case "clip":
            return [parameter("logit_scale"), *text(""), *vit("visual.")]
        case "clip-resnet":
            return [parameter("logit_scale"), *text(""), *resnet("visual.")]
        case "huggingface":
            return huggingface()
        case "clip4str":
            clip = [parameter("clip_model.logit_scale"), *text("clip_model."), *vit("clip_model.visual.")]
            return [*clip, *_decoder("visual_decoder"), *_decoder("cross_decoder")]
        case "tcm":
            return rules_tcm.table()


def _decoder(name: str) -> list[KeyRule]:
    """One character decoder of CLIP4STR."""
    layer = f"{name}.layers.{{}}"
    return [
        *modules("attention", f"{layer}.self_attn", f"{layer}.cross_attn"),
        *modules("linear", f"{layer}.linear1", f"{layer}.linear2"),
        *modules("layer_norm", *(f"{layer}.norm{n}" for n in ("1", "2", "_q", "_c"))),
        parameter(f"{name}.pos_queries"),
        parameter(f"{name}.text_embed.embedding.weight", f"{name}.text_embed.embedding"),
        *modules("layer_norm", f"{name}.norm"),
        *modules("linear", f"{name}.head"),
    ]
