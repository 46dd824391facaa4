"""State dicts of text detectors: recognised, converted and written back."""

import dataclasses
from pathlib import Path

import numpy as np
import pytest

from tcm_jax import pretrained
from tcm_jax.convert import conversion
from tcm_jax.convert.architecture import identify
from tcm_jax.convert.clip_sizes import ConversionOptions
from tcm_jax.convert.engine import ConversionError
from tcm_jax.pretrained import Pretrained
from tests.conftest import detection_weights, read_json
from tests.convert.conftest import OWN
from tests.convert.test_conversion import checkpoint
from tests.golden_detectors import golden_config

FAMILIES = ("db", "pan", "fce")
ORIGINS = {"db": "TCM-DB", "pan": "TCM-PAN", "fce": "TCM-FCE"}


def fixtures(golden: Path) -> list[tuple[Path, str]]:
    """Folders and variants of small detectors."""
    folders = [golden / f"tcm_{family}" for family in FAMILIES]
    return [(f, v) for f in folders for v in ("", *read_json(f / "config.json").get("variants", {}))]


def options(folder: Path, variant: str = "") -> ConversionOptions:
    """What the tensors of a fixture don't show."""
    tcm = golden_config(folder, variant).tcm
    names = ("prompt", "decoder_heads", "dropout", "tau", "context_decoder")
    fields = {name: getattr(tcm, name) for name in names} | {"clip": {"text_heads": tcm.clip.text_heads}}
    return ConversionOptions(fields={"tcm": fields} if tcm.text_matching else {})


def to_pretrained(architecture) -> Pretrained:
    variables = pretrained.unflatten(conversion.flat_variables(architecture))
    return Pretrained(
        "detection",
        dataclasses.asdict(architecture.config),
        variables,
        architecture.preprocessing,
        architecture.inference,
    )


def changed(model: Pretrained, **tcm) -> Pretrained:
    return dataclasses.replace(model, model={**model.model, "tcm": {**model.model["tcm"], **tcm}})


def test_fixtures_are_recognised_and_come_back(detection_golden):
    for folder, variant in fixtures(detection_golden):
        state = detection_weights(folder / "manifest.json", variant)
        expected = golden_config(folder, variant)
        architecture = identify(checkpoint(state), options(folder, variant))
        config, tcm = architecture.config, expected.tcm
        assert config.family == expected.family
        if tcm.text_matching:
            assert config.tcm == tcm, (folder, variant)
            assert architecture.origin == ORIGINS[config.family]
        else:
            assert not config.tcm.text_matching
            assert config.tcm.clip.vision_layers == tcm.clip.vision_layers
        for name in ("lateral_channels", "out_channels", "channels", "repeats", "fourier_degree"):
            assert getattr(config.detector, name, None) == getattr(expected.detector, name, None)
        back = conversion.to_state_dict(to_pretrained(architecture))
        assert back.keys() == state.keys(), (folder, variant)
        for key, tensor in state.items():
            assert (back[key].shape, back[key].dtype) == (tensor.shape, tensor.dtype), key
            if key not in architecture.unused and not key.endswith("num_batches_tracked"):
                np.testing.assert_array_equal(back[key], tensor, key)


def test_parameters_without_a_use_are_named_and_come_back_without_effect(db):
    architecture = identify(
        checkpoint(db), ConversionOptions(fields={"tcm": {"context_decoder": False, "visual_prompt": False}})
    )
    count = sum(key.startswith("context_decoder.") for key in db)
    notes = " ".join(architecture.notes)
    for name in ("gamma", "vis_gamma", f"context_decoder.* ({count})", f"visual_prompt_generator.* ({count})"):
        assert name in notes.partition("left out: ")[2]
    leaves = conversion.flat_variables(architecture)
    assert not [path for path in leaves if "gamma" in path or "context_decoder" in path or "visual_prompt" in path]
    back = conversion.to_state_dict(to_pretrained(architecture))
    # The original's class has all of them but the visual prompt generator; its factors start with 0.001.
    assert back.keys() == {key for key in db if not key.startswith("visual_prompt_generator.")}
    assert back["vis_gamma"].tolist() == pytest.approx(1e-3)
    assert np.unique(back["gamma"]).tolist() == pytest.approx([1e-3])
    assert not any(back[key].any() for key in back if key.startswith("context_decoder."))
    # Once more, the other way: the note comes again, this time for a factor that was never trained.
    again = identify(checkpoint(back))
    assert any("--set tcm.context_decoder=false" in note for note in again.notes)


