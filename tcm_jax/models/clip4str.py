"""CLIP4STR: CLIP's towers with a visual and a cross-modal character decoder.

Source: strhub/models/vl_str/system.py of the original (VL4STR). The decoding loop is in `decoding.py`, the
permutations and the loss are in `tcm_jax/recognition`.
"""

import functools
from dataclasses import dataclass, field

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax import Array
from jax.sharding import PartitionSpec as P

from tcm_jax.models.clip import CLIP, CLIPConfig, eot_feature
from tcm_jax.models.decoder import Decoder
from tcm_jax.models.layers import Dtype
from tcm_jax.text.captions import CaptionTokenizer
from tcm_jax.text.charset import CHARSET_36, CHARSET_94, CharsetTokenizer

# Mesh axes over which each parameter is sharded, by path; see `tcm_jax.training.partition`.
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
    (r"_decoder/(head|text_embed|pos_queries)", P()),  # too narrow to be worth sharding
    (r"(bias|scale|logit_scale|class_embedding|positional_embedding)$", P()),
)
CLIP4STR_STEM_PARTITION = ((r"/stem/", P()), *CLIP4STR_PARTITION)  # a few thousand parameters


@dataclass(frozen=True)
class CLIP4STRConfig:
    """Architecture and decoding of a recognizer. Defaults are those of the released models.

    Args:
        charset: characters that the decoders read and write.
        caption_charset: characters that reach the text encoder (the original's charset_test).
        max_label_length: maximum word length in characters; the decoders have one position more, for EOS.
        context_length: number of text tokens of a caption.
        decoder_depth, decoder_heads, decoder_mlp_ratio, dropout: of both decoders.
        use_language_model: False leaves out the cross branch.
        use_share_dim: the visual branch reads projected image tokens (else unprojected ones).
        image_detach: no gradient from the cross branch to the image tower.
        cross_gt_context: the cross branch is trained on the true characters (else on the visual predictions).
        cross_cloze_mask: the cross branch is trained with the cloze mask of refinement (else with the permutation).
        cross_loss_weight: weight of the cross branch's loss.
        cross_token_embedding: captions enter as token embeddings, not through the text tower.
        cls_eot_feature: one class token and one end-of-text token instead of all tokens.
        decode_ar: the visual branch starts left to right (else all positions at once).
        refine_iters: refinements of both branches after the first pass.
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
    perm_num: int = 6
    perm_forward: bool = True
    perm_mirrored: bool = True

    def __post_init__(self) -> None:
        c = self.clip
        if c.is_resnet:
            raise ValueError("CLIP4STR reads all image tokens; it needs a ViT, vision_layers must be one number")
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
        """Number of positions of a decoder: the longest word and its EOS."""
        return self.max_label_length + 1


class CLIP4STR(nn.Module):
    """The parameters of the model, and the steps of which `decode` and the loss consist."""

    config: CLIP4STRConfig
    dtype: Dtype = jnp.float32
    remat: str = "none"

    def setup(self) -> None:
        """Creates CLIP and the decoders."""
        c, tokens = self.config, CharsetTokenizer(self.config.charset)
        self.clip_model = CLIP(c.clip, self.dtype, self.remat)
        decoder = functools.partial(
            Decoder,
            heads=c.decoder_heads,
            depth=c.decoder_depth,
            num_tokens=tokens.num_tokens,
            num_classes=tokens.num_classes,
            max_positions=c.num_positions,
            mlp_ratio=c.decoder_mlp_ratio,
            dropout=c.dropout,
            dtype=self.dtype,
        )
        self.visual_decoder = decoder(c.clip.embed_dim if c.use_share_dim else c.clip.vision_width)
        if c.use_language_model:
            self.cross_decoder = decoder(c.clip.embed_dim)

    def decoder(self, branch: str) -> Decoder:
        """The decoder of `branch`, "visual" or "cross"."""
        return self.visual_decoder if branch == "visual" else self.cross_decoder

    def encode_image(self, images: Array) -> Array:
        """Tokens that the visual branch reads: [b, n, d] of normalized images [b, h, w, 3]."""
        tokens = self.clip_model.encode_image(images, self.config.use_share_dim)
        return tokens[:, :1] if self.config.cls_eot_feature else tokens

    def cross_image_tokens(self, tokens: Array) -> Array:
        """Image tokens that the cross branch reads, [b, n, embed_dim]."""
        if self.config.image_detach:
            tokens = jax.lax.stop_gradient(tokens)
        return tokens if self.config.use_share_dim else self.clip_model.visual.project(tokens)

    def captions(self, ids: Array, num_positions: Array | int) -> Array:
        """Text-encoder ids [b, context_length] of predictions [b, t]; see `CaptionTokenizer`."""
        c = self.config
        return CaptionTokenizer(c.charset, c.caption_charset, c.context_length)(ids, num_positions)

    def encode_caption(self, caption_ids: Array) -> Array:
        """Text tokens that the cross branch reads, [b, m, embed_dim]."""
        if self.config.cross_token_embedding:
            return self.clip_model.token_embedding(caption_ids)
        features = self.clip_model.encode_text(caption_ids)
        if self.config.cls_eot_feature:
            return eot_feature(features, caption_ids)[:, None]
        return features

    def __call__(self, images: Array) -> Array:
        """Uses all parameters once, for `init`. Returns visual logits of BOS alone, [b, 1, 1, v]."""
        bos = jnp.full((images.shape[0], 1, 1), CharsetTokenizer(self.config.charset).bos_id)
        mask = jnp.ones((1, 1, 1, 1), bool)

        def decode(decoder: Decoder, *memories: Array) -> Array:
            return decoder(bos, [decoder.project_memory(memory[:, None]) for memory in memories], mask, mask)

        tokens = self.encode_image(images)
        logits = decode(self.visual_decoder, tokens)
        text = self.clip_model.encode_text(self.captions(logits[:, 0].argmax(-1), 1))
        if self.config.use_language_model:
            decode(self.cross_decoder, self.cross_image_tokens(tokens), text)
        return logits
