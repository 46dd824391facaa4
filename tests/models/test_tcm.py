"""TCM against the original's stored outputs, stage by stage, and what its options do."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tcm_jax.detection.model import DetectionModel
from tcm_jax.models.convolution import resize_bilinear
from tcm_jax.models.prompts import ContextDecoder, PromptGenerator, TextContextEncoder
from tcm_jax.models.resnet import ModifiedResNet
from tcm_jax.models.tcm import TCM, resnet_clip
from tests.conftest import apply, compare, read_json
from tests.golden_detectors import arrays, image_of, load_golden_detector, load_golden_module

TIGHT = 2e-5  # of the largest entry; what the fixtures ask for where nothing else is said
DETECTORS = ("tcm_db", "tcm_pan", "tcm_fce")


def channels_first(x: jax.Array) -> np.ndarray:
    return np.moveaxis(np.asarray(x), -1, -3)


def test_backbone_gives_stages_and_dense_tokens_at_any_size(detection_golden):
    folder = detection_golden / "backbone"
    c = read_json(folder / "config.json")
    heads = {"vision_heads": c["attnpool_heads"]}
    model = ModifiedResNet(resnet_clip(tuple(c["layers"]), c["width"], c["output_dim"], c["input_resolution"], **heads))
    expected = arrays(folder / "outputs.npz")
    variables = load_golden_module(model, folder, "backbone", jnp.zeros((1, 64, 64, 3)))
    for case in sorted({name.split("_")[0] for name in expected}):
        image = image_of(folder, f"image_{case}")
        (stages, tokens), state = apply(model, variables, image, dense=True, mutable="intermediates")
        h, w = stages[-1].shape[1:3]
        actual = {f"c{i}": channels_first(x) for i, x in enumerate(stages, start=2)}
        actual["stem"] = channels_first(state["intermediates"]["stem"][0])
        actual["global"] = tokens[:, 0]
        actual["dense"] = channels_first(tokens[:, 1:].reshape(len(image), h, w, -1))
        for name, array in expected.items():
            if name.startswith(f"{case}_"):
                compare(name, actual[name.removeprefix(f"{case}_")], array, TIGHT)
        pooled = apply(model, variables, image).tokens
        compare(f"{case} pooled token alone", pooled, tokens[:, :1], TIGHT)


def test_text_encoder_assembles_and_reads_prompts(detection_golden):
    folder = detection_golden / "text"
    c = read_json(folder / "config.json")
    clip = resnet_clip(
        embed_dim=c["embed_dim"],
        text_width=c["transformer_width"],
        text_heads=c["transformer_heads"],
        text_layers=c["transformer_layers"],
        text_positions=c["context_length"],
        vocab_size=c["vocab_size"],
    )
    model, inputs, expected = TextContextEncoder(clip), arrays(folder / "inputs.npz"), arrays(folder / "outputs.npz")
    variables = load_golden_module(model, folder, "text_encoder", jnp.zeros((1, 2), jnp.int32))
    for name, case in c["cases"].items():
        ids = None if case["only"] else jnp.asarray(inputs[case["text"]])
        contexts = None if case["context"] is None else jnp.asarray(inputs[case["context"]])
        conditional = None if case["gen"] is None else jnp.asarray(inputs[case["gen"]])
        embedded, end = apply(model, variables, ids, contexts, conditional, method="embed")
        features, state = apply(model, variables, ids, contexts, conditional, mutable="intermediates")
        compare(f"{name} transformer_in", embedded, expected[f"{name}__transformer_in"], TIGHT)
        assert end.tolist() == expected[f"{name}__eos_index"].tolist()
        compare(f"{name} text_embeddings", features, expected[f"{name}__text_embeddings"], TIGHT)
        if f"{name}__transformer_out" in expected:
            out = state["intermediates"]["transformer"]["blocks"][-1]
            compare(f"{name} transformer_out", out, expected[f"{name}__transformer_out"], TIGHT)


def test_language_and_visual_prompt_generators(detection_golden):
    folder = detection_golden / "prompt_generators"
    c = read_json(folder / "config.json")
    inputs, expected = arrays(folder / "inputs.npz"), arrays(folder / "outputs.npz")
    language = PromptGenerator(c["prompt_generator"]["token_embed_dim"])
    variables = load_golden_module(language, folder, "prompt_generator", inputs["global_feat"])
    compare("prompt_gen", apply(language, variables, inputs["global_feat"]), expected["prompt_gen"], TIGHT)

    sizes = c["visual_prompt_generator"]
    names = ("transformer_width", "transformer_layers", "transformer_heads", "dropout")
    visual = ContextDecoder(*(sizes[name] for name in names))
    variables = None
    for case, (query, memory) in c["cases"].items():
        pair = inputs[query], inputs[memory]
        variables = variables or load_golden_module(visual, folder, "visual_prompt_generator", *pair)
        out, state = apply(visual, variables, *pair, mutable="intermediates")
        compare(f"{case} out", out, expected[f"{case}_out"], TIGHT)
        for i, layer in enumerate(state["intermediates"]["layers"]):
            if f"{case}_layer{i}" in expected:
                compare(f"{case} layer {i}", layer, expected[f"{case}_layer{i}"], TIGHT)


def everything(task: DetectionModel, variables, image) -> dict[str, np.ndarray]:
    """All that the fixtures keep of a forward pass, by their names."""

    def run(model: TCM, image):
        stages, tokens = model.backbone(image, dense=True)
        output = model(image)
        actual = {f"c{i}": x for i, x in enumerate(stages, start=2)}
        if tokens is not None:
            grid = len(image), *output.score_map.shape[1:], tokens.shape[-1]
            actual |= {"dense_feat": tokens[:, 1:].reshape(grid), "score_map": output.score_map[..., None]}
            actual["c5_cat"] = jnp.concatenate([stages[-1], actual["score_map"]], axis=-1)
            last = [*stages[:-1], actual["c5_cat"]]
        neck = model.neck([(last if tokens is not None else stages)[i] for i in model.stages])
        return actual, tokens, neck, output

    model = task.model
    (actual, tokens, neck, output), state = apply(model, variables, image, method=run, mutable="intermediates")
    actual = {name: channels_first(x) for name, x in actual.items()}
    if tokens is not None:
        actual["global_feat"] = tokens[:, 0]
        if hasattr(model.bind(variables), "prompt_generator"):
            actual["prompt_gen"] = model.bind(variables).prompt_generator(tokens[:, 0])
        sown = state["intermediates"]
        for name in ("text_embeddings_raw", "text_diff", "text_embeddings"):
            if name in sown:
                actual[name] = np.asarray(sown[name][0]).reshape(-1, 1, tokens.shape[-1])
        if "vis_prompt_diff" in sown:
            prompt = sown["vis_prompt_diff"][0].reshape(*output.score_map.shape, -1)
            actual["vis_prompt_diff"] = channels_first(prompt)
    match task.config.family:
        case "db":
            actual |= {"neck": channels_first(neck), "maps": channels_first(output.outputs)}
            logits = state["intermediates"]["bbox_head"]["logits"][0]
            actual |= {"prob_logits": logits[0][:, None], "thr_logits": logits[1][:, None]}
        case "pan":
            actual["maps"] = channels_first(output.outputs)
            # Levels stay at their own strides until the head; the original enlarges them before.
            finest = neck[0].shape[1:3]
            actual |= {f"neck_{i}": channels_first(resize_bilinear(x, finest)) for i, x in enumerate(neck)}
        case "fce":
            for i, (x, (cls, reg)) in enumerate(zip(neck, output.outputs, strict=True), start=3):
                actual |= {f"neck_p{i}": channels_first(x)}
                actual |= {f"cls_p{i}": channels_first(cls), f"reg_p{i}": channels_first(reg)}
    return actual


@pytest.mark.parametrize("name", DETECTORS)
def test_every_stage_equals_the_original(detection_golden, name):
    folder = detection_golden / name
    actual = everything(*load_golden_detector(folder), image_of(folder))
    for key, expected in arrays(folder / "outputs.npz").items():
        compare(key, actual[key], expected, 2e-4 if key == "maps" else TIGHT)


def test_every_row_of_the_ablation_equals_the_original(detection_golden):
    folder = detection_golden / "tcm_db"
    expected = arrays(folder / "outputs_variants.npz")
    for variant in read_json(folder / "config.json")["variants"]:
        actual = everything(*load_golden_detector(folder, variant), image_of(folder))
        actual["maps0"] = actual["maps"][:1]
        mine = {key.removeprefix(f"{variant}__"): x for key, x in expected.items() if key.startswith(f"{variant}__")}
        for key, array in mine.items():
            compare(f"{variant} {key}", actual[key], array, 2e-4 if key == "maps0" else TIGHT)
