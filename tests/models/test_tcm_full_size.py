"""The released sizes, with weights drawn by the fixtures' rule, on a small image."""

import jax
import jax.numpy as jnp
import numpy as np

from tcm_jax import pretrained
from tcm_jax.convert import engine, rules
from tcm_jax.detection.model import DetectionModel, detection_config
from tests.conftest import compare, detection_weights, read_json
from tests.detection.test_detector_configs import load
from tests.golden_detectors import arrays, image_of


def test_full_size_models_equal_the_original(detection_golden):
    folder = detection_golden / "manifests"
    for name in read_json(folder / "config.json")["run"]:
        family = name.split("_")[1]
        manifest = read_json(folder / f"{name}.json")
        values = load(f"tcm_{family}", "ic15")["model"]
        values["tcm"]["clip"]["text_positions"] = manifest["text_context_length"]
        values["tcm"]["learnable_prompt"] = manifest["text_context_length"] - manifest["context_length"]
        task = DetectionModel(detection_config(values))
        template = pretrained.shapes(jax.eval_shape(task.init, jax.random.key(0)))
        state = detection_weights(folder / f"{name}.json")
        flat = engine.to_flax(state, rules.table("tcm"), template, rules.DROPPED)
        variables = pretrained.unflatten({path: jnp.asarray(leaf) for path, leaf in flat.items()})

        def run(model, image):
            stages, tokens = model.backbone(image, dense=True)
            return stages, tokens, model(image)

        image = image_of(folder, f"{name}__image")
        forward = jax.jit(lambda v, x, model=task.model: model.apply(v, x, method=run, mutable="intermediates"))
        (stages, tokens, output), sown = forward(variables, image)
        h, w = stages[-1].shape[1:3]
        actual = {
            "global_feat": tokens[:, 0],
            "dense_feat": np.moveaxis(np.asarray(tokens[:, 1:]).reshape(len(image), h, w, -1), -1, 1),
            "c5_mean_hw": stages[-1].mean((1, 2)),
            "text_embeddings": sown["intermediates"]["text_embeddings"][0],
            "score_map": output.score_map[:, None],
            "maps": None if family == "fce" else np.moveaxis(np.asarray(output.outputs), -1, 1),
        }
        for key, expected in arrays(folder / "outputs.npz").items():
            if key.startswith(f"{name}__"):
                compare(key, actual[key.removeprefix(f"{name}__")], expected, 2e-4)
