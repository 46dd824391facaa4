"""CLIP's towers against the originals (openai/CLIP, open_clip), and the resizing of position embeddings."""

from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch

from tcm_jax.convert.architecture import template
from tcm_jax.models.clip import CLIP, PRESETS, CLIPConfig, eot_feature, resize_positional_embedding
from tests.conftest import apply, compare, init, read_json
from tests.golden_models import golden_inputs, load_golden


@pytest.fixture(params=["clip_vit", "clip_vit_gelu"])
def vit(request, golden):
    folder = golden / request.param
    config, variables = load_golden(folder)
    with np.load(folder / "outputs.npz") as outputs:
        return CLIP(config), variables, golden_inputs(folder), dict(outputs)


def test_image_tower(vit):
    model, variables, inputs, expected = vit
    tokens, state = apply(model, variables, inputs["images"], method="encode_image", mutable="intermediates")
    unprojected = apply(model, variables, inputs["images"], project=False, method="encode_image")
    tower = state["intermediates"]["visual"]
    actual = {
        "vision_ln_pre": tower["ln_pre_out"][0],
        "image_tokens_proj": tokens,
        "image_tokens_noproj": unprojected,
        "image_cls_proj": tokens[:, 0],
        "image_cls_noproj": unprojected[:, 0],
    }
    actual |= {f"vision_block{i}": x for i, x in enumerate(tower["transformer"]["blocks"])}
    for name in expected.keys() & actual.keys():
        compare(name, actual[name], expected[name])


def test_text_tower_at_both_context_lengths(vit):
    model, variables, inputs, expected = vit
    actual = {}
    for length in (77, 16):
        ids = inputs[f"ids_{length}"]
        projected, state = apply(model, variables, ids, method="encode_text", mutable="intermediates")
        unprojected = apply(model, variables, ids, project=False, method="encode_text")
        actual |= {
            f"text_tokens_proj_{length}": projected,
            f"text_tokens_noproj_{length}": unprojected,
            f"text_eot_proj_{length}": eot_feature(projected, ids),
            f"text_eot_noproj_{length}": eot_feature(unprojected, ids),
        }
        blocks = state["intermediates"]["transformer"]["blocks"]
        actual |= {f"text_block{i}_{length}": x for i, x in enumerate(blocks)}
    for name in expected.keys() & actual.keys():
        compare(name, actual[name], expected[name])
    logits = apply(model, variables, inputs["images"], inputs["ids_77"])
    if "logits_per_image" in expected:
        compare("logits_per_image", logits, expected["logits_per_image"])


def test_resnet_tower(golden):
    folder = golden / "clip_resnet"
    config, variables = load_golden(folder)
    model, inputs = CLIP(config), golden_inputs(folder)
    embed, state = apply(model, variables, inputs["images"], method="encode_image", mutable="intermediates")
    text = apply(model, variables, inputs["ids_77"], method="encode_text")
    stages = apply(model, variables, inputs["images"], method=lambda model, images: model.visual(images).stages)
    actual = {"stem": state["intermediates"]["visual"]["stem"][0]}
    actual |= {f"layer{i}": stage for i, stage in enumerate(stages, start=1)}
    actual = {name: x.transpose(0, 3, 1, 2) for name, x in actual.items()}
    actual["image_embed"] = embed[:, 0]
    actual["text_eot_proj_77"] = eot_feature(text, inputs["ids_77"])
    actual["logits_per_image"] = apply(model, variables, inputs["images"], inputs["ids_77"])
    with np.load(folder / "outputs.npz") as outputs:
        for name, expected in outputs.items():
            compare(name, actual[name], expected)


def test_the_presets_have_the_sizes_of_the_originals(golden):
    names = {"openai_ViT-B-32": "ViT-B/32", "openai_ViT-B-16": "ViT-B/16", "openai_ViT-L-14": "ViT-L/14"}
    names |= {"open_clip_ViT-H-14": "ViT-H/14"}
    for file, name in names.items():
        manifest = read_json(golden / "manifests" / f"{file}.json")
        shapes = template(PRESETS[name])
        assert sum(int(np.prod(s)) for s in shapes.values()) == manifest["num_parameters"], name
        heads = manifest["heads"]
        assert PRESETS[name].vision_heads == heads["vision_heads"], name
        assert PRESETS[name].text_heads == heads["text_heads"], name
    # 336 pixels: the same tower with a 24 x 24 grid.
    small, large = template(PRESETS["ViT-L/14"]), template(PRESETS["ViT-L/14@336"])
    assert {k for k in small if small[k] != large[k]} == {"params/visual/positional_embedding"}
    assert large["params/visual/positional_embedding"] == (577, 1024)


