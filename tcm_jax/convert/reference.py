"""CLIP and CLIP4STR once more, as plain PyTorch functions of a state dict: what `--verify` compares with.

Nothing is shared with the Flax models, and nothing is fast: every step of a decoding runs the complete prefix.
`s` is the state dict of a model or of its part, `name` a layer in it. Images are [b, 3, h, w].
Sources: openai/CLIP clip/model.py, and strhub/models/vl_str of CLIP4STR.
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


def causal_mask(t: int) -> Tensor:
    """bool [t, t], True where a position may attend: itself and those before it."""
    return torch.ones(t, t, dtype=torch.bool).tril()


def attend(query: Tensor, key: Tensor, value: Tensor, heads: int, mask: Tensor | None = None) -> Tensor:
    """Scaled dot-product attention of projected [b, q, d] over [b, m, d]; mask is True where a query may attend."""
    query, key, value = (x.unflatten(-1, (heads, -1)).transpose(1, 2) for x in (query, key, value))
    return F.scaled_dot_product_attention(query, key, value, attn_mask=mask).transpose(1, 2).flatten(-2)


class StateDict(dict[str, Tensor]):
    """A state dict of float32 tensors, and the layers in it by name."""

    def part(self, name: str) -> "StateDict":
        """The state dict of the submodule `name`."""
        return StateDict({k.removeprefix(f"{name}."): x for k, x in self.items() if k.startswith(f"{name}.")})

    def norm(self, name: str, x: Tensor) -> Tensor:
        """LayerNorm over the last axis."""
        return F.layer_norm(x, x.shape[-1:], self[f"{name}.weight"], self[f"{name}.bias"])

    def linear(self, name: str, x: Tensor) -> Tensor:
        """Linear layer with bias, of the last axis."""
        return F.linear(x, self[f"{name}.weight"], self[f"{name}.bias"])

    def attention(self, name: str, x: Tensor, memory: Tensor, heads: int, mask: Tensor | None = None) -> Tensor:
        """PyTorch's MultiheadAttention of x [b, q, d] over memory [b, m, d]; mask as in `attend`."""
        parts = zip(
            (x, memory, memory), *(self[f"{name}.in_proj_{n}"].chunk(3) for n in ("weight", "bias")), strict=True
        )
        query, key, value = (F.linear(y, weight, bias) for y, weight, bias in parts)
        return self.linear(f"{name}.out_proj", attend(query, key, value, heads, mask))

    def transformer(
        self, name: str, x: Tensor, layers: int, heads: int, activation: str, mask: Tensor | None = None
    ) -> Tensor:
        """CLIP's residual blocks on x [b, t, d]."""
        for i in range(layers):
            block = f"{name}.resblocks.{i}"
            y = self.norm(f"{block}.ln_1", x)
            x = x + self.attention(f"{block}.attn", y, y, heads, mask)
            y = self.linear(f"{block}.mlp.c_fc", self.norm(f"{block}.ln_2", x))
            y = y * torch.sigmoid(1.702 * y) if activation == "quick_gelu" else F.gelu(y)
            x = x + self.linear(f"{block}.mlp.c_proj", y)
        return x

    def batch_norm(self, name: str, x: Tensor) -> Tensor:
        """With the running statistics; x [b, d, h, w]."""
        mean, variance = self[f"{name}.running_mean"], self[f"{name}.running_var"]
        return F.batch_norm(x, mean, variance, self[f"{name}.weight"], self[f"{name}.bias"])

    def conv(self, name: str, x: Tensor, stride: int = 1, groups: int = 1) -> Tensor:
        """Convolution of x [b, d, h, w], padded by half the kernel."""
        weight = self[f"{name}.weight"]
        return F.conv2d(x, weight, self.get(f"{name}.bias"), stride, weight.shape[-1] // 2, groups=groups)

    def attention_pool(self, name: str, heads: int, x: Tensor) -> Tensor:
        """Attention among the mean feature and the features of x [b, d, h, w], [b, 1 + h w, e]; the mean first.

        The position embedding is of a square grid; for another grid it is interpolated.
        """
        table = self[f"{name}.positional_embedding"]
        side = round((len(table) - 1) ** 0.5)
        grid = table[1:].T.unflatten(1, (side, side))[None]
        grid = F.interpolate(grid, x.shape[2:], mode="bilinear", align_corners=False)
        positions = torch.cat([table[:1], grid[0].flatten(1).T])
        x = x.flatten(2).transpose(1, 2)
        x = torch.cat([x.mean(1, keepdim=True), x], 1) + positions
        query, key, value = (self.linear(f"{name}.{n}_proj", x) for n in "qkv")
        return self.linear(f"{name}.c_proj", attend(query, key, value, heads))


def tensors(arrays: Mapping[str, np.ndarray], huggingface: bool) -> StateDict:
    """The state dict for the functions below; one of transformers gets OpenAI's keys and fused attention."""
    state = StateDict({key: torch.from_numpy(x if x.flags.writeable else x.copy()) for key, x in arrays.items()})
    if not huggingface:
        return state
    renamed = StateDict({"visual.proj": state.pop("visual_projection.weight").T})
    renamed["text_projection"] = state.pop("text_projection.weight").T
    for key, value in state.items():
        for pattern, replacement in _HUGGINGFACE:
            key = re.sub(pattern, replacement, key)
        renamed[key] = value
    for key in [k for k in renamed if ".attn.q_proj." in k]:
        parts = [renamed[key.replace("q_proj", f"{name}_proj")] for name in "qkv"]
        renamed[key.replace("q_proj.", "in_proj_")] = torch.cat(parts)
    return renamed


def embed_patches(s: StateDict, config: CLIPConfig, images: Tensor) -> Tensor:
    """Tokens of a Vision Transformer after ln_pre, [b, 1 + n, vision_width]."""
    x = F.conv2d(images, s["conv1.weight"], stride=config.patch_size).flatten(2).transpose(1, 2)
    x = torch.cat([s["class_embedding"].expand(len(x), 1, -1), x], 1)
    return s.norm("ln_pre", x + s["positional_embedding"])


def image_tokens(s: StateDict, config: CLIPConfig, images: Tensor) -> Tensor:
    """Tokens of a Vision Transformer after ln_post, not projected, [b, 1 + n, vision_width]."""
    assert isinstance(config.vision_layers, int)
    x = embed_patches(s, config, images)
    x = s.transformer("transformer", x, config.vision_layers, config.vision_heads, config.activation)
    return s.norm("ln_post", x)


def text_transformer(s: StateDict, config: CLIPConfig, x: Tensor) -> Tensor:
    """The text tower on embedded tokens [b, t, text_width], before its last normalization."""
    t = x.shape[1]
    x, mask = x + s["positional_embedding"][:t], causal_mask(t)
    return s.transformer("transformer", x, config.text_layers, config.text_heads, config.activation, mask)


def text_tokens(s: StateDict, config: CLIPConfig, ids: Tensor) -> Tensor:
    """Projected features of every position of ids [b, t], [b, t, embed_dim]."""
    x = text_transformer(s, config, s["token_embedding.weight"][ids])
    return s.norm("ln_final", x) @ s["text_projection"]


def resnet_stages(s: StateDict, config: CLIPConfig, images: Tensor) -> list[Tensor]:
    """Outputs of the ModifiedResNet's four stages, [b, d, h / 4, w / 4] to [b, 8 d, h / 32, w / 32]."""
    assert not isinstance(config.vision_layers, int)

    def normed(x: Tensor, name: str, norm: str, stride: int = 1) -> Tensor:
        return s.batch_norm(norm, s.conv(name, x, stride))

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
            if f"{name}.downsample.0.weight" in s:
                x = normed(F.avg_pool2d(x, pool), f"{name}.downsample.0", f"{name}.downsample.1")
            x = F.relu(x + y)
        stages.append(x)
    return stages


def clip_stages(s: StateDict, config: CLIPConfig, images: Tensor, ids: Tensor) -> dict[str, Tensor]:
    """Stages of CLIP's towers by name, on images [b, 3, h, w] and token ids [n, t]."""
    visual, text = s.part("visual"), text_tokens(s, config, ids)
    if config.is_resnet:
        pooled = visual.attention_pool("attnpool", config.vision_heads, resnet_stages(visual, config, images)[-1])
        return {"image embedding": pooled[:, :1], "text tokens": text}
    tokens = image_tokens(visual, config, images) @ visual["proj"]
    return {"patches, ln_pre": embed_patches(visual, config, images), "image tokens": tokens, "text tokens": text}


class TorchCLIP4STR:
    """CLIP4STR's decoding, all positions always (the original called with an explicit max_length)."""

    def __init__(self, s: StateDict, config: CLIP4STRConfig) -> None:
        self.s, self.clip, self.config = s, s.part("clip_model"), config
        self.tokenizer, self.adapter = CharsetTokenizer(config.charset), CharsetAdapter(config.caption_charset)

    def image_memory(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """What the visual and the cross branch attend to of the images."""
        tokens = image_tokens(self.clip.part("visual"), self.config.clip, images)
        if self.config.cls_eot_feature:
            tokens = tokens[:, :1]
        projected = tokens @ self.clip["visual.proj"]
        return (projected if self.config.use_share_dim else tokens), projected

    def caption_memory(self, ids: Tensor) -> Tensor:
        """Text tokens of predicted character ids [b, t]."""
        c = self.config
        words = [self.adapter(word.split("[E]")[0]) for word in self.tokenizer.decode(ids.numpy())]
        caption = torch.tensor(bpe.tokenize(words, c.context_length, truncate=True), dtype=torch.long)
        if c.cross_token_embedding:
            return self.clip["token_embedding.weight"][caption]
        features = text_tokens(self.clip, c.clip, caption)
        if c.cls_eot_feature:
            return features[torch.arange(len(caption)), caption.argmax(-1)][:, None]
        return features

    def logits(
        self, branch: str, ids: Tensor, memory: Tensor, positions: slice, query_mask: Tensor, content_mask: Tensor
    ) -> Tensor:
        """Logits at `positions` given ids [b, t]; masks are True where visible, [.., q, t] and [.., t, t]."""
        s = self.s.part(f"{branch}_decoder")
        embedding = s["pos_queries"]
        content = s["text_embed.embedding.weight"][ids] * embedding.shape[-1] ** 0.5
        content = torch.cat([content[:, :1], content[:, 1:] + embedding[:, : ids.shape[1] - 1]], 1)
        query = embedding[:, positions].expand(len(ids), -1, -1)
        for i in range(self.config.decoder_depth):
            layer = s.part(f"layers.{i}")
            context = layer.norm("norm_c", content)
            query = self._layer(layer, query, layer.norm("norm_q", query), context, memory, query_mask)
            content = self._layer(layer, content, context, context, memory, content_mask)
        return s.linear("head", s.norm("norm", query))

    def _layer(self, s: StateDict, x: Tensor, normed: Tensor, context: Tensor, memory: Tensor, mask: Tensor) -> Tensor:
        heads = self.config.decoder_heads
        x = x + s.attention("self_attn", normed, context, heads, mask)
        x = x + s.attention("cross_attn", s.norm("norm1", x), memory, heads)
        return x + s.linear("linear2", F.gelu(s.linear("linear1", s.norm("norm2", x))))

    def teacher_forced(self, branch: str, ids: Tensor, memory: Tensor) -> Tensor:
        """Logits of every position of ids [b, t], each from the characters before it."""
        mask = causal_mask(ids.shape[1])
        return self.logits(branch, ids, memory, slice(0, ids.shape[1]), mask, mask)

    def first_pass(self, branch: str, memory: Tensor) -> Tensor:
        """Autoregressive logits [b, positions, classes]."""
        ids = self._bos(len(memory))
        steps = []
        for i in range(self.config.num_positions):
            mask = causal_mask(i + 1)
            steps.append(self.logits(branch, ids, memory, slice(i, i + 1), mask[i:], mask))
            ids = torch.cat([ids, steps[-1].argmax(-1)], 1)
        return torch.cat(steps, 1)

    def refine(self, branch: str, memory: Tensor, logits: Tensor) -> Tensor:
        """Logits of one refinement of `logits` [b, t, classes], each from all other characters (cloze mask)."""
        t = logits.shape[1]
        ids = torch.cat([self._bos(len(logits)), logits[:, :-1].argmax(-1)], 1)
        before_end = (ids == self.tokenizer.eos_id).cumsum(1) == 0
        at = torch.arange(t)
        cloze = at != at[:, None] + 1  # query i does not see content i + 1, its own character
        mask = before_end[:, None, None] & cloze
        return self.logits(branch, ids, memory, slice(0, t), mask, mask)

    def _bos(self, count: int) -> Tensor:
        """The first token of `count` strings, [count, 1]."""
        return torch.full((count, 1), self.tokenizer.bos_id)

    def read(self, images: Tensor) -> list[str]:
        """The strings in images [b, 3, h, w]."""
        c = self.config
        visual_memory, image = self.image_memory(images)

        def cross_memory(logits: Tensor) -> Tensor:
            return torch.cat([image, self.caption_memory(logits.argmax(-1))], 1)

        if c.decode_ar:
            visual = self.first_pass("visual", visual_memory)
        else:
            bos, mask = self._bos(len(images)), causal_mask(1)
            visual = self.logits("visual", bos, visual_memory, slice(0, c.num_positions), mask, mask)
        final = self.first_pass("cross", cross_memory(visual)) if c.use_language_model else visual
        for _ in range(c.refine_iters):
            visual = self.refine("visual", visual_memory, visual)
            final = self.refine("cross", cross_memory(visual), final) if c.use_language_model else visual
        return self.tokenizer.decode(final.argmax(-1).numpy())
