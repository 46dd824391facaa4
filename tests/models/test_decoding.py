"""Dual predict-and-refine decoding against the original, and what the definition here promises beyond it."""

import dataclasses
import functools
from collections.abc import Callable
from pathlib import Path

import jax
import numpy as np
import pytest

from tcm_jax.models.clip4str import CLIP4STR
from tcm_jax.models.decoding import decode
from tcm_jax.text import bpe
from tcm_jax.text.charset import CharsetAdapter, CharsetTokenizer
from tests.conftest import apply, compare, init, read_json
from tests.golden_models import golden_inputs, load_golden


def pytest_generate_tests(metafunc):
    """`fixture` is every folder with decoding results under the golden folder."""
    if "fixture" in metafunc.fixturenames:
        root: Path = metafunc.config.getoption("--golden")
        base = (root / "recognition" if (root / "recognition").is_dir() else root) / "clip4str"
        folders = [base, *sorted(p.parent for p in base.glob("variants/*/config.json"))]
        metafunc.parametrize("fixture", folders, ids=lambda f: f.name)


@functools.cache
def compiled(folder: Path, stop: str, max_length: int | None, **changes) -> Callable:
    """`decode` with the weights of a fixture and these changes of its configuration."""
    config, variables = load_golden(folder)
    model = CLIP4STR(dataclasses.replace(config, **changes))
    return functools.partial(jax.jit(lambda v, images: decode(model, v, images, max_length, stop)), variables)


def run(folder: Path, stop: str, max_length: int | None, batch: int, images: np.ndarray, **changes):
    """`decode` over `images` in batches; every array with the images along the first axis, on the host."""
    decoder = compiled(folder, stop, max_length, **changes)
    results = [jax.device_get(decoder(images[i : i + batch])) for i in range(0, len(images), batch)]
    rows = [r._replace(lengths=tuple(np.full(batch, n) for n in r.lengths)) for r in results]
    return jax.tree.map(lambda *xs: np.concatenate(xs), *rows)


def cut(logits: np.ndarray, like: np.ndarray) -> np.ndarray:
    """Logits on the positions of `like`, which may have more (NaN there)."""
    return np.pad(logits, ((0, 0), (0, like.shape[1] - logits.shape[1]), (0, 0)))


def test_every_stage_equals_the_original(fixture):
    config = read_json(fixture / "config.json")
    model, variables = load_golden(fixture)
    images = golden_inputs(fixture)["images"]
    with np.load(fixture / "outputs.npz") as outputs:
        expected = dict(outputs)
    max_length = config.get("max_length_argument")
    batch = len(images) if config["forward"].startswith("model(images)") else 1
    result = run(fixture, "never" if max_length else "visual", max_length, batch, images)

    if "memory" in expected:
        memory = apply(CLIP4STR(model), variables, images, method="encode_image")
        compare("memory", memory, expected["memory"])
    np.testing.assert_array_equal(result.lengths[0], expected["visual_ar_len"])
    logits = {"visual_ar": result.visual[0], "cross_ar": result.cross[0]}
    for r, (visual, cross) in enumerate(zip(result.visual[1:], result.cross[1:], strict=True), start=1):
        logits |= {f"refine{r}_visual": visual, f"refine{r}_cross": cross}
    for name, actual in logits.items():
        if f"{name}_logits" in expected:
            compare(f"{name}_logits", cut(actual, expected[f"{name}_logits"]), expected[f"{name}_logits"])
        if f"{name}_tokens" in expected:
            tokens = expected[f"{name}_tokens"]
            ids = cut(actual, tokens).argmax(-1)
            np.testing.assert_array_equal(np.where(tokens < 0, -1, ids), tokens, f"{name}_tokens")
    for i, caption in enumerate(result.captions, start=1):
        np.testing.assert_array_equal(caption, expected[f"caption_ids_{i}"], f"caption {i}")
        strings = bpe.tokenize(expected[f"caption_{i}"].tolist(), caption.shape[1], truncate=True)
        np.testing.assert_array_equal(caption, strings, f"caption {i} as a string")

    final = cut(result.logits, expected["final_logits"])
    compare("final_logits", final, expected["final_logits"])
    final = np.where(np.isnan(expected["final_logits"]), np.eye(final.shape[2])[0], final)  # EOS where nothing is
    texts = CharsetTokenizer(model.charset).decode(final.argmax(-1))
    assert texts == expected["pred"].tolist()
    adapter = CharsetAdapter(model.caption_charset)
    assert [adapter(t) for t in texts] == expected["pred_test_charset"].tolist()
    probabilities = np.asarray(jax.nn.softmax(final)).max(-1)
    compare("probs", probabilities, expected["probs"])
    known = ~np.isnan(expected["probs"])
    compare("confidence", np.where(known, probabilities, 1).prod(1), expected["confidence"])


