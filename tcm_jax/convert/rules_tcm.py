"""The rules for text detectors: TCM's prompts and context decoders, necks and heads of DB, PAN and FCE."""

from tcm_jax.convert.engine import KeyRule, modules, parameter
from tcm_jax.convert.rules_clip import resnet, text

_PARAMETERS = ("contexts", "gamma", "vis_gamma", "logit_scale", "meta_query", "pix_w")


def table() -> list[KeyRule]:
    """All of them. No two families have a key in common that means different things."""
    prompt = "prompt_generator.prompt_proj"
    return [
        *map(parameter, _PARAMETERS),
        *resnet("backbone."),
        *text("text_encoder."),
        *modules("layer_norm", f"{prompt}.0", f"{prompt}.3"),
        *modules("linear", f"{prompt}.1", f"{prompt}.4"),
        *_context_decoder("context_decoder"),
        *_context_decoder("visual_prompt_generator"),
        *modules("conv", "neck.lateral_convs.{}.conv"),  # of DB's FPNC and FCE's FPN
        *_db(),
        *_pan(),
        *_fce(),
    ]


def _context_decoder(name: str) -> list[KeyRule]:
    """ContextDecoder: attention of text over the image or, as the visual prompt generator, of an image over text."""
    layer = f"{name}.decoder.{{}}"
    attentions = (f"{layer}.self_attn", f"{layer}.cross_attn")
    return [
        *modules("layer_norm", *(f"{name}.{part}" for part in ("memory_proj.0", "memory_proj.2", "text_proj.0"))),
        *modules("linear", f"{name}.memory_proj.1", f"{name}.text_proj.1"),
        *modules("projection", *(f"{attention}.{role}_proj" for attention in attentions for role in "qkv")),
        *modules("output_projection", *(f"{attention}.proj" for attention in attentions)),
        *modules("layer_norm", f"{layer}.norm{{}}", f"{name}.out_proj.0"),
        *modules("linear", f"{layer}.mlp.{{}}", f"{name}.out_proj.1"),
    ]


def _db() -> list[KeyRule]:
    """FPNC and DBHead."""
    rules = modules("conv", "neck.smooth_convs.{}.conv")
    for branch in ("bbox_head.binarize", "bbox_head.threshold"):
        rules += modules("conv", f"{branch}.0")
        rules += modules("batch_norm", f"{branch}.1", f"{branch}.4")
        rules += modules("transposed_conv", f"{branch}.3", f"{branch}.6")
    return rules


def _pan() -> list[KeyRule]:
    """FPEM_FFM and PANHead."""
    rules = [*modules("conv", "neck.reduce_conv_c{}.0"), *modules("batch_norm", "neck.reduce_conv_c{}.1")]
    for direction in ("up_add{}", "down_add{}"):
        module = f"neck.fpems.{{}}.{direction}"
        rules += modules("conv", f"{module}.depthwise_conv", f"{module}.pointwise_conv")
        rules += modules("batch_norm", f"{module}.bn")
    return [*rules, *modules("conv", "bbox_head.out_conv")]


def _fce() -> list[KeyRule]:
    """mmdetection's FPN and FCEHead."""
    return modules("conv", "neck.fpn_convs.{}.conv", "bbox_head.out_conv_cls", "bbox_head.out_conv_reg")
