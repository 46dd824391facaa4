"""Recognising and converting the fixtures' state dicts and the key lists of the full-size models."""

import dataclasses
from pathlib import Path

import numpy as np
import pytest

from tcm_jax import pretrained
from tcm_jax.convert import conversion
from tcm_jax.convert.architecture import identify
from tcm_jax.convert.checkpoints import Checkpoint
from tcm_jax.convert.clip_sizes import ConversionOptions
from tcm_jax.convert.engine import ConversionError
from tcm_jax.models.clip4str import CLIP4STRConfig
from tcm_jax.pretrained import Pretrained
from tests.conftest import read_json
from tests.golden_models import clip4str_config, clip_config, golden_state


def checkpoint(state, hyper_parameters=None, container="torch", dtypes=None) -> Checkpoint:
    dtypes = dtypes or {key: x.dtype.name for key, x in state.items()}
    return Checkpoint((Path("weights.pt"),), container, state, dtypes, hyper_parameters or {})


def fixtures(golden: Path) -> list[Path]:
    """Folders with weights of their own."""
    folders = {p.parent for p in golden.rglob("config.json")}
    return sorted(f for f in folders if (f / "manifest.json").is_file() and "clip" in read_json(f / "config.json"))


def to_pretrained(architecture) -> Pretrained:
    task = "recognition" if isinstance(architecture.config, CLIP4STRConfig) else "clip"
    variables = pretrained.unflatten(conversion.flat_variables(architecture))
    return Pretrained(task, dataclasses.asdict(architecture.config), variables, {})


@pytest.fixture
def tiny(golden) -> dict[str, np.ndarray]:
    """A CLIP4STR."""
    return golden_state(golden / "clip4str")


@pytest.fixture
def options(golden) -> ConversionOptions:
    """What a flat file of `tiny` does not state."""
    model = read_json(golden / "clip4str" / "config.json")["model"]
    return ConversionOptions(charset=model["charset_train"], fields={"decoder_heads": model["dec_num_heads"]})


@pytest.fixture
def manifests(golden) -> Path:
    """Key lists of the full-size models; other folders of fixtures may lack them."""
    folder = golden / "manifests"
    return folder if folder.is_dir() else Path(__file__).parents[1] / "golden" / "recognition" / "manifests"


def test_fixtures_are_recognised_and_come_back_unchanged(golden):
    for folder in fixtures(golden):
        config = read_json(folder / "config.json")
        state = golden_state(folder)
        if "model" in config:
            architecture = identify(checkpoint(state, config["model"]))
            assert architecture.config == clip4str_config(config, folder), folder
        else:
            expected = clip_config(config)
            architecture = identify(checkpoint(state), ConversionOptions(activation=expected.activation))
            assert architecture.config == expected, folder
        back = conversion.to_state_dict(to_pretrained(architecture))
        assert back.keys() == state.keys(), folder
        for key, tensor in state.items():
            assert (back[key].shape, back[key].dtype) == (tensor.shape, tensor.dtype), key
            if not key.endswith("num_batches_tracked"):
                np.testing.assert_array_equal(back[key], tensor, key)


def test_prefixes_and_integer_entries_do_not_matter(tiny, options):
    plain = identify(checkpoint(tiny), options)
    wrapped = identify(checkpoint({f"module.model.{k}": x for k, x in tiny.items()}), options)
    assert wrapped.config == plain.config
    assert wrapped.tensors.keys() == tiny.keys()
    clip = {k.removeprefix("clip_model."): x for k, x in tiny.items() if k.startswith("clip_model.")}
    clip |= {"input_resolution": np.int64(32), "context_length": np.int64(77), "vocab_size": np.int64(49408)}
    architecture = identify(checkpoint(clip))
    assert architecture.origin == "OpenAI CLIP"
    assert architecture.config == plain.config.clip
    conversion.flat_variables(architecture)
    with pytest.raises(ConversionError, match=r"with 'module.' and without"):
        identify(checkpoint({"module.token_embedding.weight": np.zeros((1, 1)), "token_embedding.weight": np.zeros(1)}))


