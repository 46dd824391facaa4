"""TCM: CLIP's ResNet and text tower turned into the front of a text detector.

Sources: "Turning a CLIP Model into a Scene Text Detector" (CVPR 2023), section 3, and ocrclip/ocrclip.py of its
release (OCRCLIP, instance_class_matching); FastTCM: "Turning a CLIP Model into a Scene Text Spotter" (TPAMI 2024).
"""

import dataclasses
import functools
import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import flax.linen as nn
import jax.numpy as jnp
import numpy as np
from jax import Array
from jax.sharding import PartitionSpec as P

from tcm_jax.models.clip import CLIPConfig
from tcm_jax.models.layers import Dtype
from tcm_jax.models.prompts import ContextDecoder, PromptGenerator, TextContextEncoder
from tcm_jax.models.resnet import STRIDE, ModifiedResNet, valid_tokens
from tcm_jax.text import bpe

RELEASED_PROMPT = "the pixels of many arbitrary-shape text instances."  # of all released models
PAPER_PROMPT = "Text"


def resnet_clip(
    layers: tuple[int, ...] = (3, 4, 6, 3), width: int = 64, embed_dim: int = 1024, side: int = 640, **changes: Any
) -> CLIPConfig:
    """Sizes of a CLIP whose image tower is a ModifiedResNet, for images of `side` pixels and short prompts.

    `changes` are fields of `CLIPConfig`; the released TCM has the 32 vision_heads of RN50 for all widths.
    """
    size, cell = (side, side), (STRIDE, STRIDE)
    config = CLIPConfig(embed_dim, size, cell, width, layers, vision_heads=width // 2, text_positions=18)
    return dataclasses.replace(config, **changes)


BACKBONES = {
    "RN50": resnet_clip(),
    "RN101": resnet_clip((3, 4, 23, 3), embed_dim=512),
    "RN50x4": resnet_clip((4, 6, 10, 6), 80, 640, text_width=640, text_heads=10),
    "RN50x16": resnet_clip((6, 8, 18, 8), 96, 768, text_width=768, text_heads=12),
    "RN50x64": resnet_clip((3, 15, 36, 10), 128, 1024, text_width=1024, text_heads=16),
}

# Mesh axes over which each parameter is sharded, by path; see `tcm_jax.training.partition`.
# Without text matching there is no text tower, no attention pooling and no prompt.
TCM_BASELINE_PARTITION = (
    (r"^backbone/.*kernel$", P(None, None, None, "fsdp")),  # [h, w, in, out]
    (r"^(neck|bbox_head)/.*kernel$", P(None, None, None, "fsdp")),
    (r"(bias|scale)$", P()),
)
TCM_PARTITION = (
    (r"/(query|key|value|[qkv]_proj)/kernel$", P("fsdp", "tensor", None)),  # [d, k, e]
    (r"/(query|key|value|[qkv]_proj)/bias$", P("tensor", None)),
    (r"(/attn/out|attnpool/c_proj|_attn/proj)/kernel$", P("tensor", None, "fsdp")),  # [k, e, d]
    (r"/(c_fc|mlp_0)/kernel$", P("fsdp", "tensor")),
    (r"/(c_fc|mlp_0)/bias$", P("tensor")),
    (r"/(c_proj|mlp_\d)/kernel$", P("tensor", "fsdp")),
    (r"/token_embedding/embedding$", P(None, "fsdp")),
    (r"(text_projection|pix_w|_proj_\d/kernel)$", P("fsdp", None)),
    (r"(gamma|contexts|meta_query|logit_scale|positional_embedding)$", P()),
    *TCM_BASELINE_PARTITION,
)


@dataclass(frozen=True)
class TCMConfig:
    """Components of TCM. Defaults are the released TCM-DB for ICDAR2015; the paper's ablation is in the fields.

    Args:
        clip: sizes of both towers. Its image_size is that of the position embedding of the attention pooling, which
            is resized for other images; its text_positions are the number of tokens of the longest prompt.
        text_matching: False is the baseline, a CLIP ResNet without attention pooling and without text.
        prompt: predefined words, tokenized by CLIP's BPE; "" for learnable vectors only.
        learnable_prompt: number of learnable vectors before the words.
        language_prompt: the global image feature, after two layers, is added to the prompt (LG).
        visual_prompt: image tokens attend to the text, and the result is added to them (VG).
        context_decoder: the text attends to the image tokens, and the result is added to it; in the release, not in
            the paper.
        decoder_width, decoder_layers, decoder_heads, dropout: of the decoders of the last two.
        tau: temperature of the auxiliary loss.
        scale_score_map: the score map is multiplied by CLIP's learned scale, of which `tau` is the initial value only.
        fast: FastTCM. A learned meta query replaces the image feature in the language prompt, so that the text does
            not depend on the image and is computed once; the image reaches it by bimodal similarity matching. The
            release's projection there, a parameter of 1024 x 512, fits no released text width; here it is square,
            embed_dim x embed_dim, and starts as the identity, which is the paper's formula.
        freeze_batch_norm: the backbone normalizes by its running statistics in training too.
    """

    clip: CLIPConfig = field(default_factory=resnet_clip)
    text_matching: bool = True
    prompt: str = RELEASED_PROMPT
    learnable_prompt: int = 4
    language_prompt: bool = True
    visual_prompt: bool = True
    context_decoder: bool = True
    decoder_width: int = 256
    decoder_layers: int = 3
    decoder_heads: int = 4
    dropout: float = 0.1
    tau: float = 0.07
    scale_score_map: bool = False
    fast: bool = False
    freeze_batch_norm: bool = False

    def __post_init__(self) -> None:
        if not self.clip.is_resnet:
            raise ValueError("TCM reads the stages of a ResNet; vision_layers must be a list of four numbers")
        if not self.text_matching:
            return
        if not self.prompt and self.learnable_prompt < 1:
            raise ValueError("TCM needs a prompt: words, a learnable_prompt of at least 1, or both")
        if self.learnable_prompt < 0:
            raise ValueError(f"learnable_prompt is {self.learnable_prompt}; expected 0 or more")
        if self.prompt_tokens > self.clip.text_positions:
            raise ValueError(
                f"the prompt has {self.prompt_tokens} tokens, {self.learnable_prompt} of them learnable; "
                f"clip.text_positions is {self.clip.text_positions}"
            )
        if self.fast and not self.language_prompt:
            raise ValueError("fast replaces the input of the language prompt; it needs language_prompt")

    @property
    def prompt_ids(self) -> np.ndarray | None:
        """Token ids [1, t] of the words from SOT to EOT; None without words."""
        if not self.prompt:
            return None
        ids = bpe.tokenize([self.prompt], self.clip.text_positions)
        return ids[:, : int(ids.argmax()) + 1]

    @property
    def prompt_tokens(self) -> int:
        """Number of tokens of the prompt, words and learnable vectors."""
        return self.learnable_prompt + (0 if self.prompt_ids is None else self.prompt_ids.shape[1])

    @property
    def constant_text(self) -> bool:
        """Whether the text embedding is the same for all images."""
        return self.text_matching and (self.fast or not self.language_prompt)


class TCMOutput(NamedTuple):
    """Result of a forward pass.

    Args:
        outputs: of the head.
        score_map: similarity of text and image tokens, float32 [b, h / 32, w / 32]; None for the baseline.
        logits: of the auxiliary loss: the score map, divided by the temperature.
    """

    outputs: Any
    score_map: Array | None
    logits: Array | None


def normalize(x: Array) -> Array:
    """x, divided by its L2 norm over the last axis, in float32; PyTorch's F.normalize."""
    x = x.astype(jnp.float32)
    return x / jnp.maximum(jnp.linalg.norm(x, axis=-1, keepdims=True), 1e-12)


class TCM(nn.Module):
    """Backbone, instance-language matching, and the neck and head of a detector.

    Args:
        neck: (stage maps, train) -> features.
        bbox_head: (features, train) -> outputs.
        stages: the stages that the neck reads; the score map is added to the last as a channel.
    """

    config: TCMConfig
    neck: nn.Module
    bbox_head: nn.Module
    stages: Sequence[int] = (0, 1, 2, 3)
    dtype: Dtype = jnp.float32
    remat: str = "none"

    def setup(self) -> None:
        """Creates the parts that the config asks for, with the names of the original."""
        c, clip = self.config, self.config.clip
        self.backbone = ModifiedResNet(clip, self.dtype, self.remat, attention_pool=c.text_matching)
        if not c.text_matching:
            return
        self.text_encoder = TextContextEncoder(clip, self.dtype, self.remat)
        width, init = clip.embed_dim, nn.initializers
        decoder = functools.partial(
            ContextDecoder, c.decoder_width, c.decoder_layers, c.decoder_heads, c.dropout, self.dtype
        )
        if c.learnable_prompt:
            shape = 1, c.learnable_prompt, clip.text_width
            self.contexts = self.param("contexts", init.truncated_normal(1.0), shape)
        if c.language_prompt:
            self.prompt_generator = PromptGenerator(clip.text_width, self.dtype)
        if c.fast:
            self.meta_query = self.param("meta_query", init.normal(1.0), (width,))
            self.pix_w = self.param("pix_w", lambda key, shape: jnp.eye(*shape), (width, width))
        if c.visual_prompt:
            self.visual_prompt_generator = decoder()
            self.vis_gamma = self.param("vis_gamma", init.constant(1e-3), ())
        if c.context_decoder:
            self.context_decoder = decoder()
            self.gamma = self.param("gamma", init.constant(1e-3), (width,))
        if c.scale_score_map:
            self.logit_scale = self.param("logit_scale", init.constant(math.log(1 / c.tau)), ())

    def __call__(
        self, images: Array, train: bool = False, size: Array | None = None, text: Array | None = None
    ) -> TCMOutput:
        """Runs the detector.

        Args:
            images: normalized [b, h, w, 3], sides multiples of 32.
            train: BatchNorm uses the statistics of the batch, and there is dropout.
            size: height and width of the images on a padded canvas, int [b, 2], multiples of 32. The attention then
                sees the tokens of the image only.
            text: `text_embedding`, computed before; only for a `constant_text`.
        """
        c = self.config
        batch_norm = train and not c.freeze_batch_norm
        stages, tokens = self.backbone(images, dense=True, train=batch_norm, size=size)
        score_map = logits = None
        if tokens is not None:
            grid = images.shape[1] // STRIDE, images.shape[2] // STRIDE
            valid = None if size is None else valid_tokens(grid, size // STRIDE)
            similarity = self.match(tokens, text, train, valid)  # [b, n]
            score_map = similarity.reshape(-1, *grid)
            logits = score_map if c.scale_score_map else score_map / c.tau
            last = jnp.concatenate([stages[-1], score_map[..., None].astype(stages[-1].dtype)], axis=-1)
            stages = [*stages[:-1], last]
        features = self.neck([stages[i] for i in self.stages], train)
        return TCMOutput(self.bbox_head(features, train), score_map, logits)

    def text_embedding(self, image: Array | None = None) -> Array:
        """The text tower's embedding of the prompt.

        Args:
            image: global image features [b, embed_dim]; only the language prompt without `fast` needs them.

        Returns:
            [b, embed_dim]; [1, embed_dim] for a `constant_text`.

        Raises:
            ValueError: the model needs `image`, which is None.
        """
        c = self.config
        conditional = None
        if c.language_prompt:
            query = self.meta_query[None] if c.fast else image
            if query is None:
                raise ValueError("the language prompt of this model needs the image")
            conditional = self.prompt_generator(query.astype(self.dtype))
        if self.is_initializing():
            self.text_encoder.token_embedding(jnp.zeros((1, 1), jnp.int32))  # also without words, to create it
        ids = c.prompt_ids
        contexts = self.contexts if c.learnable_prompt else None
        return self.text_encoder(None if ids is None else jnp.asarray(ids), contexts, conditional)[:, 0]

    def match(self, tokens: Array, text: Array | None, train: bool, valid: Array | None) -> Array:
        """Instance-language matching: cosine similarity of image tokens and text.

        The text embedding before and after refinement and both refinements are sown as intermediates.

        Args:
            tokens: [b, 1 + n, embed_dim] of the attention pooling, the global one first.
            text: `text_embedding`; None computes it.
            train: dropout.
            valid: tokens that are not padding, bool [b, n]; None for all.

        Returns:
            float32 [b, n].
        """
        c = self.config
        image, dense = tokens[:, 0], tokens[:, 1:]
        text = self.text_embedding(image) if text is None else text.astype(self.dtype)
        self.sow("intermediates", "text_embeddings_raw", text)
        if c.fast:
            feature, text = normalize(image @ self.pix_w.astype(self.dtype)), normalize(text)
            text = ((text * feature).sum(-1, keepdims=True) * feature + text).astype(self.dtype)
        text = jnp.broadcast_to(text, image.shape)[:, None]  # [b, 1, d]
        refined = dense
        if c.visual_prompt:
            prompt = self.visual_prompt_generator(dense, text, train, query_mask=valid)
            self.sow("intermediates", "vis_prompt_diff", prompt)
            refined = dense + self.vis_gamma.astype(self.dtype) * prompt
        if c.context_decoder:
            seen = None if valid is None else jnp.concatenate([jnp.ones_like(valid[:, :1]), valid], axis=1)
            difference = self.context_decoder(text, tokens, train, memory_mask=seen)
            self.sow("intermediates", "text_diff", difference)
            text = text + self.gamma.astype(self.dtype) * difference
        self.sow("intermediates", "text_embeddings", text)
        similarity = (normalize(refined) * normalize(text)).sum(-1)  # [b, n]
        return jnp.exp(self.logit_scale) * similarity if c.scale_score_map else similarity
