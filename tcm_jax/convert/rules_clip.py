"""The rules for CLIP's towers."""

from tcm_jax.convert.engine import KeyRule, module, modules, parameter


def text(prefix: str) -> list[KeyRule]:
    """The text tower, whose keys begin with `prefix`."""
    return [
        parameter(f"{prefix}positional_embedding"),
        parameter(f"{prefix}text_projection"),
        *modules("embedding", f"{prefix}token_embedding"),
        *modules("layer_norm", f"{prefix}ln_final"),
        *_blocks(f"{prefix}transformer.resblocks.{{}}"),
    ]


def vit(prefix: str) -> list[KeyRule]:
    """The image tower of a Vision Transformer, whose keys begin with `prefix`."""
    return [
        *(parameter(f"{prefix}{name}") for name in ("class_embedding", "positional_embedding", "proj")),
        *modules("conv", f"{prefix}conv1"),
        *modules("layer_norm", f"{prefix}ln_pre", f"{prefix}ln_post"),
        *_blocks(f"{prefix}transformer.resblocks.{{}}"),
    ]


def _blocks(block: str) -> list[KeyRule]:
    """The blocks of a transformer."""
    return [
        *modules("attention", f"{block}.attn"),
        *modules("layer_norm", f"{block}.ln_1", f"{block}.ln_2"),
        *module("linear", f"{block}.mlp.c_fc", f"{block}.c_fc"),
        *module("linear", f"{block}.mlp.c_proj", f"{block}.c_proj"),
    ]


def resnet(prefix: str) -> list[KeyRule]:
    """The ModifiedResNet, whose keys begin with `prefix`."""
    block, pool = f"{prefix}layer{{}}.{{}}", f"{prefix}attnpool"
    return [
        *modules("conv", f"{prefix}conv{{}}", f"{block}.conv{{}}", f"{block}.downsample.0"),
        *modules("batch_norm", f"{prefix}bn{{}}", f"{block}.bn{{}}", f"{block}.downsample.1"),
        parameter(f"{pool}.positional_embedding"),
        *modules("projection", *(f"{pool}.{name}_proj" for name in "qkv")),
        *modules("output_projection", f"{pool}.c_proj"),
    ]


def huggingface() -> list[KeyRule]:
    """All of `transformers.CLIPModel`, which keeps query, key and value apart."""
    rules = [
        parameter("logit_scale"),
        KeyRule("text_projection.weight", ("params/text_projection",), axes=(1, 0)),
        KeyRule("visual_projection.weight", ("params/visual/proj",), axes=(1, 0)),
        *module("embedding", "text_model.embeddings.token_embedding", "token_embedding"),
        *module("layer_norm", "text_model.final_layer_norm", "ln_final"),
        parameter("vision_model.embeddings.class_embedding", "visual.class_embedding"),
        *module("conv", "vision_model.embeddings.patch_embedding", "visual.conv1"),
        *module("layer_norm", "vision_model.pre_layrnorm", "visual.ln_pre"),  # spelt so in transformers
        *module("layer_norm", "vision_model.post_layernorm", "visual.ln_post"),
    ]
    for tower, ours in (("text_model", ""), ("vision_model", "visual.")):
        layer, block = f"{tower}.encoder.layers.{{}}", f"{ours}transformer.resblocks.{{}}"
        rules.append(parameter(f"{tower}.embeddings.position_embedding.weight", f"{ours}positional_embedding"))
        for name in ("query", "key", "value"):
            rules += module("projection", f"{layer}.self_attn.{name[0]}_proj", f"{block}.attn.{name}")
        rules += module("output_projection", f"{layer}.self_attn.out_proj", f"{block}.attn.out")
        for theirs, name in (("layer_norm1", "ln_1"), ("layer_norm2", "ln_2")):
            rules += module("layer_norm", f"{layer}.{theirs}", f"{block}.{name}")
        for theirs, name in (("mlp.fc1", "c_fc"), ("mlp.fc2", "c_proj")):
            rules += module("linear", f"{layer}.{theirs}", f"{block}.{name}")
    return rules
