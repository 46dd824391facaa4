"""From a model directory or a training's working directory to a recognizer or a detector that can run."""

import dataclasses
import difflib
import os
import typing
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Generic, TypeVar

import jax
import jax.numpy as jnp

from tcm_jax import pretrained
from tcm_jax.config import from_dict
from tcm_jax.detection.model import DetectionConfig, DetectionModel, detection_config
from tcm_jax.files import as_path, wrap_remote_errors
from tcm_jax.images.decoding import MEAN_STD_0_5, SINGLE_VIEW, check_margins
from tcm_jax.models.clip4str import CLIP4STRConfig
from tcm_jax.pretrained import Pretrained
from tcm_jax.recognition.model import RecognitionModel
from tcm_jax.text.vocabulary import Vocabulary

NORMALIZATIONS = ("checkpoint", "half")
DTYPES = ("auto", "float32", "bfloat16")
_IN_WORKDIR = ("best", "last")
_PURPOSES = {"recognition": "reading words", "detection": "detecting text"}

Task = TypeVar("Task", RecognitionModel, DetectionModel)


@dataclass(frozen=True)
class Model(Generic[Task]):
    """A recognizer or a detector, ready to run; str() tells the user what runs where and how.

    Args:
        directory: the model directory.
        contents: what it holds; task: the objective with normalization and dtype applied.
        normalization: of the images, in words.
    """

    directory: Path
    contents: Pretrained
    task: Task
    normalization: str

    @property
    def dtype(self) -> str:
        return jnp.dtype(self.task.model.dtype).name

    def call(self, method: Callable, *arguments: Any) -> Any:
        """A method of `task`; float32 is float32 also on GPUs and TPUs, which multiply with less by default."""
        with jax.default_matmul_precision("float32" if self.dtype == "float32" else None):
            return method(*arguments)

    def predict(self, *arguments: Any) -> Any:
        """`task.predict`, by `call`."""
        return self.call(self.task.predict, *arguments)

    def __str__(self) -> str:
        device = jax.devices()[0]
        mean, std = (", ".join(f"{v:.4g}" for v in values) for values in (self.task.mean, self.task.std))
        return (
            f"{self.directory} on {device.platform} ({device.device_kind}), {self.dtype}, "
            f"normalization {self.normalization} (mean {mean}; std {std})"
        )


def load_model(
    checkpoint: str | os.PathLike,
    normalization: str = "checkpoint",
    dtype: str = "auto",
    caption_charset: str | None = None,
    margins: Sequence[float] | None = None,
    vocabulary_weight: float | None = None,
) -> Model[RecognitionModel]:
    """Reads a recognizer.

    Args:
        checkpoint: a model directory, or the working directory of a training run (its `best`, else its
            `last`).
        normalization: "checkpoint" as in training, "half" with mean and deviation 0.5.
        dtype: of the computation; "auto" is float32 on a CPU and bfloat16 elsewhere.
        caption_charset: overrides which characters of a prediction reach the text encoder.
        margins: of the pictures of each word that are read; None: those of the model, else the word as it is.
        vocabulary_weight: how much known words are preferred, see `CLIP4STRConfig`; None: as much as the model does.

    Raises:
        FileNotFoundError: no model at `checkpoint`.
        ValueError: a broken model, one of another kind, or an argument outside its choices.
    """
    if normalization not in NORMALIZATIONS:
        raise ValueError(f"normalization is {normalization!r}; expected one of {', '.join(NORMALIZATIONS)}")

    def build(contents: Pretrained) -> RecognitionModel:
        config = from_dict(CLIP4STRConfig, contents.model, "model")
        if caption_charset is not None:
            config = dataclasses.replace(config, caption_charset=caption_charset)
        if vocabulary_weight is not None:
            config = dataclasses.replace(config, vocabulary_weight=vocabulary_weight)
        mean, std = contents.preprocessing["mean"], contents.preprocessing["std"]
        if normalization == "half":
            mean, std = MEAN_STD_0_5, MEAN_STD_0_5
        ways = contents.preprocessing.get("margins", SINGLE_VIEW) if margins is None else margins
        return RecognitionModel(config, mean, std, jnp.dtype(compute_dtype(dtype)), margins=ways)

    if margins is not None:
        check_margins(margins)  # else it would be the model's fault
    if vocabulary_weight is not None:
        Vocabulary(vocabulary_weight)  # as above
    return _load(checkpoint, "recognition", build, normalization)


