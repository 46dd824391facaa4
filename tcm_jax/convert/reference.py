"""CLIP and CLIP4STR once more, as plain PyTorch functions of a state dict: what `--verify` compares with.

Nothing is shared with the Flax models, and nothing is fast: every step of a decoding runs the whole prefix.
`s` is a state dict of float32 tensors, `name` and `prefix` stand before its keys. Images are [b, 3, h, w].
"""

import re
from collections.abc import Mapping

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from tcm_jax.models.clip import CLIPConfig
from tcm_jax.models.clip4str import CLIP4STRConfig
from tcm_jax.text import bpe
from tcm_jax.text.charset import CharsetAdapter, CharsetTokenizer

State = Mapping[str, Tensor]

# Keys of transformers' CLIPModel -> OpenAI's, applied in this order.
_HUGGINGFACE = (
    (r"vision_model\.embeddings\.patch_embedding", "visual.conv1"),
    (r"vision_model\.embeddings\.position_embedding\.weight", "visual.positional_embedding"),
    (r"text_model\.embeddings\.position_embedding\.weight", "positional_embedding"),
    (r"\.pre_layrnorm", ".ln_pre"),
    (r"\.post_layernorm", ".ln_post"),
    (r"\.final_layer_norm", ".ln_final"),
    (r"\.encoder\.layers\.", ".transformer.resblocks."),
    (r"\.self_attn\.", ".attn."),
    (r"\.layer_norm", ".ln_"),
    (r"\.fc1", ".c_fc"),
    (r"\.fc2", ".c_proj"),
    (r"(vision_model|text_model)\.embeddings\.", r"\1."),
    (r"vision_model\.", "visual."),
    (r"text_model\.", ""),
)


def tensors(arrays: Mapping[str, np.ndarray], huggingface: bool) -> dict[str, Tensor]:
    """The state dict for the functions below; one of transformers gets OpenAI's keys and fused attention."""
    state = {key: torch.from_numpy(x if x.flags.writeable else x.copy()) for key, x in arrays.items()}
    if not huggingface:
        return state
    renamed = {"visual.proj": state.pop("visual_projection.weight").T}
    renamed["text_projection"] = state.pop("text_projection.weight").T
    for key, value in state.items():
        for pattern, replacement in _HUGGINGFACE:
            key = re.sub(pattern, replacement, key)
        renamed[key] = value
    for key in [k for k in renamed if ".attn.q_proj." in k]:
        parts = [renamed[key.replace("q_proj", f"{name}_proj")] for name in "qkv"]
        renamed[key.replace("q_proj.", "in_proj_")] = torch.cat(parts)
    return renamed


def norm(s: State, name: str, x: Tensor) -> Tensor:
    return F.layer_norm(x, x.shape[-1:], s[f"{name}.weight"], s[f"{name}.bias"])


def linear(s: State, name: str, x: Tensor) -> Tensor:
    return F.linear(x, s[f"{name}.weight"], s[f"{name}.bias"])


def attention(s: State, name: str, x: Tensor, memory: Tensor, heads: int, mask: Tensor | None = None) -> Tensor:
    """Attention of x [b, q, d] over memory [b, m, d]; mask is True where a query may look."""
    weights, biases = s[f"{name}.in_proj_weight"].chunk(3), s[f"{name}.in_proj_bias"].chunk(3)
    query, key, value = (
        F.linear(y, w, b).unflatten(-1, (heads, -1)).transpose(1, 2)
        for y, w, b in zip((x, memory, memory), weights, biases, strict=True)
    )
    y = F.scaled_dot_product_attention(query, key, value, attn_mask=mask)
    return linear(s, f"{name}.out_proj", y.transpose(1, 2).flatten(-2))


def transformer(s: State, name: str, x: Tensor, layers: int, heads: int, activation: str, mask=None) -> Tensor:
    for i in range(layers):
        block = f"{name}.resblocks.{i}"
        y = norm(s, f"{block}.ln_1", x)
        x = x + attention(s, f"{block}.attn", y, y, heads, mask)
        y = linear(s, f"{block}.mlp.c_fc", norm(s, f"{block}.ln_2", x))
        y = y * torch.sigmoid(1.702 * y) if activation == "quick_gelu" else F.gelu(y)
        x = x + linear(s, f"{block}.mlp.c_proj", y)
    return x


def embed_patches(s: State, prefix: str, config: CLIPConfig, images: Tensor) -> Tensor:
    """Tokens after ln_pre, [b, 1 + n, vision_width]."""
    v = f"{prefix}visual."
    x = F.conv2d(images, s[f"{v}conv1.weight"], stride=config.patch_size).flatten(2).transpose(1, 2)
    first = s[f"{v}class_embedding"].expand(len(x), 1, -1)
    return norm(s, f"{v}ln_pre", torch.cat([first, x], 1) + s[f"{v}positional_embedding"])


