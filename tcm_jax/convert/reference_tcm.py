"""TCM's detectors once more, as plain PyTorch functions of a state dict: what `--verify` compares with.

As in `tcm_jax.convert.reference`, nothing is shared with the Flax models. Maps are [b, d, h, w].
"""

from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from tcm_jax.convert.reference import StateDict, attend, resnet_stages, text_transformer
from tcm_jax.detection.db import DBNet
from tcm_jax.detection.fce import FCENet
from tcm_jax.detection.model import DetectionConfig
from tcm_jax.detection.pan import PAN
from tcm_jax.models.tcm import TCMConfig
from tcm_jax.text import bpe


def forward(s: StateDict, config: DetectionConfig, images: Tensor) -> dict[str, Tensor]:
    """Every stage of a detector by name, in the order of the computation.

    Args:
        images: normalized [b, 3, h, w], sides multiples of 32.
    """
    tcm = config.tcm
    stages = resnet_stages(s.part("backbone"), tcm.clip, images)
    results = {f"c{i}": stage for i, stage in enumerate(stages, start=2)}
    if tcm.text_matching:
        tokens = s.attention_pool("backbone.attnpool", tcm.clip.vision_heads, stages[-1])  # [b, 1 + n, d]
        results |= {"global feature": tokens[:, 0], "dense features": tokens[:, 1:]}
        raw, text, similarity = match(s, tcm, tokens)
        results |= {"text embedding": raw, "text embedding, refined": text}
        results["score map"] = similarity.unflatten(1, stages[-1].shape[2:])  # [b, h / 32, w / 32]
        stages[-1] = torch.cat([stages[-1], results["score map"][:, None]], 1)
    stages = [stages[i] for i in config.detector.stages]
    return results | HEADS[config.family](s, config.detector, stages)


