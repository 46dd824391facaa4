"""From a model directory or a training's working directory to a recognizer that can run."""

import dataclasses
import os
from dataclasses import dataclass
from pathlib import Path

import jax
import jax.numpy as jnp

from tcm_jax import pretrained
from tcm_jax.config import from_dict
from tcm_jax.data.images import HALF
from tcm_jax.models.clip4str import Clip4StrConfig
from tcm_jax.pretrained import Pretrained
from tcm_jax.tasks.recognition import Prediction, Recognition, Variables

NORMALIZATIONS = ("checkpoint", "half")
DTYPES = ("auto", "float32", "bfloat16")
_IN_WORKDIR = ("best", "last")


@dataclass(frozen=True)
class Model:
    """A recognizer, ready to run; str() tells the user what runs where and how.

    Args:
        directory: the model directory.
        contents: what it holds; task: the objective with normalization and dtype applied.
    """

    directory: Path
    contents: Pretrained
    task: Recognition
    normalization: str

    @property
    def dtype(self) -> str:
        return jnp.dtype(self.task.model.dtype).name

    def predict(self, variables: Variables, images: jax.Array) -> Prediction:
        """`task.predict`; float32 is float32 also on GPUs and TPUs, which multiply with less by default."""
        with jax.default_matmul_precision("float32" if self.dtype == "float32" else None):
            return self.task.predict(variables, images)

    def __str__(self) -> str:
        device = jax.devices()[0]
        return f"{self.directory} on {device.platform} ({device.device_kind}), {self.dtype}, {self.describe()}"

    def describe(self) -> str:
        """The normalization in words."""
        mean, std = (", ".join(f"{v:.4g}" for v in values) for values in (self.task.mean, self.task.std))
        return f"normalization {self.normalization} (mean {mean}; std {std})"


def load_model(
    checkpoint: str | os.PathLike,
    normalization: str = "checkpoint",
    dtype: str = "auto",
    caption_charset: str | None = None,
) -> Model:
    """Reads a recognizer.

    Args:
        checkpoint: a model directory, or the working directory of a training run (its `best`, else its
            `last`).
        normalization: "checkpoint" as in training, "half" with mean and deviation 0.5.
        dtype: of the computation; "auto" is float32 on a CPU and bfloat16 elsewhere.
        caption_charset: overrides which characters of a prediction reach the text encoder.

    Raises:
        FileNotFoundError: no model at `checkpoint`.
        ValueError: a broken model, one of another kind, or an argument outside its choices.
    """
    if normalization not in NORMALIZATIONS:
        raise ValueError(f"normalization is {normalization!r}; expected one of {', '.join(NORMALIZATIONS)}")
    if dtype not in DTYPES:
        raise ValueError(f"dtype is {dtype!r}; expected one of {', '.join(DTYPES)}")
    directory = find_model(checkpoint)
    contents = pretrained.load(directory)
    if contents.task != "recognition":
        raise ValueError(f"{directory} is a model for {contents.task!r}; reading needs one for 'recognition'")
    try:
        config = from_dict(Clip4StrConfig, contents.model, "model")
        if caption_charset is not None:
            config = dataclasses.replace(config, caption_charset=caption_charset)
        mean, std = contents.preprocessing["mean"], contents.preprocessing["std"]
    except (KeyError, TypeError, ValueError) as error:
        raise ValueError(f"{directory / pretrained.CONFIG} doesn't describe a recognizer: {error}") from error
    if normalization == "half":
        mean, std = HALF, HALF
    task = Recognition(config, mean, std, jnp.dtype(compute_dtype(dtype)))
    _check_shapes(directory, task, contents)
    return Model(directory, contents, task, normalization)


def compute_dtype(name: str):
    """The type that one of `DTYPES` stands for on this machine."""
    if name == "auto":
        name = "float32" if jax.default_backend() == "cpu" else "bfloat16"
    return {"float32": jnp.float32, "bfloat16": jnp.bfloat16}[name]


def find_model(checkpoint: str | os.PathLike) -> Path:
    """The model directory at `checkpoint`: itself, or `best` or `last` of a training run's working directory.

    Raises:
        FileNotFoundError: neither.
    """
    root = Path(checkpoint)
    for directory in (root, *(root / name for name in _IN_WORKDIR)):
        if all((directory / name).is_file() for name in (pretrained.CONFIG, pretrained.WEIGHTS)):
            return directory
    if not root.exists():
        problem = "does not exist"
    elif root.is_file():
        problem = "is a file; a checkpoint of PyTorch is converted with `python -m convert` first"
    else:
        problem = f"has no {pretrained.CONFIG} and {pretrained.WEIGHTS}, nor has a folder best or last in it"
    raise FileNotFoundError(f"{root} {problem}; expected a model directory or a training's working directory")


def _check_shapes(directory: Path, task: Recognition, contents: Pretrained) -> None:
    """Raises ValueError unless the weights are those of the model that the configuration describes."""
    expected = pretrained.shapes(jax.eval_shape(task.init, jax.random.key(0)))
    found = pretrained.shapes(contents.variables)
    for path in sorted(expected.keys() | found.keys()):
        if expected.get(path) != found.get(path):
            raise ValueError(
                f"{directory}: weight {path} has shape {found.get(path)}, but {pretrained.CONFIG} asks for "
                f"{expected.get(path)} (None: there is no such weight)"
            )
