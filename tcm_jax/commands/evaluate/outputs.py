"""What the evaluations of words and of scenes have in common: where results go, and the progress that is shown."""

import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tcm_jax.files import absolute, check_writable
from tcm_jax.loading import LoadedModel
from tcm_jax.training.workdir import versions

SCENE_SCHEMA_VERSION = 1


def results_path(checkpoint: str) -> Path:
    """Where the JSON of a checkpoint goes unless the user says otherwise: beside it. Checked to be writable."""
    path = absolute(checkpoint)
    path = path.with_name(f"{path.name}.results.json")
    check_writable(path, "--output")
    return path


def document(models: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """The JSON of an evaluation on images, with a part for each of the models."""
    return {
        "schema_version": SCENE_SCHEMA_VERSION,
        "models": list(models),
        "versions": versions(),
        "finished": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
    }


def origin(model: LoadedModel) -> dict[str, str]:
    """Which model was evaluated, as JSON values."""
    return {"path": str(model.directory), "source": model.contents.source, "license": model.contents.license}


def print_account(results: Sequence[Any], seconds: float) -> None:
    """How many images of the `results` are broken, and the time that all took."""
    broken = ", ".join(f"{r.name} {r.undecodable:,}" for r in results if r.undecodable)
    if broken:
        print(f"Images that can't be decoded, counted as images without detections: {broken}.")
    number = sum(result.num_photos for result in results)
    print(f"Time: {seconds:.1f} s with compilation, {1000 * seconds / number:.0f} ms an image, {number:,} images.")
