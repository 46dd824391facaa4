"""Recognizers and detectors as programs of `jax.export`, and the weights that they take."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import jax
import numpy as np
from jax import export

from tcm_jax.detection.model import DetectionModel
from tcm_jax.images.canvas import Scale, bucket_sizes
from tcm_jax.loading import LoadedModel
from tcm_jax.pretrained import flatten, unflatten
from tcm_jax.recognition.model import RecognitionModel

PLATFORMS = ("cpu", "cuda", "tpu")
_TEXT = "text_embedding"  # the constant text of a detector, which is one of the weights

Weights = dict[str, np.ndarray]
Program = Callable[..., dict[str, Any]]


@dataclass(frozen=True)
class Exportable:
    """A model as a function of weights and images.

    Args:
        function: (weights, images uint8 [b, h, w, 3]) -> results by name, [b, ...] each. That of a detector takes also
            the sizes of the images on their canvas, int32 [b, 2].
        weights: arrays by path.
        canvases: heights and widths of the images; there is one program for each.
        has_sizes: whether the function takes sizes.
    """

    function: Program
    weights: Weights
    canvases: Sequence[tuple[int, int]]
    has_sizes: bool

    def inputs(self, canvas: tuple[int, int]) -> tuple[jax.ShapeDtypeStruct, ...]:
        """Shapes of the arguments besides the weights; the number of images is symbolic."""
        (b,) = export.symbolic_shape("b")
        images = jax.ShapeDtypeStruct((b, *canvas, 3), np.uint8)
        return (images, jax.ShapeDtypeStruct((b, 2), np.int32)) if self.has_sizes else (images,)


def of_recognizer(model: LoadedModel[RecognitionModel]) -> Exportable:
    """A recognizer, which returns "ids" int32 [b, t] and their "probabilities" float32 [b, t].

    Id 0 ends the word, id i is character i - 1 of the charset.
    """

    def read(weights: Mapping[str, Any], images: jax.Array) -> dict[str, Any]:
        return model.predict(unflatten(weights), images)._asdict()

    canvases = [model.network.config.clip.image_size]
    return _without_unused_weights(Exportable(read, _arrays(model.contents.variables), canvases, has_sizes=False))


def of_detector(model: LoadedModel[DetectionModel], scale: Scale) -> Exportable:
    """A detector for images of the sizes that `scale` makes, which returns `results_by_name`."""

    def detect(weights: Mapping[str, Any], images: jax.Array, sizes: jax.Array) -> dict[str, Any]:
        variables = unflatten({path: leaf for path, leaf in weights.items() if path != _TEXT})
        return results_by_name(*model.predict(variables, images, sizes, weights.get(_TEXT)))

    weights = _arrays(model.contents.variables)
    text = model.call(model.network.text_embedding, model.contents.variables)
    if text is not None:
        weights[_TEXT] = np.asarray(text)
    return _without_unused_weights(Exportable(detect, weights, bucket_sizes(scale), has_sizes=True))


def results_by_name(maps: Any, score_map: jax.Array | None) -> dict[str, jax.Array]:
    """Results of a detector's `predict` as float32 arrays [b, ...] by name.

    "map_0" and so on are the inputs of the family's decoding; "score_map" [b, h / 32, w / 32] is there for a model with
    text.
    """
    named = {f"map_{i}": leaf for i, leaf in enumerate(jax.tree.leaves(maps))}
    if score_map is not None:
        named["score_map"] = score_map
    return {name: array.astype(np.float32) for name, array in named.items()}


def programs(model: Exportable, platforms: Sequence[str]) -> Iterator[tuple[tuple[int, int], bytes]]:
    """The serialized program of each canvas."""
    for canvas in model.canvases:
        yield canvas, bytes(_export(model, canvas, platforms).serialize())


def _without_unused_weights(model: Exportable) -> Exportable:
    """The model with the weights that its function uses: a constant text, for example, needs no text tower."""
    paths = sorted(model.weights)  # the order in which JAX flattens a dictionary
    kept = _export(model, model.canvases[0], PLATFORMS[:1]).module_kept_var_idx
    return replace(model, weights={paths[i]: model.weights[paths[i]] for i in kept if i < len(paths)})


def _export(model: Exportable, canvas: tuple[int, int], platforms: Iterable[str]) -> export.Exported:
    shapes = {path: jax.ShapeDtypeStruct(array.shape, array.dtype) for path, array in model.weights.items()}
    return export.export(jax.jit(model.function), platforms=tuple(platforms))(shapes, *model.inputs(canvas))


def _arrays(variables: Mapping[str, Any]) -> Weights:
    return {path: np.asarray(leaf) for path, leaf in flatten(variables).items()}