def full_size(manifests: Path) -> dict[str, dict]:
    files = manifests.glob("*.json")
    return {p.stem: read_json(p) for p in sorted(files) if p.stem.startswith(("openai", "open_clip", "clip4str"))}


def shapes_only(manifest: dict) -> Checkpoint:
    """Arrays without memory: one zero, seen with every shape."""
    state = {
        key: np.broadcast_to(np.float32(0) if dtype.startswith("float") else np.zeros((), dtype), shape)
        for key, shape, dtype in manifest["tensors"]
    }
    container = "torchscript" if manifest["kind"] == "openai" else "torch"
    dtypes = {key: dtype for key, _, dtype in manifest["tensors"]}
    return checkpoint(state, container=container, dtypes=dtypes)


def test_full_size_models_convert_with_nothing_unused_and_nothing_missing(manifests):
    summary = {row["name"]: row for row in read_json(manifests / "summary.json")}
    for name, manifest in full_size(manifests).items():
        architecture = identify(shapes_only(manifest))
        variables = pretrained.unflatten(conversion.flat_variables(architecture))
        count = pretrained.count_parameters(variables)
        assert count == manifest["num_parameters"], name
        published = summary[manifest["name"]].get("printed_in_scripts")  # "158 M", "1.0 B"
        if published:
            value, unit = published["total"].split()
            assert f"{count / {'M': 1e6, 'B': 1e9}[unit]:.3f}".startswith(value), name
        config, heads = architecture.config, manifest["heads"]
        clip = config.clip if isinstance(config, CLIP4STRConfig) else config
        side, width = heads["image_resolution"], heads["vision_width"]
        assert (clip.image_size, clip.vision_width) == ((side, side), width), name
        assert clip.vision_heads == heads.get("vision_heads", heads.get("attnpool_heads")), name
        assert (clip.text_heads, clip.text_width) == (heads["text_heads"], heads["text_width"]), name
        assert clip.activation == ("gelu" if heads.get("activation") == "gelu_exact" else "quick_gelu"), name
        if isinstance(config, CLIP4STRConfig):
            assert config == CLIP4STRConfig(clip=clip, decoder_heads=heads["decoder_heads"]), name


def test_hyper_parameters_of_released_models(manifests):
    models = full_size(manifests)
    for stem, name in (("vl4str", "B16"), ("vl4str-large", "L14"), ("vl4str-huge", "H14")):
        hyper_parameters = read_json(manifests / f"hparams_{stem}.json")
        plain = shapes_only(models[f"clip4str_{name}"])
        architecture = identify(dataclasses.replace(plain, hyper_parameters=hyper_parameters))
        assert architecture.config == identify(plain).config
        assert any("clip_pretrained" in note for note in architecture.notes)


def test_what_contradicts_the_tensors_is_refused(tiny, options):
    key = "visual_decoder.text_embed.embedding.weight"
    rows, width = tiny[key].shape
    patch = tiny["clip_model.visual.conv1.weight"].shape[2]
    bad = [
        ({"charset": "abc"}, {}, f"'abc' is not {rows - 3} different characters"),
        ({"image_size": (patch, patch)}, {}, "don't give the .* patches of visual.positional_embedding"),
        ({"image_size": (-patch, -patch)}, {}, "don't give the .* patches"),
        (
            {"fields": {"decoder_heads": width + 1}},
            {},
            f"decoder width {width} can't be split over {width + 1} heads",
        ),
        ({"fields": {"decoder_head": 4}}, {}, "did you mean 'decoder_heads'"),
        ({"fields": {"decoder_heads": "four"}}, {}, "decoder_heads is 'four'; expected a int"),
        ({}, {"refine_iters": 2.5}, "hyper-parameter refine_iters is 2.5; expected a int"),
        ({}, {"img_size": "224"}, "img_size is '224', expected"),
    ]
    for changes, hyper_parameters, message in bad:
        with pytest.raises(ConversionError, match=message):
            identify(checkpoint(tiny, hyper_parameters), dataclasses.replace(options, **changes))
    with pytest.raises(ConversionError, match="reads 36 characters; say which with --charset"):
        identify(checkpoint(tiny | {key: np.zeros((39, width))}), dataclasses.replace(options, charset=None))
    with pytest.raises(ConversionError, match=r"no clip_model.ln_final.weight"):
        identify(checkpoint({k: x for k, x in tiny.items() if "ln_final" not in k}), options)
    with pytest.raises(ConversionError, match=r"no CLIP4STR and no detector of TCM: it has bert.weight"):
        identify(checkpoint({"bert.weight": np.zeros(1)}))


