"""Starting a detector from a CLIP or a detector: what is loaded, resized, left random, refused."""

import dataclasses

import jax
import numpy as np
import pytest
import torch

from tcm_jax.config import from_dict
from tcm_jax.detection.initialize import initialize_detector, resize_dense_positions
from tcm_jax.detection.model import DetectionConfig, DetectionModel, detection_config
from tcm_jax.models.clip import CLIP, CLIPConfig
from tcm_jax.pretrained import Pretrained, flatten
from tests.tiny_detector import TINY_DETECTORS, TINY_TCM

TOWERS = ("params/backbone/", "batch_stats/backbone/", "params/text_encoder/")
POSITIONS = "params/backbone/attnpool/positional_embedding"


def tiny(family: str = "db", clip: dict | None = None, **tcm) -> DetectionConfig:
    tcm = TINY_TCM | tcm | {"clip": TINY_TCM["clip"] | (clip or {})}
    return detection_config({"family": family, "tcm": tcm, "detector": TINY_DETECTORS[family]})


def full(shapes, value: float):
    return jax.tree.map(lambda x: np.full(x.shape, value, np.float32), shapes)


def random(config: DetectionConfig):
    """Variables that are all 0, on the device as a state's are."""
    return jax.tree.map(jax.device_put, full(jax.eval_shape(DetectionModel(config).init, jax.random.key(0)), 0.0))


def stored(config: DetectionConfig) -> Pretrained:
    """A detector whose variables are all 1."""
    shapes = jax.eval_shape(DetectionModel(config).init, jax.random.key(0))
    return Pretrained("detection", dataclasses.asdict(config), full(shapes, 1.0), {})


def stored_clip(**changes) -> Pretrained:
    """A CLIP that fits the tiny detectors, whose variables are all 1."""
    clip = from_dict(CLIPConfig, TINY_TCM["clip"] | changes)
    images, ids = np.zeros((1, *clip.image_size, 3), np.float32), np.zeros((1, 2), np.int32)
    variables = jax.eval_shape(CLIP(clip).init, jax.random.key(0), images, ids)
    shapes = {name: variables[name] for name in ("params", "batch_stats") if name in variables}
    return Pretrained("clip", dataclasses.asdict(clip), full(shapes, 1.0), {})


def loaded(variables) -> set[str]:
    """Paths whose values are the directory's."""
    flat = flatten(variables)
    assert all((np.asarray(leaf) == np.asarray(leaf).flat[0]).all() for leaf in flat.values())
    return {path for path, leaf in flat.items() if np.asarray(leaf).flat[0] == 1}


def modules(paths) -> set[str]:
    return {path.split("/")[1] for path in paths}


def test_clip_fills_the_towers():
    config = tiny()
    variables, report = initialize_detector(random(config), config, stored_clip(text_positions=4))
    assert loaded(variables) == {path for path in flatten(variables) if path.startswith(TOWERS)}
    assert "batch_stats/backbone/layer4_0/bn1/mean" in report.loaded
    assert report.unused == ["params/text_encoder/logit_scale"]
    assert not report.resized and not report.notes
    text = str(report)
    assert f"loaded {len(report.loaded)} tensors" in text
    assert "of params/neck" in text and "of batch_stats/bbox_head" in text and "params/contexts" in text


def test_clips_text_positions_are_cut():
    config = tiny()
    clip = stored_clip(text_positions=77)
    clip.variables["params"]["positional_embedding"] = np.arange(77 * 32, dtype=np.float32).reshape(77, 32)
    variables, report = initialize_detector(random(config), config, clip)
    assert report.resized == ["params/text_encoder/positional_embedding"]
    table = variables["params"]["text_encoder"]["positional_embedding"]
    np.testing.assert_array_equal(table, np.arange(4 * 32.0).reshape(4, 32))


def test_positions_of_images_are_resized_as_in_pytorch():
    table = np.random.default_rng(0).normal(size=(1 + 2 * 7, 3)).astype(np.float32)
    for new in ((5, 4), (1, 9), (2, 7)):
        grid = torch.from_numpy(table[1:]).T.reshape(1, 3, 2, 7)
        grid = torch.nn.functional.interpolate(grid, new, mode="bilinear", align_corners=False)
        ours = resize_dense_positions(table, (2, 7), new)
        np.testing.assert_array_equal(ours[0], table[0])
        np.testing.assert_allclose(ours[1:], grid.reshape(3, -1).T, atol=1e-6)


def test_another_image_size_resizes_the_positions():
    config = tiny(clip={"image_size": [96, 128]})
    clip = stored_clip()
    table = np.random.default_rng(0).normal(size=(5, 256)).astype(np.float32)
    clip.variables["params"]["visual"]["attnpool"]["positional_embedding"] = table
    variables, report = initialize_detector(random(config), config, clip)
    assert report.resized == [POSITIONS]
    expected = resize_dense_positions(table, (2, 2), (3, 4))
    np.testing.assert_array_equal(variables["params"]["backbone"]["attnpool"]["positional_embedding"], expected)