def test_prompts_are_told_by_the_number_of_vectors_and_positions(db):
    positions, width = db["text_encoder.positional_embedding"].shape

    def tcm(count, **fields):
        state = db | {"contexts": np.zeros((1, count, width), np.float32)}
        return identify(checkpoint(state), ConversionOptions(fields={"tcm": fields})).config.tcm

    released = "the pixels of many arbitrary-shape text instances."  # 14 tokens with SOT and EOT
    assert (tcm(0).prompt, tcm(0).learnable_prompt, tcm(0).prompt_tokens) == (released, 0, 14)
    assert (tcm(positions).prompt, tcm(positions).prompt_tokens) == ("", positions)
    assert tcm(positions - 14).prompt == released
    with pytest.raises(ConversionError, match=r"weights.pt has room for a prompt of 3 tokens; say which words"):
        tcm(positions - 3)
    assert tcm(positions - 3, prompt="Text").prompt_tokens == positions
    with pytest.raises(ConversionError, match=f"the prompt has {positions + 1} tokens"):
        tcm(positions - 2, prompt="Text")
    with pytest.raises(ConversionError, match=r"contexts has shape \(1, 99, \d+\); expected \(1, n, width\)"):
        tcm(99)


@pytest.fixture
def manifests(detection_golden) -> Path:
    """Key lists of the full-size models; other folders of fixtures may lack them."""
    folder = detection_golden / "manifests"
    return folder if folder.is_dir() else OWN / "manifests"


def test_full_size_models_convert_with_nothing_unused_and_nothing_missing(manifests):
    counts = read_json(manifests / "counts.json")
    for name, count in counts.items():
        manifest = read_json(manifests / f"{name}.json")
        # Arrays without memory: one zero, seen with every shape.
        state = {e["key"]: np.broadcast_to(np.zeros((), e["dtype"]), e["shape"]) for e in manifest["entries"]}
        assert len(state) == count["keys"]
        architecture = identify(checkpoint(state))
        model, config = to_pretrained(architecture), architecture.config
        assert pretrained.count_parameters(model.variables) == count["total"], name
        assert architecture.unused == ()
        side = manifest["input_resolution"]
        assert (config.tcm.clip.image_size, config.tcm.clip.vision_heads) == ((side, side), 32)
        assert (config.tcm.prompt, config.tcm.prompt_tokens) == (
            manifest["class_names"][0],
            manifest["text_context_length"],
        )
        assert name.startswith(f"tcm_{config.family}")
        back = conversion.to_state_dict(model)
        assert {k: (x.shape, x.dtype) for k, x in back.items()} == {k: (x.shape, x.dtype) for k, x in state.items()}


def test_preprocessing_is_that_of_the_family():
    expected = {"db": (122.67891434, [4068, 1024]), "pan": (123.675, [1333, 736]), "fce": (123.675, [2260, 2260])}
    for family, (red, scale) in expected.items():
        state = detection_weights(OWN / f"tcm_{family}" / "manifest.json")
        found = identify(checkpoint(state))
        preprocessing = found.preprocessing
        assert (preprocessing["mean"][0], found.inference["scale"], preprocessing["multiple"]) == (red, scale, 32)
        given = identify(checkpoint(state), ConversionOptions(scale=(1280, 640)))
        assert given.inference["scale"] == [1280, 640]


def test_the_files_configuration_tells_what_the_tensors_do_not_show(db):
    text = """
model = dict(
    class_names=['Text'],
    context_decoder=dict(transformer_heads=2),
    bbox_head=dict(postprocessor=dict(type='DBVisPostprocessor', text_repr_type='poly', mask_thr=0.08)))
data = dict(test=dict(pipeline=[dict(type='MultiScaleFlipAug', img_scale=(2944, 800))]))
"""
    file = dataclasses.replace(checkpoint(db), config=text)
    architecture = identify(file)
    config = architecture.config
    assert (config.tcm.prompt, config.tcm.decoder_heads, config.detector.decoding.mask_threshold) == ("Text", 2, 0.08)
    assert (config.detector.decoding.text_representation, config.detector.decoding.unclip_ratio) == ("poly", 1.5)
    assert architecture.inference["scale"] == [2944, 800]
    assert architecture.notes == ("as in the released models: the attention pooling's 32 heads",)
    overruled = ConversionOptions(scale=(640, 640), fields={"tcm": {"prompt": ""}, "detector": {"mask_threshold": 0.3}})
    architecture = identify(file, overruled)
    assert (architecture.config.tcm.prompt, architecture.config.detector.decoding.mask_threshold) == ("", 0.3)
    assert architecture.inference["scale"] == [640, 640]
    assert "scale" not in architecture.preprocessing
    nested = ConversionOptions(fields={"detector": {"decoding": {"mask_threshold": 0.4}}})
    assert identify(file, nested).config.detector.decoding.mask_threshold == 0.4
    for broken, reason in (("model = dict(", "line 1 is no Python"), ("model = dict(tau='x')", "tcm.tau is 'x'")):
        architecture = identify(dataclasses.replace(file, config=broken))
        assert architecture.config == identify(checkpoint(db)).config
        assert f"the configuration in the file is not used: {reason}" in architecture.notes[0].replace("field ", "")


