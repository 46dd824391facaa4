"""The rules for text detectors: TCM's prompts and context decoders, necks and heads of DB, PAN and FCE."""

from tcm_jax.convert.engine import (
    KeyRule,
    batch_norm,
    convolution,
    copy,
    deconvolution,
    dense,
    merge_heads,
    norm,
    split_heads,
)
from tcm_jax.convert.rules_clip import resnet, text


def _conv(source: str, target: str) -> list[KeyRule]:
    """PyTorch's Conv2d, perhaps without bias."""
    return [convolution(f"{source}.weight", f"{target}/kernel"), copy(f"{source}.bias", f"{target}/bias")]


def _deconv(source: str, target: str) -> list[KeyRule]:
    """PyTorch's ConvTranspose2d."""
    return [deconvolution(f"{source}.weight", f"{target}/kernel"), copy(f"{source}.bias", f"{target}/bias")]


def _attention(source: str, target: str) -> list[KeyRule]:
    """Attention with three projections apart, without bias."""
    names = ("q_proj", "k_proj", "v_proj")
    return [
        *(split_heads(f"{source}.{name}.weight", f"{target}/{name}/kernel") for name in names),
        merge_heads(f"{source}.proj.weight", f"{target}/proj/kernel"),
        copy(f"{source}.proj.bias", f"{target}/proj/bias"),
    ]


def _context_decoder(name: str) -> list[KeyRule]:
    """ContextDecoder: text that looks at the image or, as the visual prompt generator, an image at the text."""
    s, t = name, f"params/{name}"
    layer, leaf = f"{s}.decoder.{{}}", f"{t}/decoder_{{}}"
    return [
        *norm(f"{s}.memory_proj.0", f"{t}/memory_proj_0"),
        *dense(f"{s}.memory_proj.1", f"{t}/memory_proj_1"),
        *norm(f"{s}.memory_proj.2", f"{t}/memory_proj_2"),
        *norm(f"{s}.text_proj.0", f"{t}/text_proj_0"),
        *dense(f"{s}.text_proj.1", f"{t}/text_proj_1"),
        *_attention(f"{layer}.self_attn", f"{leaf}/self_attn"),
        *_attention(f"{layer}.cross_attn", f"{leaf}/cross_attn"),
        *norm(f"{layer}.norm{{}}", f"{leaf}/norm{{}}"),
        *dense(f"{layer}.mlp.{{}}", f"{leaf}/mlp_{{}}"),
        *norm(f"{s}.out_proj.0", f"{t}/out_proj_0"),
        *dense(f"{s}.out_proj.1", f"{t}/out_proj_1"),
    ]


def _prompt_generator() -> list[KeyRule]:
    s, t = "prompt_generator.prompt_proj", "params/prompt_generator/prompt_proj"
    return [
        *norm(f"{s}.0", f"{t}_0"),
        *dense(f"{s}.1", f"{t}_1"),
        *norm(f"{s}.3", f"{t}_3"),
        *dense(f"{s}.4", f"{t}_4"),
    ]


def _db() -> list[KeyRule]:
    """FPNC and DBHead."""
    rules = _conv("neck.smooth_convs.{}.conv", "params/neck/smooth_convs_{}/conv")
    for branch in ("binarize", "threshold"):
        s, t = f"bbox_head.{branch}", f"params/bbox_head/{branch}"
        rules += [*_conv(f"{s}.0", f"{t}_0"), *batch_norm(f"{s}.1", f"{t}_1"), *_deconv(f"{s}.3", f"{t}_3")]
        rules += [*batch_norm(f"{s}.4", f"{t}_4"), *_deconv(f"{s}.6", f"{t}_6")]
    return rules


def _pan() -> list[KeyRule]:
    """FPEM_FFM and PANHead."""
    s, t = "neck.reduce_conv_c{}", "params/neck/reduce_conv_c{}"
    rules = [*_conv(f"{s}.0", f"{t}_0"), *batch_norm(f"{s}.1", f"{t}_1")]
    for way in ("up_add{}", "down_add{}"):
        s, t = f"neck.fpems.{{}}.{way}", f"params/neck/fpems_{{}}/{way}"
        rules += _conv(f"{s}.depthwise_conv", f"{t}/depthwise_conv")
        rules += _conv(f"{s}.pointwise_conv", f"{t}/pointwise_conv")
        rules += batch_norm(f"{s}.bn", f"{t}/bn")
    return [*rules, *_conv("bbox_head.out_conv", "params/bbox_head/out_conv")]


def _fce() -> list[KeyRule]:
    """mmdetection's FPN and FCEHead."""
    return [
        *_conv("neck.fpn_convs.{}.conv", "params/neck/fpn_convs_{}/conv"),
        *_conv("bbox_head.out_conv_cls", "params/bbox_head/out_conv_cls"),
        *_conv("bbox_head.out_conv_reg", "params/bbox_head/out_conv_reg"),
    ]


def table() -> list[KeyRule]:
    """All of them. No two families have a key in common that means different things."""
    return [
        *(copy(name, f"params/{name}") for name in ("contexts", "gamma", "vis_gamma", "logit_scale")),
        *(copy(name, f"params/{name}") for name in ("meta_query", "pix_w")),
        *resnet("backbone.", "params/backbone/"),
        *text("text_encoder.", "params/text_encoder/"),
        *_prompt_generator(),
        *_context_decoder("context_decoder"),
        *_context_decoder("visual_prompt_generator"),
        *_conv("neck.lateral_convs.{}.conv", "params/neck/lateral_convs_{}/conv"),
        *_db(),
        *_pan(),
        *_fce(),
    ]