def image_tokens(s: State, prefix: str, config: CLIPConfig, images: Tensor) -> Tensor:
    """Tokens after ln_post, not projected, [b, 1 + n, vision_width]."""
    assert isinstance(config.vision_layers, int)
    x, v = embed_patches(s, prefix, config, images), f"{prefix}visual."
    x = transformer(s, f"{v}transformer", x, config.vision_layers, config.vision_heads, config.activation)
    return norm(s, f"{v}ln_post", x)


def text_tokens(s: State, prefix: str, config: CLIPConfig, ids: Tensor) -> Tensor:
    """Projected features of every position of ids [b, t], [b, t, embed_dim]."""
    t = ids.shape[1]
    x = s[f"{prefix}token_embedding.weight"][ids] + s[f"{prefix}positional_embedding"][:t]
    mask = torch.ones(t, t, dtype=torch.bool).tril()
    x = transformer(s, f"{prefix}transformer", x, config.text_layers, config.text_heads, config.activation, mask)
    return norm(s, f"{prefix}ln_final", x) @ s[f"{prefix}text_projection"]


def batch_norm(s: State, name: str, x: Tensor) -> Tensor:
    """With the running statistics; x [b, d, h, w]."""
    mean, variance = s[f"{name}.running_mean"], s[f"{name}.running_var"]
    return F.batch_norm(x, mean, variance, s[f"{name}.weight"], s[f"{name}.bias"])


