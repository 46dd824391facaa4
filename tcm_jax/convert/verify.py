"""A converted model against PyTorch functions on the checkpoint it came from, stage by stage."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import torch

from tcm_jax.convert import reference, reference_tcm
from tcm_jax.convert.architecture import Architecture, clip_of
from tcm_jax.detection.model import DetectionConfig, DetectionModel
from tcm_jax.models.clip import CLIP, CLIPConfig
from tcm_jax.models.clip4str import CLIP4STR, CLIP4STRConfig
from tcm_jax.models.decoder import Decoder
from tcm_jax.models.decoding import decode
from tcm_jax.models.tcm import TCM, TCMOutput
from tcm_jax.pretrained import Pretrained
from tcm_jax.text import bpe
from tcm_jax.text.charset import CharsetTokenizer

TOLERANCE = 2e-4  # of the largest absolute value
BATCH = 4
DETECTOR_IMAGES = (2, 96, 160)
Stages = dict[str, jax.Array]
Variables = Mapping[str, Any]
TEXTS = ("street", "exit 24", "coffee shop", "a")


@dataclass(frozen=True)
class Difference:
    """One stage: largest absolute difference, and the same relative to the largest value of the reference."""

    stage: str
    absolute: float
    relative: float

    @property
    def passed(self) -> bool:
        """Whether the relative difference is within `TOLERANCE`; False for NaN."""
        return self.relative <= TOLERANCE


@torch.no_grad()
def verify(model: Pretrained, architecture: Architecture, seed: int = 0) -> list[Difference]:
    """Runs random images and a few texts through both; matrix products at full float32 precision.

    Args:
        model: what `architecture`, which holds the PyTorch tensors, was converted to.
    """
    config = architecture.config
    s = reference.tensors(architecture.tensors, architecture.layout == "huggingface")
    rng = np.random.default_rng(seed)
    size = DETECTOR_IMAGES if isinstance(config, DetectionConfig) else (BATCH, *clip_of(config).image_size)
    images = rng.standard_normal((*size, 3), np.float32)
    with jax.default_matmul_precision("highest"):
        if isinstance(config, DetectionConfig):
            return _detector(s, config, model.variables, images)
        if isinstance(config, CLIPConfig):
            return _clip(s, config, model.variables, images, config.text_positions)
        inner = {"params": model.variables["params"]["clip_model"]}
        return [
            *_clip(s.part("clip_model"), config.clip, inner, images, config.context_length),
            *_decoders(s, config, model.variables, images, rng),
        ]


def _compare(actual: Stages, expected: Mapping[str, torch.Tensor]) -> list[Difference]:
    """The stages of `expected`, where maps have their channels first."""
    rows = []
    for stage, tensor in expected.items():
        theirs = (tensor.permute(0, 2, 3, 1) if tensor.ndim == 4 else tensor).numpy().astype(np.float64)
        absolute = float(np.abs(np.asarray(actual[stage], np.float64) - theirs).max())
        rows.append(Difference(stage, absolute, absolute / max(float(np.abs(theirs).max()), 1e-30)))
    return rows


def _channels_first(images: np.ndarray) -> torch.Tensor:
    return torch.from_numpy(np.asarray(images.transpose(0, 3, 1, 2), order="C"))


def _clip(
    s: reference.StateDict, config: CLIPConfig, variables: Variables, images: np.ndarray, context_length: int
) -> list[Difference]:
    """Both towers."""
    model, ids = CLIP(config), bpe.tokenize(TEXTS, context_length, truncate=True)

    def ours(variables: Variables, images: jax.Array, ids: jax.Array) -> Stages:
        tokens, sown = model.apply(variables, images, method="encode_image", mutable=["intermediates"])
        stages = {"image embedding" if config.is_resnet else "image tokens": tokens}
        if not config.is_resnet:
            stages["patches, ln_pre"] = sown["intermediates"]["visual"]["ln_pre_out"][0]
        return stages | {"text tokens": model.apply(variables, ids, method="encode_text")}

    actual = jax.jit(ours)(variables, images, ids)
    known = torch.tensor(ids, dtype=torch.long)
    return _compare(actual, reference.clip_stages(s, config, _channels_first(images), known))


def _decoders(
    s: reference.StateDict, config: CLIP4STRConfig, variables: Variables, images: np.ndarray, rng: np.random.Generator
) -> list[Difference]:
    """Both decoders on random words, then complete decodings."""
    model, tokenizer = CLIP4STR(config), CharsetTokenizer(config.charset)
    lengths = rng.integers(1, config.max_label_length + 1, BATCH)
    words = ["".join(rng.choice(list(config.charset), n)) for n in lengths]
    labels = tokenizer.encode(words, config.max_label_length)
    ids = np.where(labels == tokenizer.pad_id, tokenizer.eos_id, labels)[:, :-1]  # [b, t]
    t = ids.shape[1]

    def ours(variables: Variables, images: jax.Array, ids: jax.Array) -> Stages:
        bound = model.bind(variables)
        mask = jnp.tri(t, dtype=bool)[None, None]
        tokens = bound.encode_image(images)
        memory = {"visual": [tokens]}
        if config.use_language_model:
            caption = bound.encode_caption(bound.captions(ids[:, 1:], t - 1))
            memory["cross"] = [bound.cross_image_tokens(tokens), caption]

        def decode_all(decoder: Decoder, parts: list[jax.Array]) -> jax.Array:
            memories = [decoder.project_memory(part[:, None]) for part in parts]
            return decoder(ids[:, None], memories, mask, mask)[:, 0]

        return {f"{branch} decoder": decode_all(bound.decoder(branch), parts) for branch, parts in memory.items()}

    reader, pixels = reference.TorchCLIP4STR(s, config), _channels_first(images)
    known = torch.tensor(ids, dtype=torch.long)
    visual, cross = reader.image_memory(pixels)
    expected = {"visual decoder": reader.teacher_forced("visual", known, visual)}
    if config.use_language_model:
        memory = torch.cat([cross, reader.caption_memory(known[:, 1:])], 1)
        expected["cross decoder"] = reader.teacher_forced("cross", known, memory)
    rows = _compare(jax.jit(ours)(variables, images, ids), expected)

    decoded = jax.jit(lambda v, images: decode(model, v, images).logits)(variables, images)
    strings = tokenizer.decode(np.asarray(decoded).argmax(-1))
    wrong = sum(a != b for a, b in zip(strings, reader.read(pixels), strict=True))
    return [*rows, Difference(f"strings that differ, of {BATCH}", wrong, wrong / BATCH)]


def _detector(
    s: reference.StateDict, config: DetectionConfig, variables: Variables, images: np.ndarray
) -> list[Difference]:
    """Every stage from the backbone to the head's outputs."""
    model = DetectionModel(config).model

    def run(model: TCM, images: jax.Array) -> tuple[Any, TCMOutput]:
        return model.backbone(images, dense=config.tcm.text_matching), model(images)

    def ours(variables: Variables, images: jax.Array) -> Stages:
        (features, output), sown = model.apply(variables, images, method=run, mutable=["intermediates"])
        stages = {f"c{i}": stage for i, stage in enumerate(features.stages, start=2)}
        if config.tcm.text_matching:
            inner = sown["intermediates"]
            stages |= {"global feature": features.tokens[:, 0], "dense features": features.tokens[:, 1:]}
            stages |= {"text embedding": inner["text_embeddings_raw"][0]}
            stages |= {"text embedding, refined": inner["text_embeddings"][0][:, 0], "score map": output.score_map}
        if config.family != "fce":
            return stages | {"maps": output.outputs}
        for i, level in enumerate(output.outputs, start=3):
            stages |= {f"classes p{i}": level.logits, f"coefficients p{i}": level.coefficients}
        return stages

    return _compare(jax.jit(ours)(variables, images), reference_tcm.forward(s, config, _channels_first(images)))


def report(rows: list[Difference]) -> str:
    """The differences as a table."""
    lines = [f"{'stage':<28}{'max abs':>12}{'max rel':>12}"]
    for row in rows:
        verdict = "" if row.passed else f"  above {TOLERANCE:g}"
        lines.append(f"{row.stage:<28}{row.absolute:>12.3g}{row.relative:>12.3g}{verdict}")
    return "\n".join(lines)