def load_detector(
    checkpoint: str | os.PathLike, dtype: str = "auto", decoding: Mapping[str, Any] | None = None
) -> Model[DetectionModel]:
    """Reads a detector; arguments and errors as of `load_model`.

    Args:
        decoding: overrides parameters of the decoding, the family's `decoding_fields`.
    """

    def build(contents: Pretrained) -> DetectionModel:
        mean, std = contents.preprocessing["mean"], contents.preprocessing["std"]
        return DetectionModel(detection_config(contents.model), mean, std, jnp.dtype(compute_dtype(dtype)))

    model = _load(checkpoint, "detection", build, "checkpoint")
    task = model.task
    config = _with_decoding(task.config, decoding or {})
    return dataclasses.replace(model, task=DetectionModel(config, task.mean, task.std, task.model.dtype))


def compute_dtype(name: str):
    """The type that one of `DTYPES` stands for on this machine.

    Raises:
        ValueError: another name.
    """
    if name not in DTYPES:
        raise ValueError(f"dtype is {name!r}; expected one of {', '.join(DTYPES)}")
    if name == "auto":
        name = "float32" if jax.default_backend() == "cpu" else "bfloat16"
    return {"float32": jnp.float32, "bfloat16": jnp.bfloat16}[name]


def find_model(checkpoint: str | os.PathLike) -> Path:
    """The model directory at `checkpoint`: itself, or `best` or `last` of a training run's working directory.

    Raises:
        FileNotFoundError: neither.
        OSError: a remote path can't be reached.
    """
    root = as_path(checkpoint)
    with wrap_remote_errors(root):
        for directory in (root, *(root / name for name in _IN_WORKDIR)):
            if all((directory / name).is_file() for name in (pretrained.CONFIG, pretrained.WEIGHTS)):
                return directory
        exists, is_file = root.exists(), root.is_file()
    if not exists:
        problem = "does not exist"
    elif is_file:
        problem = "is a file; a checkpoint of PyTorch is converted with `tcm-jax convert` first"
    else:
        problem = f"has no {pretrained.CONFIG} and {pretrained.WEIGHTS}, nor has a folder best or last in it"
    raise FileNotFoundError(f"{root} {problem}; expected a model directory or a training's working directory")


def _load(checkpoint: str | os.PathLike, kind: str, build: Callable[[Pretrained], Task], normalization: str):
    """The model at `checkpoint`, of the task `kind`, with what `build` makes of its contents."""
    directory = find_model(checkpoint)
    contents = pretrained.load(directory)
    if contents.task != kind:
        raise ValueError(f"{directory} is a model for {contents.task!r}; {_PURPOSES[kind]} needs one for {kind!r}")
    try:
        task = build(contents)
    except (KeyError, TypeError, ValueError) as error:
        raise ValueError(f"{directory / pretrained.CONFIG} describes no model for {kind}: {error}") from error
    _check_shapes(directory, task, contents)
    return Model(directory, contents, task, normalization)


def _with_decoding(config: DetectionConfig, overrides: Mapping[str, Any]) -> DetectionConfig:
    """`config` with other parameters of decoding.

    Raises:
        ValueError: an unknown name, or a value of another type or outside its choices.
    """
    detector: Any = config.detector
    known, hints = detector.decoding_fields, typing.get_type_hints(type(detector))
    for name, value in overrides.items():
        if name not in known:
            near = difflib.get_close_matches(name, known, n=1)
            hint = f"did you mean {near[0]!r}?" if near else f"known are {', '.join(known)}"
            raise ValueError(f"{name!r} is no parameter of a {config.family} detector's decoding; {hint}")
        kind = hints[name]
        fits = isinstance(value, (int, float) if kind is float else kind)
        if not fits or (kind is bool) != isinstance(value, bool):  # a bool is an int for Python
            raise ValueError(f"{name} is {value!r}; expected {kind.__name__}, such as {getattr(detector, name)!r}")
    return dataclasses.replace(config, detector=dataclasses.replace(detector, **overrides))


def _check_shapes(directory: Path, task: RecognitionModel | DetectionModel, contents: Pretrained) -> None:
    """Raises ValueError unless the weights are those of the model that the configuration describes."""
    expected = pretrained.shapes(jax.eval_shape(task.init, jax.random.key(0)))
    found = pretrained.shapes(contents.variables)
    for path in sorted(expected.keys() | found.keys()):
        if expected.get(path) != found.get(path):
            raise ValueError(
                f"{directory}: weight {path} has shape {found.get(path)}, but {pretrained.CONFIG} asks for "
                f"{expected.get(path)} (None: there is no such weight)"
            )