def conv(s: State, name: str, x: Tensor, stride: int = 1, groups: int = 1) -> Tensor:
    """Padded by half the kernel."""
    weight = s[f"{name}.weight"]
    return F.conv2d(x, weight, s.get(f"{name}.bias"), stride, weight.shape[-1] // 2, groups=groups)


def resnet_stages(s: State, prefix: str, config: CLIPConfig, images: Tensor) -> list[Tensor]:
    """Outputs of the ModifiedResNet's four stages, [b, d, h / 4, w / 4] to [b, 8 d, h / 32, w / 32]."""
    assert not isinstance(config.vision_layers, int)

    def normed(x: Tensor, name: str, norm: str, stride: int = 1) -> Tensor:
        return batch_norm(s, f"{prefix}{norm}", conv(s, f"{prefix}{name}", x, stride))

    x, stages = images, []
    for i in (1, 2, 3):
        x = F.relu(normed(x, f"conv{i}", f"bn{i}", 2 if i == 1 else 1))
    x = F.avg_pool2d(x, 2)
    for stage, blocks in enumerate(config.vision_layers, start=1):
        for i in range(blocks):
            name, pool = f"layer{stage}.{i}", 2 if stage > 1 and i == 0 else 1
            y = F.relu(normed(x, f"{name}.conv1", f"{name}.bn1"))
            y = F.relu(normed(y, f"{name}.conv2", f"{name}.bn2"))
            y = normed(F.avg_pool2d(y, pool), f"{name}.conv3", f"{name}.bn3")
            if f"{prefix}{name}.downsample.0.weight" in s:
                x = normed(F.avg_pool2d(x, pool), f"{name}.downsample.0", f"{name}.downsample.1")
            x = F.relu(x + y)
        stages.append(x)
    return stages


def attention_pool(s: State, name: str, heads: int, x: Tensor) -> Tensor:
    """The mean feature and the features of x [b, d, h, w] look at each other, [b, 1 + h w, e]; the mean first.

    The table of positions is of a square; for another grid it is interpolated.
    """
    table = s[f"{name}.positional_embedding"]
    side = round((len(table) - 1) ** 0.5)
    grid = table[1:].T.unflatten(1, (side, side))[None]
    grid = F.interpolate(grid, x.shape[2:], mode="bilinear", align_corners=False)
    positions = torch.cat([table[:1], grid[0].flatten(1).T])
    x = x.flatten(2).transpose(1, 2)
    x = torch.cat([x.mean(1, keepdim=True), x], 1) + positions
    query, key, value = (
        linear(s, f"{name}.{n}_proj", x).unflatten(-1, (heads, -1)).transpose(1, 2) for n in ("q", "k", "v")
    )
    y = F.scaled_dot_product_attention(query, key, value)
    return linear(s, f"{name}.c_proj", y.transpose(1, 2).flatten(-2))


def resnet_embedding(s: State, config: CLIPConfig, images: Tensor) -> Tensor:
    """Attention-pooled feature of the ModifiedResNet, [b, 1, embed_dim]."""
    stages = resnet_stages(s, "visual.", config, images)
    return attention_pool(s, "visual.attnpool", config.vision_heads, stages[-1])[:, :1]


class Reader:
    """CLIP4STR's decoding, all positions always (the original called with an explicit max_length)."""

    def __init__(self, s: State, config: CLIP4STRConfig):
        self.s, self.config = s, config
        self.tokenizer, self.adapter = (
            CharsetTokenizer(config.charset),
            CharsetAdapter(config.caption_charset),
        )

    def image_memory(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """What the visual and the cross branch see of the images."""
        tokens = image_tokens(self.s, "clip_model.", self.config.clip, images)
        if self.config.cls_eot_feature:
            tokens = tokens[:, :1]
        projected = tokens @ self.s["clip_model.visual.proj"]
        return (projected if self.config.use_share_dim else tokens), projected

    def caption_memory(self, ids: Tensor) -> Tensor:
        """Text tokens of predicted character ids [b, t]."""
        c = self.config
        words = [self.adapter(word.split("[E]")[0]) for word in self.tokenizer.decode(ids.numpy())]
        caption = torch.tensor(bpe.tokenize(words, c.context_length, truncate=True), dtype=torch.long)
        if c.cross_token_embedding:
            return self.s["clip_model.token_embedding.weight"][caption]
        features = text_tokens(self.s, "clip_model.", c.clip, caption)
        if c.cls_eot_feature:
            return features[torch.arange(len(caption)), caption.argmax(-1)][:, None]
        return features

    def logits(
        self,
        branch: str,
        ids: Tensor,
        memory: Tensor,
        positions: slice,
        query_mask: Tensor,
        content_mask: Tensor,
    ) -> Tensor:
        """Logits at `positions` given ids [b, t]; masks are True where visible, [.., q, t] and [.., t, t]."""
        s, name = self.s, f"{branch}_decoder"
        places = s[f"{name}.pos_queries"]
        content = s[f"{name}.text_embed.embedding.weight"][ids] * places.shape[-1] ** 0.5
        content = torch.cat([content[:, :1], content[:, 1:] + places[:, : ids.shape[1] - 1]], 1)
        query = places[:, positions].expand(len(ids), -1, -1)
        for i in range(self.config.decoder_depth):
            layer = f"{name}.layers.{i}"
            known = norm(s, f"{layer}.norm_c", content)
            query = self._layer(layer, query, norm(s, f"{layer}.norm_q", query), known, memory, query_mask)
            content = self._layer(layer, content, known, known, memory, content_mask)
        return linear(s, f"{name}.head", norm(s, f"{name}.norm", query))

    def _layer(self, layer: str, x: Tensor, normed: Tensor, known: Tensor, memory: Tensor, mask: Tensor) -> Tensor:
        s, heads = self.s, self.config.decoder_heads
        x = x + attention(s, f"{layer}.self_attn", normed, known, heads, mask)
        x = x + attention(s, f"{layer}.cross_attn", norm(s, f"{layer}.norm1", x), memory, heads)
        y = F.gelu(linear(s, f"{layer}.linear1", norm(s, f"{layer}.norm2", x)))
        return x + linear(s, f"{layer}.linear2", y)

    def teacher_forced(self, branch: str, ids: Tensor, memory: Tensor) -> Tensor:
        """Logits of every position of ids [b, t], each from the characters before it."""
        mask = torch.ones(ids.shape[1], ids.shape[1], dtype=torch.bool).tril()
        return self.logits(branch, ids, memory, slice(0, ids.shape[1]), mask, mask)

    def first_pass(self, branch: str, memory: Tensor) -> Tensor:
        ids = torch.full((len(memory), 1), self.tokenizer.bos_id)
        steps = []
        for i in range(self.config.num_positions):
            causal = torch.ones(i + 1, i + 1, dtype=torch.bool).tril()
            steps.append(self.logits(branch, ids, memory, slice(i, i + 1), causal[i:], causal))
            ids = torch.cat([ids, steps[-1].argmax(-1)], 1)
        return torch.cat(steps, 1)

    def refine(self, branch: str, memory: Tensor, logits: Tensor) -> Tensor:
        t = logits.shape[1]
        ids = torch.cat([torch.full((len(logits), 1), self.tokenizer.bos_id), logits[:, :-1].argmax(-1)], 1)
        known = (ids == self.tokenizer.eos_id).cumsum(1) == 0
        at = torch.arange(t)
        cloze = at != at[:, None] + 1  # query i does not see content i + 1, its own character
        mask = known[:, None, None] & cloze
        return self.logits(branch, ids, memory, slice(0, t), mask, mask)

    def read(self, images: Tensor) -> list[str]:
        """The strings of images."""
        c = self.config
        visual_memory, image = self.image_memory(images)
        if c.decode_ar:
            visual = self.first_pass("visual", visual_memory)
        else:
            bos, mask = (
                torch.full((len(images), 1), self.tokenizer.bos_id),
                torch.ones(1, 1, dtype=torch.bool),
            )
            visual = self.logits("visual", bos, visual_memory, slice(0, c.num_positions), mask, mask)
        final = visual
        if c.use_language_model:
            final = self.first_pass("cross", torch.cat([image, self.caption_memory(visual.argmax(-1))], 1))
        for _ in range(c.refine_iters):
            visual = self.refine("visual", visual_memory, visual)
            if c.use_language_model:
                memory = torch.cat([image, self.caption_memory(visual.argmax(-1))], 1)
                final = self.refine("cross", memory, final)
            else:
                final = visual
        return self.tokenizer.decode(final.argmax(-1).numpy())