def test_the_same_number_of_positions_in_another_grid_is_resized_too():
    config = tiny(clip={"image_size": [32, 128]})
    _, report = initialize_detector(random(config), config, stored_clip())
    assert report.resized == [POSITIONS]


def test_heads_may_be_split_otherwise():
    clip = stored_clip(vision_heads=8)
    kernel = np.random.default_rng(0).normal(size=(256, 256)).astype(np.float32)
    pool = clip.variables["params"]["visual"]["attnpool"]
    pool["q_proj"]["kernel"], pool["c_proj"]["kernel"] = kernel.reshape(256, 8, 32), kernel[:, :32].reshape(8, 32, 32)
    config = tiny()
    variables, report = initialize_detector(random(config), config, clip)
    pool = variables["params"]["backbone"]["attnpool"]
    np.testing.assert_array_equal(pool["q_proj"]["kernel"], kernel.reshape(256, 4, 64))
    np.testing.assert_array_equal(pool["c_proj"]["kernel"], kernel[:, :32].reshape(4, 64, 32))
    assert report.notes == ["tcm.clip.vision_heads is 4; the directory's model has 8"]


def test_the_baseline_takes_the_backbone_alone():
    config = tiny(text_matching=False)
    variables, report = initialize_detector(random(config), config, stored_clip())
    assert modules(report.loaded) == modules(loaded(variables)) == {"backbone"}
    assert modules(report.unused) == {"backbone", "text_encoder"}
    assert all("attnpool" in path for path in report.unused if "backbone" in path)


def test_a_learned_scale_of_the_score_map_starts_from_tau():
    config = tiny(scale_score_map=True)
    _, report = initialize_detector(random(config), config, stored_clip())
    assert "params/logit_scale" in report.new


@pytest.mark.parametrize("family", ["db", "pan", "fce"])
def test_a_detector_fills_everything(family):
    config = tiny(family)
    variables, report = initialize_detector(random(config), config, stored(config))
    assert loaded(variables) == set(flatten(variables))
    assert str(report) == f"loaded {len(flatten(variables))} tensors"


def test_another_family_keeps_what_stands_before_neck_and_head():
    config = tiny("fce")
    variables, report = initialize_detector(random(config), config, stored(tiny("db")))
    assert modules(report.new) == {"neck", "bbox_head"}
    assert modules(report.loaded) == modules(flatten(variables)) - {"neck", "bbox_head"}
    assert loaded(variables) == set(report.loaded)
    assert report.notes == ["family is 'fce'; the directory's model has 'db'"]


def test_another_number_of_learned_contexts_starts_anew():
    config = tiny(learnable_prompt=3, clip={"text_positions": 3})
    variables, report = initialize_detector(random(config), config, stored(tiny()))
    assert report.new == ["params/contexts"]
    assert report.resized == ["params/text_encoder/positional_embedding"]
    assert loaded(variables) == set(flatten(variables)) - {"params/contexts"}


def test_a_decoder_of_another_width_is_new_as_a_whole():
    config = tiny(decoder_width=32)
    _, report = initialize_detector(random(config), config, stored(tiny()))
    assert modules(report.new) == {"context_decoder", "visual_prompt_generator"}
    assert not set(report.new) & set(report.loaded)
    assert not modules(report.loaded) & modules(report.new)


def test_the_baseline_starts_a_detector_with_text():
    config = tiny()
    variables, report = initialize_detector(random(config), config, stored(tiny(text_matching=False)))
    assert modules(report.loaded) == {"backbone", "neck", "bbox_head"}
    # The score map is one more channel of the last stage.
    new = {path for path in report.new if path.startswith("params/neck")}
    assert {path.rsplit("/", 1)[0] for path in new} == {"params/neck/lateral_convs_3/conv"}
    assert any(path.startswith("params/backbone/attnpool/") for path in report.new)
    assert loaded(variables) == set(report.loaded)


def test_a_longer_prompt_than_the_directorys_is_refused():
    config = tiny(learnable_prompt=6, clip={"text_positions": 6})
    message = r"text_encoder/positional_embedding has shape \(4, 32\); the model needs \(6, 32\)"
    with pytest.raises(ValueError, match=message):
        initialize_detector(random(config), config, stored(tiny()))


def test_towers_of_other_sizes_are_refused():
    deep, wide = tiny(clip={"vision_layers": [1, 1, 2, 1]}), tiny(clip={"text_width": 64})
    with pytest.raises(ValueError, match=r"backbone/layer3_1/conv1/kernel .* is missing"):
        initialize_detector(random(deep), deep, stored_clip())
    with pytest.raises(
        ValueError, match=r"text_encoder/token_embedding/embedding has shape \(8, 32\); the model needs"
    ):
        initialize_detector(random(wide), wide, stored_clip())


def test_what_can_not_start_a_detector():
    config = tiny()
    vit = stored_clip(vision_layers=1, patch_size=[8, 8], image_size=[32, 32], vision_width=32)
    with pytest.raises(ValueError, match="vision transformer can't start a detector"):
        initialize_detector(random(config), config, vit)
    with pytest.raises(ValueError, match="task 'recognition' can't start a detector"):
        initialize_detector(random(config), config, dataclasses.replace(vit, task="recognition"))