def test_other_detectors_are_refused(db):
    pan = detection_weights(OWN / "tcm_pan" / "manifest.json")
    head = {key: x for key, x in pan.items() if key.startswith("bbox_head.")}
    swapped = {key: x for key, x in db.items() if not key.startswith("bbox_head.")} | head
    with pytest.raises(ConversionError, match=r"weights.pt has no neck.reduce_conv_c2.0.weight"):
        identify(checkpoint(swapped))
    with pytest.raises(ConversionError, match=r"weights.pt is a db detector, not 'pan'"):
        identify(checkpoint(db), ConversionOptions(fields={"family": "pan"}))
    with pytest.raises(ConversionError, match=r"weights.pt: model.detector has no field 'min_area'"):
        identify(checkpoint(db), ConversionOptions(fields={"detector": {"min_area": 3}}))
    other = {f"bbox_head.{name}.weight": np.zeros((1, 1)) for name in ("mask", "link")}
    with pytest.raises(ConversionError, match=r"no detector of TCM: it has bbox_head.mask.weight"):
        identify(checkpoint(other))
    resnet = {key: x for key, x in db.items() if not key.startswith("backbone.layer")}
    with pytest.raises(ConversionError, match=r"no backbone.layer1.0.conv1.weight"):
        identify(checkpoint(resnet | {"backbone.stem.0.weight": np.zeros(1)}))
    with pytest.raises(ConversionError, match="decoder width 64 can't be split over 7 heads"):
        identify(checkpoint(db | {}), ConversionOptions(fields={"tcm": {"decoder_heads": 7, "decoder_width": 64}}))
    with pytest.raises(ConversionError, match=r"a scale was given, but weights.pt is no text detector"):
        identify(checkpoint({"token_embedding.weight": np.zeros((1, 1))}), ConversionOptions(scale=(1, 1)))


def test_every_missing_foreign_or_misshapen_key_is_listed(db):
    del db["prompt_generator.prompt_proj.4.bias"]
    db["bbox_head.adapter.weight"] = np.zeros((2, 2))
    db["neck.lateral_convs.3.conv.weight"] = db["neck.lateral_convs.3.conv.weight"][:, :-1]  # as without a score map
    with pytest.raises(ConversionError) as error:
        conversion.flat_variables(identify(checkpoint(db)))
    message = str(error.value)
    assert message.startswith("4 mismatches")  # a misshapen tensor leaves its leaf unfilled as well
    assert "no rule uses bbox_head.adapter.weight (2, 2)" in message
    assert "nothing fills params/prompt_generator/prompt_proj_4/bias" in message
    assert "neck.lateral_convs.3.conv.weight" in message
    assert "does not fit params/neck/lateral_convs_3" in message


def test_prefixes_do_not_matter(db):
    wrapped = identify(checkpoint({f"module.{key}": x for key, x in db.items()}))
    assert wrapped.config == identify(checkpoint(db)).config
    assert wrapped.tensors.keys() == db.keys()


def test_weights_and_configuration_must_agree_on_the_way_back(db):
    model = to_pretrained(identify(checkpoint(db)))
    with pytest.raises(ConversionError, match=r"params/contexts is \(1, 4, \d+\), expected nothing"):
        conversion.to_state_dict(changed(model, learnable_prompt=0))
    with pytest.raises(ConversionError, match="params/logit_scale is missing"):
        conversion.to_state_dict(changed(model, scale_score_map=True))
    with pytest.raises(ConversionError, match=r"model.family is 'east'; expected one of db"):
        conversion.to_state_dict(dataclasses.replace(model, model={**model.model, "family": "east"}))
