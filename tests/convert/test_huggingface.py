"""Files and folders of transformers' CLIPModel, made from the fixture's tensors."""

import json

import numpy as np
import pytest
import safetensors.numpy
import torch

from tcm_jax.convert import checkpoints, conversion, engine, rules
from tcm_jax.convert.architecture import identify
from tcm_jax.convert.clip_sizes import ConversionOptions
from tcm_jax.convert.engine import ConversionError
from tests.golden_models import golden_state

CONFIG = {
    "architectures": ["CLIPModel"],
    "vision_config": {"hidden_act": "gelu", "num_attention_heads": 1},
    "text_config": {"hidden_act": "gelu", "num_attention_heads": 4},
}


def huggingface(state: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    theirs = {
        "logit_scale": state["logit_scale"],
        "text_projection.weight": state["text_projection"].T,
        "visual_projection.weight": state["visual.proj"].T,
        "text_model.embeddings.position_ids": np.arange(77)[None],
        "text_model.embeddings.token_embedding.weight": state["token_embedding.weight"],
        "text_model.embeddings.position_embedding.weight": state["positional_embedding"],
        "vision_model.embeddings.class_embedding": state["visual.class_embedding"],
        "vision_model.embeddings.patch_embedding.weight": state["visual.conv1.weight"],
        "vision_model.embeddings.position_embedding.weight": state["visual.positional_embedding"],
    }
    norms = {"ln_final": "text_model.final_layer_norm"}
    norms |= {"visual.ln_pre": "vision_model.pre_layrnorm", "visual.ln_post": "vision_model.post_layernorm"}
    inside = {"attn.out_proj": "self_attn.out_proj", "ln_1": "layer_norm1", "ln_2": "layer_norm2"}
    inside |= {"mlp.c_fc": "mlp.fc1", "mlp.c_proj": "mlp.fc2"}
    for prefix, tower in (("", "text_model"), ("visual.", "vision_model")):
        i = 0
        while f"{prefix}transformer.resblocks.{i}.ln_1.weight" in state:
            block, layer = f"{prefix}transformer.resblocks.{i}", f"{tower}.encoder.layers.{i}"
            norms |= {f"{block}.{old}": f"{layer}.{new}" for old, new in inside.items()}
            for end in ("weight", "bias"):
                for name, part in zip("qkv", np.split(state[f"{block}.attn.in_proj_{end}"], 3), strict=True):
                    theirs[f"{layer}.self_attn.{name}_proj.{end}"] = part
            i += 1
    for old, new in norms.items():
        theirs |= {f"{new}.{end}": state[f"{old}.{end}"] for end in ("weight", "bias")}
    return theirs


@pytest.fixture
def state(golden) -> dict[str, np.ndarray]:
    return golden_state(golden / "clip_vit")


def save(path, tensors):
    safetensors.numpy.save_file({key: np.asarray(x, order="C") for key, x in tensors.items()}, path)


def test_both_directions(state, tmp_path):
    theirs = huggingface(state)
    save(tmp_path / "weights", theirs)  # the name says nothing
    architecture = identify(checkpoints.read(tmp_path / "weights"))
    openai = identify(
        checkpoints.Checkpoint((tmp_path / "openai",), "torchscript", state, dict.fromkeys(state, "float32"))
    )
    assert (architecture.layout, architecture.config) == ("huggingface", openai.config)
    assert architecture.notes == ("no config.json beside the weights: quick_gelu, the default of transformers",)
    ours, expected = conversion.flat_variables(architecture), conversion.flat_variables(openai)
    assert ours.keys() == expected.keys()
    for path, leaf in expected.items():
        np.testing.assert_array_equal(ours[path], leaf, path)
    back = engine.to_torch(ours, rules.table("huggingface"))
    assert back.keys() | {"text_model.embeddings.position_ids"} == theirs.keys()
    for key, tensor in back.items():
        np.testing.assert_array_equal(tensor, theirs[key], key)


def test_a_folder_with_config_json(state, tmp_path):
    save(tmp_path / "model.safetensors", huggingface(state))
    (tmp_path / "config.json").write_text(json.dumps(CONFIG))
    checkpoint = checkpoints.read(tmp_path)
    config = identify(checkpoint).config
    assert (config.activation, config.vision_heads, config.text_heads) == ("gelu", 1, 4)
    assert identify(checkpoint, ConversionOptions(activation="quick_gelu")).config.activation == "quick_gelu"
    # transformers leaves its defaults out of config.json; 8 text heads and quick_gelu are such.
    (tmp_path / "config.json").write_text(json.dumps({"vision_config": {"num_attention_heads": 1}}))
    config = identify(checkpoint).config
    assert (config.activation, config.vision_heads, config.text_heads) == ("quick_gelu", 1, 8)
    for text, message in (
        ("{", "config.json is no JSON"),
        ("[]", "config.json: it is a list, expected an object"),
        ('{"vision_config": 1}', "vision_config is a int, expected an object"),
        ('{"vision_config": {"num_attention_heads": "2"}}', "can't be split over '2' heads"),
        ('{"vision_config": {"hidden_act": "gelu"}}', "the towers differ in hidden_act"),
    ):
        (tmp_path / "config.json").write_text(text)
        with pytest.raises(ConversionError, match=message):
            identify(checkpoint)


def test_a_split_checkpoint(state, tmp_path):
    theirs = list(huggingface(state).items())
    half = len(theirs) // 2
    parts = {"a.safetensors": dict(theirs[:half]), "b.bin": dict(theirs[half:])}
    save(tmp_path / "a.safetensors", parts["a.safetensors"])
    torch.save({k: torch.tensor(x) for k, x in parts["b.bin"].items()}, tmp_path / "b.bin")
    weight_map = {key: name for name, part in parts.items() for key in part}
    index = tmp_path / "model.safetensors.index.json"
    index.write_text(json.dumps({"metadata": {}, "weight_map": weight_map}))
    checkpoint = checkpoints.read(tmp_path)
    assert checkpoint.tensors.keys() == weight_map.keys()
    assert list(checkpoint.sha256()) == ["a.safetensors", "b.bin"]
    conversion.flat_variables(identify(checkpoint))

    save(tmp_path / "a.safetensors", dict(theirs))
    with pytest.raises(ConversionError, match="is in another file"):
        checkpoints.read(tmp_path)
    (tmp_path / "b.bin").unlink()
    with pytest.raises(ConversionError, match=r"b.bin is no file"):
        checkpoints.read(tmp_path)
    index.write_text(json.dumps({"weight_map": {"x": "../secret.bin"}}))
    with pytest.raises(ConversionError, match=r"secret.bin'.; expected files beside the index"):
        checkpoints.read(tmp_path)
    for weight_map in ({}, {"x": ".."}, {"x": 1}, [1], None):
        index.write_text(json.dumps({"weight_map": weight_map}))
        with pytest.raises(ConversionError, match=r"expected files beside the index|is no index"):
            checkpoints.read(tmp_path)


def test_openclip_folder(state, tmp_path):
    """open_clip_config.json states what the tensors don't show: QuickGELU and the width of heads."""
    save(tmp_path / "open_clip_model.safetensors", state)
    model = {"embed_dim": 64, "quick_gelu": True, "vision_cfg": {"head_width": 32}, "text_cfg": {"heads": 1}}
    (tmp_path / "open_clip_config.json").write_text(json.dumps({"model_cfg": model}))
    architecture = identify(checkpoints.read(tmp_path))
    config = architecture.config
    assert architecture.origin == "OpenCLIP"
    assert not architecture.notes
    assert (config.activation, config.text_heads) == ("quick_gelu", 1)
    assert config.vision_heads == config.vision_width // 32
    model["vision_cfg"]["head_width"] = -1
    (tmp_path / "open_clip_config.json").write_text(json.dumps({"model_cfg": model}))
    with pytest.raises(ConversionError, match="head_width is -1"):
        identify(checkpoints.read(tmp_path))