def match(s: StateDict, config: TCMConfig, tokens: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Text embedding [b, d] before and after the refinements, and cosine similarities of the image tokens [b, n].

    Args:
        tokens: [b, 1 + n, d], the global one first.
    """
    image, dense = tokens[:, 0], tokens[:, 1:]
    raw = text = text_embedding(s, config, image).expand(len(tokens), -1)
    if config.fast:
        feature, text = F.normalize(image @ s["pix_w"], dim=-1), F.normalize(text, dim=-1)
        text = (text * feature).sum(-1, keepdim=True) * feature + text
    refined = text[:, None]  # [b, 1, d]
    if config.visual_prompt:
        dense = dense + s["vis_gamma"] * context_decoder(s.part("visual_prompt_generator"), config, dense, refined)
    if config.context_decoder:
        refined = refined + s["gamma"] * context_decoder(s.part("context_decoder"), config, refined, tokens)
    similarity = (F.normalize(dense, dim=-1) * F.normalize(refined, dim=-1)).sum(-1)
    if config.scale_score_map:
        similarity = similarity * s["logit_scale"].exp()
    return raw, refined[:, 0], similarity


def text_embedding(s: StateDict, config: TCMConfig, image: Tensor) -> Tensor:
    """The text tower on the prompt, [1, d]; [b, d] if it depends on the global image features [b, d]."""
    x, end = s["contexts"], s["contexts"].shape[1] - 1  # [1, t, width]; the position that is read
    tower = s.part("text_encoder")
    if config.prompt:
        ids = torch.tensor(bpe.tokenize([config.prompt], config.clip.text_positions), dtype=torch.long)
        words = tower["token_embedding.weight"][ids[:, : config.clip.text_positions - x.shape[1]]]
        end = int(ids.argmax()) + x.shape[1]
        x = torch.cat([words[:, :1], x, words[:, 1:]], 1)
    if config.language_prompt:
        query, generator = s["meta_query"][None] if config.fast else image, s.part("prompt_generator.prompt_proj")
        y = F.relu(generator.linear("1", generator.norm("0", query)))
        x = x + generator.linear("4", generator.norm("3", y))[:, None]
    x = text_transformer(tower, config.clip, x)
    return tower.norm("ln_final", x[:, end]) @ tower["text_projection"]


def context_decoder(s: StateDict, config: TCMConfig, x: Tensor, memory: Tensor) -> Tensor:
    """Attention of x [b, q, d] over memory [b, m, d], in a small width; `s` is the decoder's."""

    def attention(name: str, x: Tensor, memory: Tensor) -> Tensor:
        query, key, value = (
            F.linear(y, s[f"{name}.{n}_proj.weight"]) for n, y in (("q", x), ("k", memory), ("v", memory))
        )
        return s.linear(f"{name}.proj", attend(query, key, value, config.decoder_heads))

    memory = s.linear("memory_proj.1", s.norm("memory_proj.0", memory))
    memory = s.norm("memory_proj.2", memory)
    x = s.linear("text_proj.1", s.norm("text_proj.0", x))
    for i in range(config.decoder_layers):
        layer = f"decoder.{i}"
        y = s.norm(f"{layer}.norm1", x)
        x = x + attention(f"{layer}.self_attn", y, y)
        x = x + attention(f"{layer}.cross_attn", s.norm(f"{layer}.norm2", x), memory)
        x = x + s.linear(f"{layer}.mlp.3", F.gelu(s.linear(f"{layer}.mlp.0", s.norm(f"{layer}.norm3", x))))
    return s.linear("out_proj.1", s.norm("out_proj.0", x))


def pyramid(s: StateDict, stages: list[Tensor]) -> list[Tensor]:
    """Feature pyramid: lateral convolutions, and every level added to the next finer one."""
    levels = [s.conv(f"neck.lateral_convs.{i}.conv", stage) for i, stage in enumerate(stages)]
    for i in range(len(levels) - 1, 0, -1):
        levels[i - 1] = levels[i - 1] + F.interpolate(levels[i], levels[i - 1].shape[2:])
    return levels


def db(s: StateDict, detector: DBNet, stages: list[Tensor]) -> dict[str, Tensor]:
    """FPNC and DBHead: probability, threshold and binary map, [b, 3, h, w]."""
    levels = [s.conv(f"neck.smooth_convs.{i}.conv", level) for i, level in enumerate(pyramid(s, stages))]
    x = torch.cat([F.interpolate(level, levels[0].shape[2:]) for level in levels], 1)

    def branch(name: str) -> Tensor:
        y = F.relu(s.batch_norm(f"{name}.1", s.conv(f"{name}.0", x)))
        y = F.conv_transpose2d(y, s[f"{name}.3.weight"], s[f"{name}.3.bias"], stride=2)
        y = F.relu(s.batch_norm(f"{name}.4", y))
        return torch.sigmoid(F.conv_transpose2d(y, s[f"{name}.6.weight"], s[f"{name}.6.bias"], stride=2))

    probability, threshold = branch("bbox_head.binarize"), branch("bbox_head.threshold")
    binary = torch.sigmoid(detector.steepness * (probability - threshold))
    return {"maps": torch.cat([probability, threshold, binary], 1)}


def pan(s: StateDict, detector: PAN, stages: list[Tensor]) -> dict[str, Tensor]:
    """FPEM_FFM and PANHead: logits of text and kernel, and embedding, [b, 6, h / 4, w / 4]."""
    levels = [
        F.relu(s.batch_norm(f"neck.reduce_conv_c{i}.1", s.conv(f"neck.reduce_conv_c{i}.0", stage)))
        for i, stage in enumerate(stages, start=2)
    ]
    total = [torch.zeros_like(level) for level in levels]
    for i in range(detector.repeats):
        levels = _fpem(s, f"neck.fpems.{i}", levels)
        total = [a + b for a, b in zip(total, levels, strict=True)]
    sides = total[0].shape[2:]
    total = [total[0], *(F.interpolate(y, sides, mode="bilinear", align_corners=False) for y in total[1:])]
    return {"maps": s.conv("bbox_head.out_conv", torch.cat(total, 1))}


def _fpem(s: StateDict, name: str, levels: list[Tensor]) -> list[Tensor]:
    """One FPEM: coarser levels are added to finer ones, then the other way round."""

    def separable(layer: str, x: Tensor, stride: int) -> Tensor:
        y = s.conv(f"{name}.{layer}.depthwise_conv", x, stride, groups=x.shape[1])
        return F.relu(s.batch_norm(f"{name}.{layer}.bn", s.conv(f"{name}.{layer}.pointwise_conv", y)))

    def add(coarse: Tensor, fine: Tensor) -> Tensor:
        return F.interpolate(coarse, fine.shape[2:]) + fine

    levels = list(levels)
    for i in (1, 2, 3):
        levels[3 - i] = separable(f"up_add{i}", add(levels[4 - i], levels[3 - i]), 1)
    for i in (1, 2, 3):
        levels[i] = separable(f"down_add{i}", add(levels[i], levels[i - 1]), 2)
    return levels


def fce(s: StateDict, detector: FCENet, stages: list[Tensor]) -> dict[str, Tensor]:
    """FPN and FCEHead: class logits [b, 4, h, w] and Fourier coefficients of every level."""
    results = {}
    for i, level in enumerate(pyramid(s, stages)):
        x = s.conv(f"neck.fpn_convs.{i}.conv", level)
        results[f"classes p{i + 3}"] = s.conv("bbox_head.out_conv_cls", x)
        results[f"coefficients p{i + 3}"] = s.conv("bbox_head.out_conv_reg", x)
    return results


HEADS: dict[str, Callable[[StateDict, Any, list[Tensor]], dict[str, Tensor]]] = {"db": db, "pan": pan, "fce": fce}
