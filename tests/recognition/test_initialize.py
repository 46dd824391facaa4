"""Starting from a model directory: what is loaded, resized, left random, refused."""

import dataclasses

import jax
import numpy as np
import pytest

from tcm_jax.models.clip import CLIP, VisionTransformer, resize_positional_embedding
from tcm_jax.pretrained import Pretrained, flatten
from tcm_jax.recognition.initialize import initialize
from tcm_jax.recognition.model import RecognitionModel
from tcm_jax.tasks import parse
from tcm_jax.training.transfer import LoadReport
from tests.conftest import apply, init
from tests.training.conftest import CONFIG


@pytest.fixture
def model():
    return parse(CONFIG).config.model


def template(model) -> dict:
    task = RecognitionModel(model, (0.5,) * 3, (0.5,) * 3)
    return jax.eval_shape(task.init, jax.random.key(0))["params"]


def fill(shapes, value: float):
    """A tree whose leaves are all `value`, and on the device as a state's are."""
    return jax.tree.map(lambda x: jax.device_put(np.full(x.shape, value, np.float32)), shapes)


def stored(model, value: float = 1.0) -> Pretrained:
    """A recognizer with all parameters `value`."""
    params = jax.tree.map(np.asarray, fill(template(model), value))
    return Pretrained("recognition", dataclasses.asdict(model), {"params": params}, {})


def stored_clip(clip, value: float = 1.0) -> Pretrained:
    images, ids = np.zeros((1, *clip.image_size, 3), np.float32), np.zeros((1, 2), np.int32)
    shapes = jax.eval_shape(CLIP(clip).init, jax.random.key(0), images, ids)["params"]
    return Pretrained("clip", dataclasses.asdict(clip), {"params": jax.tree.map(np.asarray, fill(shapes, value))}, {})


def changed(model, **clip):
    return dataclasses.replace(model, clip=dataclasses.replace(model.clip, **clip))


def test_clip_fills_the_towers(model):
    params, report = initialize(fill(template(model), 0.0), model, stored_clip(model.clip))
    for path, leaf in flatten(params).items():
        assert (np.asarray(leaf) == path.startswith("clip_model/")).all(), path
    assert not report.resized and not report.unused and not report.notes
    text = str(report)
    assert f"loaded {len(report.loaded)} tensors" in text
    assert "newly initialized" in text and "of visual_decoder" in text and "of cross_decoder" in text


def test_a_recognizer_fills_everything(model):
    params, report = initialize(fill(template(model), 0.0), model, stored(model))
    assert all((np.asarray(leaf) == 1).all() for leaf in flatten(params).values())
    assert str(report) == f"loaded {len(flatten(params))} tensors"


OF_CHARSET = {
    f"{branch}_decoder/{name}"
    for branch in ("visual", "cross")
    for name in ("head/bias", "head/kernel", "text_embed/embedding")
}


def test_another_charset_keeps_the_characters_of_both(model):
    old, new = (dataclasses.replace(model, charset=charset) for charset in ("abc", "cÄBä"))
    directory = stored(old)
    numbers = {"head/bias": np.arange(4), "head/kernel": np.arange(4), "text_embed/embedding": np.arange(6)[:, None]}
    for path in OF_CHARSET:
        decoder, layer, name = path.split("/")
        parameters = directory.variables["params"][decoder][layer]
        parameters[name] = parameters[name] * numbers[f"{layer}/{name}"]
    params, report = initialize(fill(template(new), 9.0), new, directory)
    params = flatten(params)
    # The end, c, Ä (neither it nor ä is known), B as the known b, ä; then the beginning and the padding.
    expected = [0, 3, 9, 2, 9, 4, 5]
    assert set(report.resized) == OF_CHARSET
    for decoder in ("visual_decoder", "cross_decoder"):
        np.testing.assert_array_equal(params[f"{decoder}/head/bias"], expected[:5])
        np.testing.assert_array_equal(params[f"{decoder}/head/kernel"][0], expected[:5])
        np.testing.assert_array_equal(params[f"{decoder}/text_embed/embedding"][:, 0], expected)
    assert report.notes == [
        "characters that keep what the directory's model learned: c",
        "characters that the directory's model lacks: BÄä",
    ]


