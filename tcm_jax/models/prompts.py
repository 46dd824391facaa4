"""TCM's prompts: text tower with learnable context vectors, language prompt generator, context decoder.

Source: TCM section 3; ocrclip/models.py (CLIPTextContextEncoder, PromptGenerator, ContextDecoder).
"""

import flax.linen as nn
import jax.numpy as jnp
from jax import Array

from tcm_jax.models.clip import TextTower
from tcm_jax.models.layers import Dense, Dtype, LayerNorm, decoder_init, exact_gelu, project_and_attend


class TextContextEncoder(TextTower):
    """CLIP's text tower for prompts of words and learnable vectors."""

    def __call__(self, ids: Array | None, contexts: Array | None = None, conditional: Array | None = None) -> Array:
        """Features of prompts at their end-of-text token.

        A prompt is [SOT, contexts, words, EOT, padding]. Without `ids` it is the contexts alone, and the feature of
        the last one is taken. Padding needs no mask: it follows EOT, where the causal mask hides it.

        Args:
            ids: token ids int [k, t] of k prompts.
            contexts: learnable vectors [1, n, d], the same for all prompts.
            conditional: [b, d] of the language prompt generator; row i is added to every position of the prompts of
                image i.

        Returns:
            [b, k, embed_dim]; b is 1 without `conditional`.

        Raises:
            ValueError: a prompt longer than the position embedding.
        """
        x, end = self.embed(ids, contexts, conditional)  # [b * k, t, d]
        x = jnp.take_along_axis(self.transform(x), end[:, None, None], axis=1)[:, 0]  # [b * k, d]
        k = 1 if ids is None else len(ids)
        return self.project_text(x).reshape(-1, k, self.config.embed_dim)

    def embed(self, ids: Array | None, contexts: Array | None, conditional: Array | None) -> tuple[Array, Array]:
        """Input of the transformer, [b * k, t, d] image by image, and the index of the output token, [b * k]."""
        if ids is None:
            if contexts is None:
                raise ValueError("a prompt needs words, learnable vectors or both")
            x = contexts.astype(self.dtype)
            end = jnp.array([x.shape[1] - 1])
        else:
            x = self.token_embedding(ids)
            end = ids.argmax(-1)  # EOT has the highest id
            if contexts is not None:
                repeated = jnp.broadcast_to(contexts, (x.shape[0], *contexts.shape[1:])).astype(self.dtype)
                x = jnp.concatenate([x[:, :1], repeated, x[:, 1:]], axis=1)  # [k, t, d]
                end = end + contexts.shape[1]
        if conditional is not None:
            x = x + conditional.astype(self.dtype)[:, None, None]  # [b, k, t, d]
            end = jnp.tile(end, conditional.shape[0])
            x = x.reshape(-1, *x.shape[2:])  # [b * k, t, d]
        return self.add_positions(x), end


class PromptGenerator(nn.Module):
    """Language prompt generator: an MLP from the global image feature to a vector of the text tower's width."""

    features: int
    dtype: Dtype = jnp.float32

    @nn.compact
    def __call__(self, x: Array) -> Array:
        """x [b, d] -> [b, features]."""
        x = LayerNorm(name="prompt_proj_0")(x)
        x = nn.relu(Dense(x.shape[-1], dtype=self.dtype, kernel_init=decoder_init, name="prompt_proj_1")(x))
        x = LayerNorm(name="prompt_proj_3")(x)
        return Dense(self.features, dtype=self.dtype, kernel_init=decoder_init, name="prompt_proj_4")(x)


class CrossAttention(nn.Module):
    """Multi-head attention without bias in its three projections."""

    heads: int
    dtype: Dtype = jnp.float32

    @nn.compact
    def __call__(self, x: Array, memory: Array, mask: Array | None = None) -> Array:
        """x [b, q, d] over memory [b, m, d] -> [b, q, d]; mask: valid memory tokens, bool [b, m]."""
        options = {"use_bias": False, "dtype": self.dtype, "kernel_init": decoder_init}
        return project_and_attend(x, memory, mask, x.shape[-1], self.heads, "proj", **options)


class TransformerDecoderLayer(nn.Module):
    """Pre-norm block: self-attention, cross-attention to the memory, MLP with exact GELU."""

    heads: int
    dropout: float
    dtype: Dtype = jnp.float32

    @nn.compact
    def __call__(
        self, x: Array, memory: Array, train: bool, query_mask: Array | None, memory_mask: Array | None
    ) -> Array:
        """x [b, q, d], memory [b, m, d] -> [b, q, d]; masks as of `ContextDecoder`."""
        width = x.shape[-1]
        drop = nn.Dropout(self.dropout, deterministic=not train)
        y = LayerNorm(name="norm1")(x)
        x = x + drop(CrossAttention(self.heads, self.dtype, name="self_attn")(y, y, query_mask))
        y = LayerNorm(name="norm2")(x)
        x = x + drop(CrossAttention(self.heads, self.dtype, name="cross_attn")(y, memory, memory_mask))
        y = Dense(4 * width, dtype=self.dtype, kernel_init=decoder_init, name="mlp_0")(LayerNorm(name="norm3")(x))
        return x + drop(Dense(width, dtype=self.dtype, kernel_init=decoder_init, name="mlp_3")(drop(exact_gelu(y))))


class ContextDecoder(nn.Module):
    """Transformer decoder of a small width between two projections.

    TCM has two: the visual prompt generator, where image tokens attend to the text, and the release's context
    decoder, where the text attends to the image tokens.
    """

    width: int
    layers: int
    heads: int
    dropout: float
    dtype: Dtype = jnp.float32

    @nn.compact
    def __call__(
        self,
        x: Array,
        memory: Array,
        train: bool = False,
        query_mask: Array | None = None,
        memory_mask: Array | None = None,
    ) -> Array:
        """x [b, q, d] attends to memory [b, m, d] -> [b, q, d]. Masks: valid tokens of both, bool [b, q] and [b, m]."""

        def project(features: int, name: str, x: Array) -> Array:
            """LayerNorm and a linear layer, items 0 and 1 of a Sequential of the original."""
            dense = Dense(features, dtype=self.dtype, kernel_init=decoder_init, name=f"{name}_1")
            return dense(LayerNorm(name=f"{name}_0")(x))

        features = x.shape[-1]
        memory = LayerNorm(name="memory_proj_2")(project(self.width, "memory_proj", memory))
        x = project(self.width, "text_proj", x)
        for i in range(self.layers):
            layer = TransformerDecoderLayer(self.heads, self.dropout, self.dtype, name=f"decoder_{i}")
            x = layer(x, memory, train, query_mask, memory_mask)
            self.sow("intermediates", "layers", x)
        return project(features, "out_proj", x)
