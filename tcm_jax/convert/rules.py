"""The tables of rules by layout, and those for CLIP4STR's decoders."""

from typing import Literal

from tcm_jax.convert import rules_tcm
from tcm_jax.convert.engine import KeyRule, attention, copy, dense, norm
from tcm_jax.convert.rules_clip import huggingface, resnet, text, vit


def _decoder(source: str, target: str) -> list[KeyRule]:
    """One character decoder of CLIP4STR."""
    s, t = f"{source}.layers.{{}}", f"{target}/layers_{{}}"
    rules = [*attention(f"{s}.self_attn", f"{t}/self_attn"), *attention(f"{s}.cross_attn", f"{t}/cross_attn")]
    for name in ("linear1", "linear2"):
        rules += dense(f"{s}.{name}", f"{t}/{name}")
    for name in ("norm1", "norm2", "norm_q", "norm_c"):
        rules += norm(f"{s}.{name}", f"{t}/{name}")
    return [
        *rules,
        copy(f"{source}.pos_queries", f"{target}/pos_queries"),
        copy(f"{source}.text_embed.embedding.weight", f"{target}/text_embed/embedding"),
        *norm(f"{source}.norm", f"{target}/norm"),
        *dense(f"{source}.head", f"{target}/head"),
    ]


# Not weights: BatchNorm's step counters, three integers of OpenAI's archives, transformers' position numbers.
DROPPED = (
    r".*\.num_batches_tracked",
    "input_resolution",
    "context_length",
    "vocab_size",
    r"(text|vision)_model\.embeddings\.position_ids",
)

Layout = Literal["clip", "clip-resnet", "clip4str", "huggingface", "tcm"]


def table(layout: Layout) -> list[KeyRule]:
    """The rules between a layout of state dicts and our models.

    "clip" and "clip-resnet" are OpenAI's and OpenCLIP's names, "huggingface" of transformers' CLIPModel; all
    three give a `CLIP`. "clip4str" gives a `CLIP4STR`: CLIP and two decoders. "tcm" gives a `TCM`, whatever its
    neck and head.
    """
    scale = copy("logit_scale", "params/logit_scale")
    match layout:
        case "clip":
            return [scale, *text("", "params/"), *vit("visual.", "params/visual/")]
        case "clip-resnet":
            return [scale, *text("", "params/"), *resnet("visual.", "params/visual/")]
        case "huggingface":
            return [scale, *huggingface()]
        case "clip4str":
            return [
                copy("clip_model.logit_scale", "params/clip_model/logit_scale"),
                *text("clip_model.", "params/clip_model/"),
                *vit("clip_model.visual.", "params/clip_model/visual/"),
                *_decoder("visual_decoder", "params/visual_decoder"),
                *_decoder("cross_decoder", "params/cross_decoder"),
            ]
        case "tcm":
            return rules_tcm.table()
