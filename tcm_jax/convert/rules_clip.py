"""The rules for CLIP's towers: PyTorch keys on the left, leaves of the Flax models on the right."""

from tcm_jax.convert.engine import (
    KeyRule,
    attention,
    batch_norm,
    convolution,
    copy,
    dense,
    head_bias,
    linear,
    merge_heads,
    norm,
    split_heads,
)


def _tower(source: str, target: str) -> list[KeyRule]:
    """The blocks of one transformer."""
    s, t = f"{source}resblocks.{{}}", f"{target}resblocks_{{}}"
    return [
        *attention(f"{s}.attn", f"{t}/attn"),
        *norm(f"{s}.ln_1", f"{t}/ln_1"),
        *norm(f"{s}.ln_2", f"{t}/ln_2"),
        *dense(f"{s}.mlp.c_fc", f"{t}/c_fc"),
        *dense(f"{s}.mlp.c_proj", f"{t}/c_proj"),
    ]


def text(source: str, target: str) -> list[KeyRule]:
    """The text tower, between the prefixes `source` and `target`."""
    return [
        copy(f"{source}positional_embedding", f"{target}positional_embedding"),
        copy(f"{source}text_projection", f"{target}text_projection"),
        copy(f"{source}token_embedding.weight", f"{target}token_embedding/embedding"),
        *norm(f"{source}ln_final", f"{target}ln_final"),
        *_tower(f"{source}transformer.", f"{target}transformer/"),
    ]


def vit(s: str, t: str) -> list[KeyRule]:
    """The image tower of patches, between the prefixes `s` and `t`."""
    return [
        copy(f"{s}class_embedding", f"{t}class_embedding"),
        copy(f"{s}positional_embedding", f"{t}positional_embedding"),
        copy(f"{s}proj", f"{t}proj"),
        convolution(f"{s}conv1.weight", f"{t}conv1/kernel"),
        *norm(f"{s}ln_pre", f"{t}ln_pre"),
        *norm(f"{s}ln_post", f"{t}ln_post"),
        *_tower(f"{s}transformer.", f"{t}transformer/"),
    ]


def resnet(s: str, t: str) -> list[KeyRule]:
    """The ModifiedResNet, between the prefixes `s` and `t`."""
    rules = [
        convolution(f"{s}conv{{}}.weight", f"{t}conv{{}}/kernel"),
        *batch_norm(f"{s}bn{{}}", f"{t}bn{{}}"),
    ]
    block, leaf = f"{s}layer{{}}.{{}}", f"{t}layer{{}}_{{}}"
    rules += [
        convolution(f"{block}.conv{{}}.weight", f"{leaf}/conv{{}}/kernel"),
        *batch_norm(f"{block}.bn{{}}", f"{leaf}/bn{{}}"),
    ]
    rules += [convolution(f"{block}.downsample.0.weight", f"{leaf}/downsample_0/kernel")]
    rules += batch_norm(f"{block}.downsample.1", f"{leaf}/downsample_1")
    pool, to = f"{s}attnpool", f"{t}attnpool"
    rules.append(copy(f"{pool}.positional_embedding", f"{to}/positional_embedding"))
    for name in ("q_proj", "k_proj", "v_proj"):
        rules += [
            split_heads(f"{pool}.{name}.weight", f"{to}/{name}/kernel"),
            head_bias(f"{pool}.{name}.bias", f"{to}/{name}/bias"),
        ]
    return [
        *rules,
        merge_heads(f"{pool}.c_proj.weight", f"{to}/c_proj/kernel"),
        copy(f"{pool}.c_proj.bias", f"{to}/c_proj/bias"),
    ]


def _huggingface_tower(source: str, target: str) -> list[KeyRule]:
    """One tower of `transformers.CLIPModel`, which keeps query, key and value apart."""
    s, t = f"{source}.encoder.layers.{{}}", f"{target}transformer/resblocks_{{}}"
    rules = []
    for name in ("query", "key", "value"):
        projection, leaf = f"{s}.self_attn.{name[0]}_proj", f"{t}/attn/{name}"
        rules += [
            split_heads(f"{projection}.weight", f"{leaf}/kernel"),
            head_bias(f"{projection}.bias", f"{leaf}/bias"),
        ]
    return [
        *rules,
        merge_heads(f"{s}.self_attn.out_proj.weight", f"{t}/attn/out/kernel"),
        copy(f"{s}.self_attn.out_proj.bias", f"{t}/attn/out/bias"),
        *norm(f"{s}.layer_norm1", f"{t}/ln_1"),
        *norm(f"{s}.layer_norm2", f"{t}/ln_2"),
        *dense(f"{s}.mlp.fc1", f"{t}/c_fc"),
        *dense(f"{s}.mlp.fc2", f"{t}/c_proj"),
    ]


def huggingface() -> list[KeyRule]:
    """The whole of `transformers.CLIPModel`."""
    vision, text = "vision_model.embeddings", "text_model.embeddings"
    return [
        linear("text_projection.weight", "params/text_projection"),
        linear("visual_projection.weight", "params/visual/proj"),
        copy(f"{text}.token_embedding.weight", "params/token_embedding/embedding"),
        copy(f"{text}.position_embedding.weight", "params/positional_embedding"),
        *norm("text_model.final_layer_norm", "params/ln_final"),
        copy(f"{vision}.class_embedding", "params/visual/class_embedding"),
        convolution(f"{vision}.patch_embedding.weight", "params/visual/conv1/kernel"),
        copy(f"{vision}.position_embedding.weight", "params/visual/positional_embedding"),
        *norm("vision_model.pre_layrnorm", "params/visual/ln_pre"),  # spelt so in transformers
        *norm("vision_model.post_layernorm", "params/visual/ln_post"),
        *_huggingface_tower("text_model", "params/"),
        *_huggingface_tower("vision_model", "params/visual/"),
    ]
