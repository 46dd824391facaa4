"""Runs the programs of this folder. It needs jax, flatbuffers and numpy only, and may be copied and changed.

    python run.py inputs.npz outputs.npz

inputs.npz has arrays of pixels, uint8 RGB: crops of words [b, h, w, 3], resized as manifest.json says, or images
[h, w, 3] to detect text in. outputs.npz gets the results of each array by its name and theirs, such as "mine/ids" or
"mine/map_0". From Python:

    from run import Exported
    recognizer = Exported("FOLDER")
    for text, probability in recognizer.read(crops):
        ...
"""

import json
import sys
from pathlib import Path
from typing import Any

import jax
import numpy as np
from jax import export


class Exported:
    """The programs of a folder with their weights; a program is loaded and compiled when it is first used."""

    def __init__(self, folder: str | Path) -> None:
        self.folder = Path(folder)
        self.manifest = json.loads((self.folder / "manifest.json").read_text("utf-8"))
        with np.load(self.folder / self.manifest["weights"], allow_pickle=False) as file:
            self.weights = jax.device_put(dict(file))
        self._programs: dict[tuple[int, ...], Any] = {}

    def call(self, images: np.ndarray, sizes: np.ndarray | None = None) -> dict[str, jax.Array]:
        """Results by name for images uint8 [b, h, w, 3] of one of the manifest's canvases.

        sizes: for a detector, height and width of each image on the canvas, int32 [b, 2].
        """
        canvas = images.shape[1:3]
        if canvas not in self._programs:
            file = next((p["file"] for p in self.manifest["programs"] if tuple(p["canvas"]) == canvas), None)
            if file is None:
                known = ", ".join("{} x {}".format(*p["canvas"]) for p in self.manifest["programs"])
                raise ValueError(f"no program for images of {canvas[0]} x {canvas[1]} pixels; there are {known}")
            program = export.deserialize(bytearray((self.folder / file).read_bytes()))
            self._programs[canvas] = jax.jit(program.call)
        return self._programs[canvas](self.weights, images, *(() if sizes is None else (sizes,)))

    def read(self, crops: np.ndarray) -> list[tuple[str, float]]:
        """(text, probability of the whole word) of crops, uint8 [b, h, w, 3]."""
        return self.texts(self.call(crops))

    def texts(self, results: dict[str, jax.Array]) -> list[tuple[str, float]]:
        """(text, probability of the whole word) of results of `call`."""
        charset, found = self.manifest["charset"], []
        rows = zip(np.asarray(results["ids"]), np.asarray(results["probabilities"]), strict=True)
        for ids, probabilities in rows:
            length = int(np.argmax(ids == 0)) if (ids == 0).any() else len(ids)  # 0 ends the word
            found.append(("".join(charset[i - 1] for i in ids[:length]), float(np.prod(probabilities[: length + 1]))))
        return found

    def find(self, image: np.ndarray) -> dict[str, jax.Array]:
        """Results for an image, uint8 [h, w, 3], resized as the manifest says, on the smallest canvas that fits."""
        height, width = image.shape[:2]
        canvases = [p["canvas"] for p in self.manifest["programs"]]
        fitting = [(h * w, h, w) for h, w in canvases if h >= height and w >= width]
        if not fitting:
            raise ValueError(f"no program fits an image of {height} x {width} pixels; resize it as the manifest says")
        _, h, w = min(fitting)
        canvas = np.zeros((1, h, w, 3), np.uint8)
        canvas[0, :height, :width] = image
        return self.call(canvas, np.array([[height, width]], np.int32))


def main(inputs: str, outputs: str) -> None:
    """Runs the arrays of a file, and writes their results to another one."""
    model = Exported(Path(__file__).parent)
    is_recognizer = model.manifest["task"] == "recognition"
    found: dict[str, Any] = {}
    with np.load(inputs, allow_pickle=False) as file:
        for name in file.files:
            results = model.call(file[name]) if is_recognizer else model.find(file[name])
            found |= {f"{name}/{key}": np.asarray(array) for key, array in results.items()}
            print(name, model.texts(results) if is_recognizer else "", flush=True)
    np.savez(outputs, **found)


if __name__ == "__main__":
    main(*sys.argv[1:])