def test_results_do_not_depend_on_the_batch(golden):
    folder = golden / "clip4str"
    images = golden_inputs(folder)["images"]
    tokens = CharsetTokenizer(load_golden(folder)[0].charset)

    def read(stop, batch):
        return tokens.decode(run(folder, stop, None, batch, images).logits.argmax(-1))

    together = read("eos", len(images))
    assert together == read("eos", 1) == read("never", 1)
    with np.load(folder / "variants" / "max_length_25" / "outputs.npz") as outputs:
        assert together == outputs["pred"].tolist()


def test_the_loops_stop_at_the_last_eos(golden):
    folder = golden / "clip4str"
    images = golden_inputs(folder)["images"]
    positions = load_golden(folder)[0].num_positions
    result = run(folder, "eos", None, 1, images)
    for branch, lengths in zip((result.visual[0], result.cross[0]), result.lengths, strict=True):
        for logits, length in zip(branch, lengths, strict=True):
            ids = logits.argmax(-1)
            end = np.argmax(ids == 0) + 1 if (ids[:length] == 0).any() else positions
            assert length == end
    assert result.lengths[0].min() < positions, "the fixture should have a short word"


def test_without_language_model_the_visual_branch_answers(golden):
    folder = golden / "clip4str"
    images = golden_inputs(folder)["images"]
    both = run(folder, "eos", None, len(images), images)
    alone = run(folder, "eos", None, len(images), images, use_language_model=False)
    assert alone.cross == []
    assert alone.captions == []
    compare("refined visual logits", alone.logits, both.visual[-1])


def test_class_and_end_of_text_features_only(golden):
    folder = golden / "clip4str"
    config, variables = load_golden(folder)
    images = golden_inputs(folder)["images"][:2]
    model = CLIP4STR(dataclasses.replace(config, cls_eot_feature=True))
    tokens = apply(model, variables, images, method="encode_image")
    full = apply(CLIP4STR(config), variables, images, method="encode_image")
    compare("class token", tokens, full[:, :1])
    ids = bpe.tokenize(["sale", "open"], config.context_length)
    text = apply(model, variables, ids, method="encode_caption")
    every = apply(CLIP4STR(config), variables, ids, method="encode_caption")
    compare("end of text", text[:, 0], every[:, np.argmax(ids[0] == bpe.EOT)])
    assert run(folder, "eos", None, 2, images, cls_eot_feature=True).logits.shape[0] == 2


def test_token_embeddings_as_text_need_equal_widths(golden):
    config, _ = load_golden(golden / "clip4str")
    if config.clip.text_width != config.clip.embed_dim:
        with pytest.raises(ValueError, match="text_width == embed_dim"):
            dataclasses.replace(config, cross_token_embedding=True)
    clip = dataclasses.replace(config.clip, text_width=config.clip.embed_dim, text_heads=1)
    model = CLIP4STR(dataclasses.replace(config, clip=clip, cross_token_embedding=True))
    variables = init(model, np.zeros((1, *clip.image_size, 3), np.float32))
    ids = bpe.tokenize(["sale"], config.context_length)
    text = apply(model, variables, ids, method="encode_caption")
    compare("embeddings", text[0], variables["params"]["clip_model"]["token_embedding"]["embedding"][ids[0]])
    images = np.zeros((1, *clip.image_size, 3), np.float32)
    assert jax.eval_shape(lambda v, x: decode(model, v, x), variables, images).logits.shape[0] == 1


def test_resnets_are_refused(golden):
    config, _ = load_golden(golden / "clip4str")
    with pytest.raises(ValueError, match="needs a ViT"):
        dataclasses.replace(config, clip=dataclasses.replace(config.clip, vision_layers=(3, 4, 6, 3)))