def test_positions_resize_as_in_torch():
    table = np.random.default_rng(0).normal(size=(1 + 4 * 4, 3)).astype(np.float32)
    for new in [(4, 4), (2, 8), (7, 5), (3, 3)]:
        resized = resize_positional_embedding(jnp.asarray(table), (4, 4), new)
        grid = torch.tensor(table[1:].reshape(4, 4, 3)).permute(2, 0, 1)[None]
        expected = torch.nn.functional.interpolate(grid, size=new, mode="bicubic", align_corners=False)
        expected = expected[0].permute(1, 2, 0).reshape(-1, 3).numpy()
        compare(f"positions {new}", resized, np.concatenate([table[:1], expected]))


def test_positions_of_another_grid_are_refused():
    with pytest.raises(ValueError, match="17 rows; a 3x5 grid needs 16"):
        resize_positional_embedding(jnp.zeros((17, 3)), (3, 5), (4, 4))


def test_non_square_images_and_patches():
    config = CLIPConfig(
        embed_dim=8, image_size=(32, 128), patch_size=(16, 8), vision_width=64, vision_layers=1, vision_heads=1,
        text_width=64, text_layers=1, text_heads=1,
    )  # fmt: skip
    model = CLIP(config)
    variables = init(model, jnp.zeros((1, 32, 128, 3)), jnp.zeros((1, 4), int))
    tokens = apply(model, variables, jnp.zeros((2, 32, 128, 3)), method="encode_image")
    assert tokens.shape == (2, 1 + 2 * 16, 8)
    with pytest.raises(ValueError, match=r"expected \[b, 32, 128, 3\]"):
        apply(model, variables, jnp.zeros((2, 128, 32, 3)), method="encode_image")


def test_image_size_must_fit_the_patches():
    with pytest.raises(ValueError, match="not a multiple of the patch size"):
        _ = CLIPConfig(image_size=(224, 225)).grid


def test_too_many_text_tokens_are_refused(vit):
    model, variables, _inputs, _ = vit
    positions = model.config.text_positions
    with pytest.raises(ValueError, match=f"{positions + 1} text tokens"):
        apply(model, variables, jnp.zeros((1, positions + 1), int), method="encode_text")


def test_bfloat16_computes_in_bfloat16_and_keeps_float32_parameters(vit):
    model, variables, inputs, _ = vit
    half = CLIP(model.config, jnp.bfloat16)
    tokens = apply(half, variables, inputs["images"], method="encode_image")
    assert tokens.dtype == jnp.bfloat16
    full = apply(model, variables, inputs["images"], method="encode_image")
    compare("bfloat16", tokens, full, relative=0.05)
    fresh = jax.eval_shape(half.init, jax.random.key(0), inputs["images"][:1], inputs["ids_16"][:1])
    assert all(x.dtype == jnp.float32 for x in jax.tree.leaves(fresh))


STEM = CLIPConfig(
    embed_dim=16,
    image_size=(32, 64),
    patch_size=(32, 8),
    vision_width=16,
    vision_layers=1,
    vision_heads=1,
    vision_stem=(8, 8),
    text_width=8,
    text_layers=1,
    text_heads=1,
    vocab_size=4,
)


def test_a_stem_stands_before_the_patches():
    """32 x 64 pixels are 8 x 16 cells for it, and eight patches of 8 x 2 cells for the tower."""
    model, images = CLIP(STEM), jax.random.normal(jax.random.key(1), (2, 32, 64, 3))
    variables = init(model, images, jnp.zeros((2, 4), int))
    visual = variables["params"]["visual"]
    assert visual["stem"]["cells"]["kernel"].shape == (4 * 4 * 3, 8)
    assert visual["conv1"]["kernel"].shape == (8, 2, 8, 16)
    tokens = apply(model, variables, images, method="encode_image")
    assert tokens.shape == (2, 1 + 8, 16)
    changed = images.at[0, 5, 20].add(1.0)  # one pixel of one image
    moved = jnp.abs(apply(model, variables, changed, method="encode_image") - tokens).max((1, 2))
    assert moved[0] > 0
    assert moved[1] == 0


def test_patches_are_whole_cells_of_the_stem():
    with pytest.raises(ValueError, match=r"patch size \(32, 6\) is not a multiple of the stem's cells of 4"):
        _ = replace(STEM, image_size=(32, 60), patch_size=(32, 6)).grid
