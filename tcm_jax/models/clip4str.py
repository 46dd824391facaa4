"""CLIP4STR: CLIP's towers with a visual and a cross-modal character decoder.

Source: strhub/models/vl_str/system.py of the original (VL4STR). The decoding loop is in `decoding.py`, the
permutations and the loss are in `tcm_jax/tasks`.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax.sharding import PartitionSpec as P

from tcm_jax.models.clip import CLIP, CLIPConfig, eot_feature
from tcm_jax.models.decoder import Decoder
from tcm_jax.models.layers import Dtype, KeyValue
from tcm_jax.text.captions import CaptionTokenizer
from tcm_jax.text.charset import CHARSET_36, CHARSET_94, CharsetTokenizer

# Which axes of the mesh cut each parameter, by path; see `tcm_jax.training.partition`.
CLIP4STR_PARTITION = (
    (r"/(query|key|value)/kernel$", P("fsdp", "tensor", None)),  # [d, k, e]
    (r"/(query|key|value)/bias$", P("tensor", None)),  # [k, e]
    (r"/out/kernel$", P("tensor", None, "fsdp")),  # [k, e, d]
    (r"/(c_fc|linear1)/kernel$", P("fsdp", "tensor")),  # [d, 4 d]
    (r"/(c_fc|linear1)/bias$", P("tensor")),
    (r"/(c_proj|linear2)/kernel$", P("tensor", "fsdp")),  # [4 d, d]
    (r"/token_embedding/embedding$", P(None, "fsdp")),
    (r"/conv1/kernel$", P(None, None, None, "fsdp")),  # [h, w, 3, d]
    (r"/(visual/proj|text_projection)$", P("fsdp", None)),
    (r"_decoder/(head|text_embed|pos_queries)", P()),  # too narrow to be worth a cut
    (r"(bias|scale|logit_scale|class_embedding|positional_embedding)$", P()),
)
CLIP4STR_STEM_PARTITION = ((r"/stem/", P()), *CLIP4STR_PARTITION)  # a few thousand parameters


@dataclass(frozen=True)
class CLIP4STRConfig:
    """Architecture and decoding of a recognizer. Defaults are those of the released models.

    Args:
        charset: characters the decoders read and write.
        caption_charset: characters that reach the text encoder (the original's charset_test).
        max_label_length: longest word; the decoders have one position more, for EOS.
        context_length: text tokens of a caption.
        decoder_depth, decoder_heads, decoder_mlp_ratio, dropout: of both decoders.
        use_language_model: off leaves the visual branch alone.
        use_share_dim: the visual branch reads projected image tokens (else unprojected ones).
        image_detach: the image tower learns from the visual branch only.
        cross_gt_context: the cross branch is trained on the true characters (else on the visual predictions).
        cross_cloze_mask: the cross branch is trained with the cloze mask of refinement (else with the permutation).
        cross_loss_weight: weight of the cross branch's loss.
        cross_token_embedding: captions enter as token embeddings, not through the text tower.
        cls_eot_feature: one class token and one end-of-text token instead of all tokens.
        decode_ar: the visual branch starts left to right (else all positions at once).
        refine_iters: refinements of both branches after the first pass.
        both_branches: the likelier of what the two branches read counts (else what the cross branch reads).
        vocabulary_weight: how many times as likely as a word of CLIP's vocabulary another reading must be to be
            preferred; 1 prefers none.
        perm_num, perm_forward, perm_mirrored: permutations of a training step.
    """

    clip: CLIPConfig = field(default_factory=CLIPConfig)
    charset: str = CHARSET_94
    caption_charset: str = CHARSET_36
    max_label_length: int = 25
    context_length: int = 16
    decoder_depth: int = 1
    decoder_heads: int = 8
    decoder_mlp_ratio: int = 4
    dropout: float = 0.1
    use_language_model: bool = True
    use_share_dim: bool = True
    image_detach: bool = True
    cross_gt_context: bool = True
    cross_cloze_mask: bool = False
    cross_loss_weight: float = 1.0
    cross_token_embedding: bool = False
    cls_eot_feature: bool = False
    decode_ar: bool = True
    refine_iters: int = 1
    both_branches: bool = False
    vocabulary_weight: float = 1.0
    perm_num: int = 6
    perm_forward: bool = True
    perm_mirrored: bool = True

    def __post_init__(self):
        c = self.clip
        if c.is_resnet:
            raise ValueError("CLIP4STR reads all image tokens; it needs a ViT, vision_layers must be one number")
        if self.both_branches and not self.use_language_model:
            raise ValueError("both_branches needs use_language_model: without it there is but the visual branch")
        if self.perm_num < 1 + self.perm_mirrored:
            raise ValueError(
                f"perm_num is {self.perm_num}; expected at least {1 + self.perm_mirrored}"
                + (", as perm_mirrored pairs each permutation with its mirror image" if self.perm_mirrored else "")
            )
        if self.cross_token_embedding and c.text_width != c.embed_dim:
            raise ValueError(
                f"cross_token_embedding needs text_width == embed_dim; they are {c.text_width} and {c.embed_dim}"
            )

    @property
    def num_positions(self) -> int:
        """Positions of a decoder: the longest word and its EOS."""
        return self.max_label_length + 1


class CLIP4STR(nn.Module):
    """The parameters and the pieces of the model; every method takes and gives arrays only."""

    config: CLIP4STRConfig
    dtype: Dtype = jnp.float32
    remat: str = "none"

    def setup(self):
        c, tokens = self.config, CharsetTokenizer(self.config.charset)
        self.clip_model = CLIP(c.clip, self.dtype, self.remat)

        def decoder(width: int) -> Decoder:
            return Decoder(
                width,
                c.decoder_heads,
                c.decoder_depth,
                tokens.num_tokens,
                tokens.num_classes,
                c.num_positions,
                c.decoder_mlp_ratio,
                c.dropout,
                self.dtype,
            )

        self.visual_decoder = decoder(c.clip.embed_dim if c.use_share_dim else c.clip.vision_width)
        if c.use_language_model:
            self.cross_decoder = decoder(c.clip.embed_dim)

    def encode_image(self, images: jax.Array) -> jax.Array:
        """Tokens that the visual branch reads: [b, n, d] of normalized images [b, h, w, 3]."""
        tokens = self.clip_model.encode_image(images, self.config.use_share_dim)
        return tokens[:, :1] if self.config.cls_eot_feature else tokens

    def cross_image_tokens(self, tokens: jax.Array) -> jax.Array:
        """Image tokens that the cross branch reads, [b, n, embed_dim]."""
        if self.config.image_detach:
            tokens = jax.lax.stop_gradient(tokens)
        return tokens if self.config.use_share_dim else self.clip_model.visual.project(tokens)

    def captions(self, ids: jax.Array, num_positions: jax.Array | int) -> jax.Array:
        """Text-encoder ids [b, context_length] of predictions [b, t]; see `CaptionTokenizer`."""
        c = self.config
        return CaptionTokenizer(c.charset, c.caption_charset, c.context_length)(ids, num_positions)

    def encode_caption(self, caption_ids: jax.Array) -> jax.Array:
        """Text tokens that the cross branch reads, [b, m, embed_dim]."""
        if self.config.cross_token_embedding:
            return self.clip_model.token_embedding(caption_ids)
        features = self.clip_model.encode_text(caption_ids)
        if self.config.cls_eot_feature:
            return eot_feature(features, caption_ids)[:, None]
        return features

    def project_memory(self, branch: str, memory: jax.Array) -> list[KeyValue]:
        """Keys and values of `memory` [b, g, m, d] in the decoder of `branch` ("visual" or "cross")."""
        return self._decoder(branch).project_memory(memory)

    def decode(
        self,
        branch: str,
        ids: jax.Array,
        memories: Sequence[Sequence[KeyValue]],
        query_mask: jax.Array,
        content_mask: jax.Array,
        train: bool = False,
    ) -> jax.Array:
        """Logits of all positions; see `Decoder.__call__`."""
        return self._decoder(branch)(ids, memories, query_mask, content_mask, train)

    def empty_cache(self, branch: str, batch: int) -> list[KeyValue]:
        return self._decoder(branch).empty_cache(batch)

    def decode_step(self, branch: str, token, i, cache, memories) -> tuple[jax.Array, list[KeyValue]]:
        """Logits of position i; see `Decoder.decode_step`."""
        return self._decoder(branch).decode_step(token, i, cache, memories)

    def _decoder(self, branch: str) -> Decoder:
        return self.visual_decoder if branch == "visual" else self.cross_decoder

    def __call__(self, images: jax.Array) -> jax.Array:
        """Touches every parameter, of unused towers too; `init` uses it. Visual logits of BOS alone, [b, 1, 1, v]."""
        tokens = self.encode_image(images)
        ids = jnp.full((images.shape[0], 1, 1), CharsetTokenizer(self.config.charset).bos_id)
        mask = jnp.ones((1, 1, 1, 1), bool)
        logits = self.decode("visual", ids, [self.project_memory("visual", tokens[:, None])], mask, mask)
        text = self.clip_model.encode_text(self.captions(logits[:, 0].argmax(-1), 1))
        if self.config.use_language_model:
            memory = [self.cross_image_tokens(tokens), text]
            self.decode("cross", ids, [self.project_memory("cross", m[:, None]) for m in memory], mask, mask)
        return logits
