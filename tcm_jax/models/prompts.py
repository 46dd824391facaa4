"""TCM's prompts: text tower with learnable contexts, language prompt generator, context decoder.

Source: TCM section 3; ocrclip/models.py (CLIPTextContextEncoder, PromptGenerator, ContextDecoder).
"""

import flax.linen as nn
import jax
import jax.numpy as jnp

from tcm_jax.models.clip import TextTower
from tcm_jax.models.layers import Dense, Dtype, LayerNorm, attend, decoder_init, exact_gelu, heads_first


class TextContextEncoder(TextTower):
    """CLIP's text tower for prompts of words and learnable vectors."""

    def __call__(
        self, ids: jax.Array | None, contexts: jax.Array | None = None, conditional: jax.Array | None = None
    ) -> jax.Array:
        """Features of prompts at their end-of-text token.

        A prompt is [SOT, contexts, words, EOT, padding]; without `ids` it is the contexts alone, read at the last.
        Padding needs no mask: it lies behind EOT, where the causal mask hides it.

        Args:
            ids: token ids int [k, t] of k prompts.
            contexts: learnable vectors [1, n, d], the same for all prompts.
            conditional: [b, d], added to every position of the prompts of image i (language prompt generator).

        Returns:
            [b, k, embed_dim]; b is 1 without `conditional`.

        Raises:
            ValueError: a prompt longer than the position embedding.
        """
        x, end = self.embed(ids, contexts, conditional)  # [b * k, t, d]
        x = self.contextualize(x)
        x = jnp.take_along_axis(x, end[:, None, None], axis=1)[:, 0]  # [b * k, d]
        k = 1 if ids is None else len(ids)
        return self.project_text(x).reshape(-1, k, self.config.embed_dim)

    def embed(
        self, ids: jax.Array | None, contexts: jax.Array | None, conditional: jax.Array | None
    ) -> tuple[jax.Array, jax.Array]:
        """What enters the transformer, [b * k, t, d] image by image, and the position that is read, [b * k]."""
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
        return self.place(x), end


class PromptGenerator(nn.Module):
    """Language prompt generator: the global image feature to a vector for the text tower. Width stays as it is."""

    features: int
    dtype: Dtype = jnp.float32

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
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
    def __call__(self, x: jax.Array, memory: jax.Array, mask: jax.Array | None = None) -> jax.Array:
        """x [b, q, d] over memory [b, m, d] -> [b, q, d]. mask: bool [b, m], places of the memory that count."""
        width = x.shape[-1]
        split = (self.heads, width // self.heads)

        def project(name: str, y: jax.Array) -> jax.Array:
            dense = Dense(split, use_bias=False, dtype=self.dtype, kernel_init=decoder_init, name=name)
            return heads_first(dense(y[:, None]))

        visible = None if mask is None else mask[:, None, None]  # [b, 1, 1, m]
        y = attend(project("q_proj", x), [(project("k_proj", memory), project("v_proj", memory))], visible)
        y = y.transpose(0, 2, 3, 1, 4)  # [b, 1, q, k, e]
        return Dense(width, inputs=2, dtype=self.dtype, kernel_init=decoder_init, name="proj")(y)[:, 0]


class TransformerDecoderLayer(nn.Module):
    """Pre-norm block: self-attention, attention to the memory, MLP with exact GELU."""

    heads: int
    dropout: float
    dtype: Dtype = jnp.float32

    @nn.compact
    def __call__(
        self,
        x: jax.Array,
        memory: jax.Array,
        train: bool,
        query_mask: jax.Array | None,
        memory_mask: jax.Array | None,
    ) -> jax.Array:
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

    Once it is the visual prompt generator (image tokens look at the text), once the release's context decoder (the
    text looks at the image).
    """

    width: int
    layers: int
    heads: int
    dropout: float
    dtype: Dtype = jnp.float32

    @nn.compact
    def __call__(
        self,
        x: jax.Array,
        memory: jax.Array,
        train: bool = False,
        query_mask: jax.Array | None = None,
        memory_mask: jax.Array | None = None,
    ) -> jax.Array:
        """x [b, q, d] looks at memory [b, m, d] -> [b, q, d]. Masks: bool [b, q] and [b, m], what counts."""

        def project(features: int, name: str, x: jax.Array) -> jax.Array:
            """LayerNorm and a linear layer, places 0 and 1 of what PyTorch has as one Sequential."""
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
