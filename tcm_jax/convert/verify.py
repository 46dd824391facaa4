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
from tcm_jax.models.decoding import decode
from tcm_jax.pretrained import Pretrained
from tcm_jax.text import bpe
from tcm_jax.text.charset import CharsetTokenizer

TOLERANCE = 2e-4  # of the largest absolute value
BATCH = 4
DETECTOR_IMAGES = (2, 96, 160)
TEXTS = ("street", "exit 24", "coffee shop", "a")


@dataclass(frozen=True)
class Difference:
    """One stage: largest absolute difference, and the same relative to the largest value of the reference."""

    stage: str
    absolute: float
    relative: float

    @property
    def passed(self) -> bool:
        return self.relative <= TOLERANCE  # False for NaN


def _difference(stage: str, ours: jax.Array, theirs: torch.Tensor) -> Difference:
    expected = theirs.numpy().astype(np.float64)
    absolute = float(np.abs(np.asarray(ours, np.float64) - expected).max())
    return Difference(stage, absolute, absolute / max(float(np.abs(expected).max()), 1e-30))


@torch.no_grad()
def verify(model: Pretrained, architecture: Architecture, seed: int = 0) -> list[Difference]:
    """Runs random images and a few texts through both; matrix products at full float32 precision."""
    config = architecture.config
    s = reference.tensors(architecture.tensors, architecture.layout == "huggingface")
    rng = np.random.default_rng(seed)
    size = DETECTOR_IMAGES if isinstance(config, DetectionConfig) else (BATCH, *clip_of(config).image_size)
    images = rng.standard_normal((*size, 3), np.float32)
    with jax.default_matmul_precision("highest"):
        if isinstance(config, DetectionConfig):
            return _detector(s, config, model.variables, images)
        if isinstance(config, CLIPConfig):
            return _clip(s, "", config, model.variables, images, config.text_positions)
        inner = {"params": model.variables["params"]["clip_model"]}
        return [
            *_clip(s, "clip_model.", config.clip, inner, images, config.context_length),
            *_decoders(s, config, model.variables, images, rng),
        ]


def _channels_first(images: np.ndarray) -> torch.Tensor:
    return torch.from_numpy(np.asarray(images.transpose(0, 3, 1, 2), order="C"))


def _clip(
    s: reference.State,
    prefix: str,
    config: CLIPConfig,
    variables: Mapping[str, Any],
    images: np.ndarray,
    context_length: int,
) -> list[Difference]:
    model, pixels = CLIP(config), _channels_first(images)

    def encode(variables, images):
        return model.apply(variables, images, method="encode_image", mutable=["intermediates"])

    tokens, sown = jax.jit(encode)(variables, images)
    if config.is_resnet:
        rows = [_difference("image embedding", tokens, reference.resnet_embedding(s, config, pixels))]
    else:
        patches = sown["intermediates"]["visual"]["ln_pre_out"][0]
        expected = reference.image_tokens(s, prefix, config, pixels) @ s[f"{prefix}visual.proj"]
        rows = [
            _difference("patches, ln_pre", patches, reference.embed_patches(s, prefix, config, pixels)),
            _difference("image tokens", tokens, expected),
        ]
    ids = bpe.tokenize(TEXTS, context_length, truncate=True)
    text = jax.jit(lambda v, ids: model.apply(v, ids, method="encode_text"))(variables, ids)
    expected = reference.text_tokens(s, prefix, config, torch.tensor(ids, dtype=torch.long))
    return [*rows, _difference("text tokens", text, expected)]


def _decoders(
    s: reference.State,
    config: CLIP4STRConfig,
    variables: Mapping[str, Any],
    images: np.ndarray,
    rng: np.random.Generator,
) -> list[Difference]:
    """Both decoders on random words, then whole decodings."""
    model, reader, tokenizer = CLIP4STR(config), reference.Reader(s, config), CharsetTokenizer(config.charset)
    lengths = rng.integers(1, config.max_label_length + 1, BATCH)
    words = ["".join(rng.choice(list(config.charset), n)) for n in lengths]
    labels = tokenizer.encode(words, config.max_label_length)
    ids = np.where(labels == tokenizer.pad_id, tokenizer.eos_id, labels)[:, :-1]  # [b, t]
    t = ids.shape[1]

    def ours(variables, images, ids):
        def call(method, *args):
            return model.apply(variables, *args, method=method)

        mask = jnp.tri(t, dtype=bool)[None, None]
        tokens = call("encode_image", images)
        memory = {"visual": [tokens]}
        if config.use_language_model:
            caption = call("encode_caption", call("captions", ids[:, 1:], t - 1))
            memory["cross"] = [call("cross_image_tokens", tokens), caption]
        return {
            branch: call(
                "decode",
                branch,
                ids[:, None],
                [call("project_memory", branch, m[:, None]) for m in parts],
                mask,
                mask,
            )[:, 0]
            for branch, parts in memory.items()
        }

    logits = jax.jit(ours)(variables, images, ids)
    pixels, known = _channels_first(images), torch.tensor(ids, dtype=torch.long)
    visual, cross = reader.image_memory(pixels)
    rows = [_difference("visual decoder", logits["visual"], reader.teacher_forced("visual", known, visual))]
    if config.use_language_model:
        memory = torch.cat([cross, reader.caption_memory(known[:, 1:])], 1)
        rows.append(_difference("cross decoder", logits["cross"], reader.teacher_forced("cross", known, memory)))

    decoded = jax.jit(lambda v, images: decode(model, v, images).logits)(variables, images)
    strings = tokenizer.decode(np.asarray(decoded).argmax(-1))
    wrong = sum(a != b for a, b in zip(strings, reader.read(pixels), strict=True))
    return [*rows, Difference(f"strings that differ, of {BATCH}", wrong, wrong / BATCH)]


def _detector(
    s: reference.State, config: DetectionConfig, variables: Mapping[str, Any], images: np.ndarray
) -> list[Difference]:
    """Every stage from the backbone to the head's outputs."""
    model = DetectionModel(config).model

    def run(model, images):
        return model.backbone(images, dense=config.tcm.text_matching), model(images)

    def ours(variables, images):
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

    expected = reference_tcm.forward(s, config, _channels_first(images))
    actual = jax.jit(ours)(variables, images)
    return [
        _difference(name, actual[name], theirs.permute(0, 2, 3, 1) if theirs.ndim == 4 else theirs)
        for name, theirs in expected.items()
    ]


def report(rows: list[Difference]) -> str:
    """The differences as a table."""
    lines = [f"{'stage':<28}{'max abs':>12}{'max rel':>12}"]
    for row in rows:
        verdict = "" if row.passed else f"  above {TOLERANCE:g}"
        lines.append(f"{row.stage:<28}{row.absolute:>12.3g}{row.relative:>12.3g}{verdict}")
    return "\n".join(lines)