def test_options_of_inference_are_no_part_of_the_configuration(tiny, options):
    plain = identify(checkpoint(tiny), options)
    fields = {**options.fields, "vocabulary_weight": 8, "both_branches": True}  # named as in older models
    architecture = identify(checkpoint(tiny), dataclasses.replace(options, fields=fields))
    assert (architecture.config, plain.inference) == (plain.config, {})
    assert architecture.inference == {"dictionary_prior": 8, "branches": "both"}


def test_missing_and_foreign_keys_are_listed(tiny, options):
    del tiny["cross_decoder.head.bias"]
    architecture = identify(checkpoint(tiny | {"cross_decoder.adapter.weight": np.zeros((2, 2))}), options)
    with pytest.raises(ConversionError) as error:
        conversion.flat_variables(architecture)
    assert "no rule uses cross_decoder.adapter.weight (2, 2)" in str(error.value)
    assert "nothing fills params/cross_decoder/head/bias" in str(error.value)


def test_wide_images_and_other_charsets(tiny):
    """The fixture's square of patches read as one row; fewer characters shrink embeddings and classifiers."""
    charset = "abc"
    patch = tiny["clip_model.visual.conv1.weight"].shape[2]
    table = tiny["clip_model.visual.positional_embedding"]
    size = (patch, patch * (len(table) - 1))
    for branch in ("visual", "cross"):
        for key, extra in (("text_embed.embedding.weight", 3), ("head.weight", 1), ("head.bias", 1)):
            tiny[f"{branch}_decoder.{key}"] = tiny[f"{branch}_decoder.{key}"][: len(charset) + extra]
    hyper_parameters = {"img_size": list(size), "charset_train": charset, "dec_num_heads": 1}
    architecture = identify(checkpoint(tiny, hyper_parameters))
    assert (architecture.config.clip.image_size, architecture.config.charset) == (size, charset)
    conversion.flat_variables(architecture)
    options = ConversionOptions(charset, image_size=size, fields={"decoder_heads": 1})
    assert identify(checkpoint(tiny), options).config == architecture.config
    tiny["clip_model.visual.positional_embedding"] = table[:-1]
    with pytest.raises(ConversionError, match="no square grid; give the image size"):
        identify(checkpoint(tiny), ConversionOptions(charset, fields={"decoder_heads": 1}))


def test_a_visual_branch_alone(tiny, options):
    alone = {k: x for k, x in tiny.items() if not k.startswith("cross_decoder")}
    architecture = identify(checkpoint(alone), options)
    assert not architecture.config.use_language_model
    assert conversion.to_state_dict(to_pretrained(architecture)).keys() == alone.keys()


def test_weights_and_configuration_must_agree_on_the_way_back(tiny, options):
    model = to_pretrained(identify(checkpoint(tiny), options))
    flat = pretrained.flatten(model.variables)
    del flat["params/cross_decoder/head/bias"]
    with pytest.raises(ConversionError, match="head/bias is missing, expected"):
        conversion.to_state_dict(dataclasses.replace(model, variables=pretrained.unflatten(flat)))
    with pytest.raises(ConversionError, match="task is 'spotting'"):
        conversion.to_state_dict(dataclasses.replace(model, task="spotting"))