def test_another_charset_in_decoders_of_another_width_is_refused(model):
    directory, other = stored(model), dataclasses.replace(model, charset="xyz")
    embedding = directory.variables["params"]["cross_decoder"]["text_embed"]["embedding"]
    directory.variables["params"]["cross_decoder"]["text_embed"]["embedding"] = embedding[:, :7]
    with pytest.raises(ValueError, match=r"cross_decoder/text_embed/embedding has shape \(39, 7\); the model needs"):
        initialize(fill(template(other), 0.0), other, directory)


PATCHES = {"clip_model/visual/conv1/kernel"}


@pytest.mark.parametrize(
    ("old", "new", "resized", "added"),
    [
        ({}, {"vision_stem": (56, 56)}, PATCHES, {"stem"}),
        ({"vision_stem": (16, 16)}, {"vision_stem": (16, 16, 16), "vision_layers": 4}, set(), {"stem", "transformer"}),
    ],
    ids=["a stem over patches", "further layers"],
)
def test_a_grown_image_tower_starts_as_the_smaller_one(model, old, new, resized, added):
    patches = changed(model, image_size=(32, 64), patch_size=(32, 4))
    small, large = changed(patches, **old), changed(patches, **new)
    images = np.asarray(jax.random.normal(jax.random.key(2), (2, 32, 64, 3)))

    def image_encoder(config, params):
        variables = {"params": params["clip_model"]["visual"]}
        return apply(VisionTransformer(config.clip), variables, images)

    def random(config):
        return init(RecognitionModel(config, (0.5,) * 3, (0.5,) * 3))["params"]

    start = random(small)
    directory = Pretrained("recognition", dataclasses.asdict(small), {"params": jax.tree.map(np.asarray, start)}, {})
    params, report = initialize(random(large), large, directory)
    assert set(report.resized) == set(resized)
    assert {path.split("/")[2] for path in report.new} == added
    np.testing.assert_allclose(image_encoder(large, params), image_encoder(small, start), atol=1e-5)
    assert np.abs(image_encoder(large, random(large)) - image_encoder(small, start)).max() > 0.1


def test_a_directory_without_layers_that_it_should_have_is_refused(model):
    directory = stored(model)
    del directory.variables["params"]["clip_model"]["visual"]["transformer"]["resblocks_0"]
    with pytest.raises(ValueError, match="visual/transformer/resblocks_0/attn/key/kernel .* is missing"):
        initialize(fill(template(model), 0.0), model, directory)


def test_a_stem_that_loses_pixels_is_refused(model):
    patches = changed(model, image_size=(32, 64), patch_size=(32, 4))
    narrow = changed(patches, vision_stem=(16, 16))
    with pytest.raises(ValueError, match="stem/cells/kernel .* is missing"):
        initialize(fill(template(narrow), 0.0), narrow, stored(patches))


def test_further_convolutions_of_other_widths_are_refused(model):
    """Shapes would fit, but a convolution from one width to another can't pass on what it is given."""
    patches = changed(model, image_size=(32, 64), patch_size=(32, 4))
    small, large = changed(patches, vision_stem=(16, 24)), changed(patches, vision_stem=(16, 24, 16, 24))
    with pytest.raises(ValueError, match="stem/conv_2/kernel .* is missing"):
        initialize(fill(template(large), 0.0), large, stored(small))


@pytest.mark.parametrize("length", [3, 40])
def test_another_label_length_keeps_the_position_queries_of_both(model, length):
    other = dataclasses.replace(model, max_label_length=length)
    params, report = initialize(fill(template(other), 0.0), other, stored(model))
    assert sorted(report.resized) == ["cross_decoder/pos_queries", "visual_decoder/pos_queries"]
    kept = min(other.num_positions, model.num_positions)
    expected = np.arange(other.num_positions) < kept  # ones of the directory, then zeros
    np.testing.assert_array_equal(flatten(params)["visual_decoder/pos_queries"][0, :, 0], expected)


