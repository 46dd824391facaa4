"""Runs the programs of this folder. It needs jax, flatbuffers and numpy, nothing else, and may be copied and changed.

    python run.py inputs.npz outputs.npz

inputs.npz has arrays of pixels, uint8 RGB: words [b, h, w, 3], resized as manifest.json says, or photos [h, w, 3].
outputs.npz gets the results of each under its name and theirs, "mine/ids" or "mine/map_0". From Python:

    from run import Exported
    recognizer = Exported("FOLDER")
    for text, probability in recognizer.read(words):
        ...
"""

import json
import sys
from pathlib import Path

import jax
import numpy as np
from jax import export


class Exported:
    """The programs of a folder with their weights; a program is loaded and compiled when it is first needed."""

    def __init__(self, folder):
        self.folder = Path(folder)
        self.manifest = json.loads((self.folder / "manifest.json").read_text("utf-8"))
        with np.load(self.folder / self.manifest["weights"], allow_pickle=False) as file:
            self.weights = jax.device_put(dict(file))
        self._programs = {}

    def call(self, images, sizes=None):
        """Results by name for images uint8 [b, h, w, 3] of one of the manifest's canvases.

        sizes: of a detector, the height and width of each photo on the canvas, int32 [b, 2].
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

    def read(self, words):
        """(text, probability of the whole word) of each of the words, uint8 [b, h, w, 3]."""
        return self.texts(self.call(words))

    def texts(self, results):
        """(text, probability of the whole word) of each of the results of `call`."""
        charset, found = self.manifest["charset"], []
        rows = zip(np.asarray(results["ids"]), np.asarray(results["probabilities"]), strict=True)
        for ids, probabilities in rows:
            length = int(np.argmax(ids == 0)) if (ids == 0).any() else len(ids)  # 0 ends the word
            found.append(("".join(charset[i - 1] for i in ids[:length]), float(np.prod(probabilities[: length + 1]))))
        return found

    def find(self, photo):
        """Results for a photo, uint8 [h, w, 3], resized as the manifest says, on the smallest canvas that holds it."""
        height, width = photo.shape[:2]
        canvases = [p["canvas"] for p in self.manifest["programs"]]
        fitting = [(h * w, h, w) for h, w in canvases if h >= height and w >= width]
        if not fitting:
            raise ValueError(f"no program holds a photo of {height} x {width} pixels; resize it as the manifest says")
        _, h, w = min(fitting)
        canvas = np.zeros((1, h, w, 3), np.uint8)
        canvas[0, :height, :width] = photo
        return self.call(canvas, np.array([[height, width]], np.int32))


def main(inputs, outputs):
    model = Exported(Path(__file__).parent)
    reads = model.manifest["task"] == "recognition"
    found: dict = {}
    with np.load(inputs, allow_pickle=False) as file:
        for name in file.files:
            results = model.call(file[name]) if reads else model.find(file[name])
            found |= {f"{name}/{key}": np.asarray(array) for key, array in results.items()}
            print(name, model.texts(results) if reads else "", flush=True)
    np.savez(outputs, **found)


if __name__ == "__main__":
    main(*sys.argv[1:])