def test_another_image_size_resizes_the_positions(model):
    clip = stored_clip(model.clip)
    table = np.random.default_rng(0).normal(size=(17, 64)).astype(np.float32)
    clip.variables["params"]["visual"]["positional_embedding"] = table
    wide = changed(model, image_size=(32, 64))
    params, report = initialize(fill(template(wide), 0.0), wide, clip)
    assert report.resized == ["clip_model/visual/positional_embedding"]
    expected = resize_positional_embedding(table, (4, 4), (4, 8))
    np.testing.assert_array_equal(params["clip_model"]["visual"]["positional_embedding"], expected)


def test_the_same_number_of_patches_in_another_grid_is_resized_too(model):
    flat = changed(model, image_size=(16, 64))
    _, report = initialize(fill(template(flat), 0.0), flat, stored_clip(model.clip))
    assert report.resized == ["clip_model/visual/positional_embedding"]


def test_a_shorter_text_tower_takes_the_first_positions(model):
    clip = stored_clip(model.clip)
    clip.variables["params"]["positional_embedding"] = np.arange(77 * 64, dtype=np.float32).reshape(77, 64)
    short = changed(model, text_positions=16)
    params, report = initialize(fill(template(short), 0.0), short, clip)
    assert report.resized == ["clip_model/positional_embedding"]
    np.testing.assert_array_equal(params["clip_model"]["positional_embedding"], np.arange(1024.0).reshape(16, 64))


def test_heads_of_clip_may_be_split_otherwise(model):
    clip = stored_clip(changed(model, vision_heads=2).clip)
    kernel = np.random.default_rng(0).normal(size=(64, 2, 32)).astype(np.float32)
    attention = clip.variables["params"]["visual"]["transformer"]["resblocks_0"]["attn"]
    attention["query"]["kernel"] = kernel
    attention["out"]["kernel"] = kernel.reshape(2, 32, 64)
    params, report = initialize(fill(template(model), 0.0), model, clip)
    attention = params["clip_model"]["visual"]["transformer"]["resblocks_0"]["attn"]
    np.testing.assert_array_equal(attention["query"]["kernel"], kernel.reshape(64, 1, 64))
    np.testing.assert_array_equal(attention["out"]["kernel"], kernel.reshape(1, 64, 64))
    assert report.notes == ["clip.vision_heads is 1; the directory's model has 2"]


def test_heads_of_the_decoders_may_not(model):
    other = dataclasses.replace(model, decoder_heads=4)
    with pytest.raises(ValueError, match="visual_decoder/layers_0/cross_attn/.* has shape .*; the model needs"):
        initialize(fill(template(other), 0.0), other, stored(model))


def test_a_clip_with_fewer_layers_is_refused(model):
    deep = changed(model, vision_layers=2)
    with pytest.raises(ValueError, match="clip_model/visual/transformer/resblocks_1/.* is missing"):
        initialize(fill(template(deep), 0.0), deep, stored_clip(model.clip))


def test_what_is_not_used_is_listed(model):
    small = dataclasses.replace(model, use_language_model=False)
    _, report = initialize(fill(template(small), 0.0), small, stored(model))
    assert all(path.startswith("cross_decoder/") for path in report.unused)
    assert f"not used {len(report.unused)}: all {len(report.unused)} of cross_decoder" in str(report)


def test_parts_that_are_whole_are_listed_by_their_name():
    report = LoadReport(loaded=["a/b/x"], new=["e", "a/d/1/y", "a/d/0/x", "a/d/0/y"], unused=["a/b/y"])
    assert str(report).splitlines() == [
        "loaded 1 tensors",
        "newly initialized 4: all 3 of a/d, e",
        "not used 1: a/b/y",
    ]


def test_another_task_is_refused(model):
    foreign = dataclasses.replace(stored(model), task="detection")
    with pytest.raises(ValueError, match="task 'detection' can't start a recognizer"):
        initialize(fill(template(model), 0.0), model, foreign)
