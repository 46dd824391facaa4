"""The two-stream character decoder (PARSeq's), used once per branch by CLIP4STR.

Source: strhub/models/vl_str/modules.py of the original. The query stream asks "which character stands at
position i?"; the content stream holds the characters known so far.

Arrays carry a group axis g: alternatives of one sample that share its image (permutations in training, 1 else).
"""

from collections.abc import Sequence

import flax.linen as nn
import jax
import jax.numpy as jnp

from tcm_jax.models.layers import (
    Attention,
    Dense,
    Dtype,
    KeyValue,
    LayerNorm,
    decoder_init,
    exact_gelu,
    rows_over_mesh,
)


class TwoStreamDecoderLayer(nn.Module):
    """Pre-norm layer with self-attention over the content and cross-attention over the memory."""

    width: int
    heads: int
    mlp_ratio: int = 4
    dropout: float = 0.1
    dtype: Dtype = jnp.float32

    def setup(self):
        attention = {"dtype": self.dtype, "kernel_init": decoder_init}
        self.self_attn = Attention(self.width, self.heads, **attention)
        self.cross_attn = Attention(self.width, self.heads, **attention)
        self.linear1 = Dense(self.mlp_ratio * self.width, dtype=self.dtype, kernel_init=decoder_init)
        self.linear2 = Dense(self.width, dtype=self.dtype, kernel_init=decoder_init)
        self.norm1, self.norm2 = LayerNorm(), LayerNorm()
        self.norm_q, self.norm_c = LayerNorm(), LayerNorm()
        self.drop = nn.Dropout(self.dropout)

    def key_value(self, content: jax.Array) -> KeyValue:
        """Self-attention keys and values of the content stream [b, g, t, d]."""
        return self.self_attn.key_value(self.norm_c(content))

    def stream(
        self,
        x: jax.Array,
        normed: jax.Array,
        content: KeyValue,
        memories: Sequence[KeyValue],
        mask: jax.Array,
        train: bool,
    ) -> jax.Array:
        """One stream through the layer.

        Args:
            x: [b, g, q, d]; normed: the same, normalized by the stream's own norm.
            content: keys and values of the content; memories: projected by `cross_attn`.
            mask: True where a content key is visible, broadcasting to [b, g, q, t].
        """

        def drop(y: jax.Array) -> jax.Array:
            return self.drop(y, deterministic=not train)

        x = x + drop(self.self_attn(normed, [content], mask, drop))
        x = x + drop(self.cross_attn(self.norm1(x), memories, None, drop))
        y = drop(exact_gelu(self.linear1(self.norm2(x))))
        return x + drop(self.linear2(y))


class Decoder(nn.Module):
    """Character embedding, position queries, layers, classifier.

    Args:
        num_tokens: size of the embedding (characters, EOS, BOS, PAD); num_classes: outputs of the classifier.
        max_positions: number of position queries, max_label_length + 1.
    """

    width: int
    heads: int
    depth: int
    num_tokens: int
    num_classes: int
    max_positions: int
    mlp_ratio: int = 4
    dropout: float = 0.1
    dtype: Dtype = jnp.float32

    def setup(self):
        self.layers = [
            TwoStreamDecoderLayer(self.width, self.heads, self.mlp_ratio, self.dropout, self.dtype)
            for _ in range(self.depth)
        ]
        self.text_embed = nn.Embed(self.num_tokens, self.width, embedding_init=decoder_init, dtype=self.dtype)
        self.pos_queries = self.param("pos_queries", decoder_init, (1, self.max_positions, self.width))
        self.norm = LayerNorm()
        self.head = Dense(self.num_classes, dtype=self.dtype, kernel_init=decoder_init)
        self.drop = nn.Dropout(self.dropout)

    def positions(self, start: jax.Array | int, length: int) -> jax.Array:
        """Position queries start .. start + length - 1, [1, 1, length, d]."""
        return jax.lax.dynamic_slice_in_dim(self.pos_queries, start, length, axis=1)[None].astype(self.dtype)

    def embed(self, ids: jax.Array, positions: jax.Array) -> jax.Array:
        """Content stream of `ids` [b, g, t]; BOS has no position, character k has query k. [b, g, t, d]."""
        return self.text_embed(ids) * jnp.asarray(self.width**0.5, self.dtype) + positions

    def project_memory(self, memory: jax.Array) -> list[KeyValue]:
        """Keys and values of `memory` [b, g, m, d], one pair per layer."""
        return [layer.cross_attn.key_value(memory) for layer in self.layers]

    def __call__(
        self,
        ids: jax.Array,
        memories: Sequence[Sequence[KeyValue]],
        query_mask: jax.Array,
        content_mask: jax.Array,
        train: bool = False,
    ) -> jax.Array:
        """Logits of all positions at once.

        Args:
            ids: content ids [b, 1 or g, t], BOS first.
            memories: results of `project_memory`; attention runs over all of them together.
            query_mask: True where query i may see content j, broadcasting to [b, g, q, t]; q positions are asked.
            content_mask: the same for the content stream, to [b, g, t, t]. A decoder of one layer never uses it.

        Returns:
            float32 [b, g, q, num_classes].
        """

        def drop(y: jax.Array) -> jax.Array:
            return self.drop(y, deterministic=not train)

        b, _, t = ids.shape
        groups, asked = query_mask.shape[1], query_mask.shape[2]
        null = jnp.zeros_like(self.positions(0, 1))
        content = self.embed(ids, jnp.concatenate([null, self.positions(0, t - 1)], axis=2))
        content = drop(rows_over_mesh(content))
        query = jnp.broadcast_to(self.positions(0, asked), (b, groups, asked, self.width))
        query = drop(rows_over_mesh(query))
        for i, layer in enumerate(self.layers):
            memory = [m[i] for m in memories]
            key_value = layer.key_value(content)
            query = rows_over_mesh(layer.stream(query, layer.norm_q(query), key_value, memory, query_mask, train))
            if i + 1 < len(self.layers):
                content = jnp.broadcast_to(content, (b, groups, t, self.width))
                content = layer.stream(content, layer.norm_c(content), key_value, memory, content_mask, train)
        return self.head(self.norm(query)).astype(jnp.float32)

    def empty_cache(self, batch: int) -> list[KeyValue]:
        """Zero keys and values for `decode_step`, [b, k, 1, max_positions, e] per layer."""
        shape = (batch, self.heads, 1, self.max_positions, self.width // self.heads)
        return [(jnp.zeros(shape, self.dtype), jnp.zeros(shape, self.dtype)) for _ in range(self.depth)]

    def decode_step(
        self, token: jax.Array, i: jax.Array, cache: list[KeyValue], memories: Sequence[Sequence[KeyValue]]
    ) -> tuple[jax.Array, list[KeyValue]]:
        """Logits of position i, left to right.

        Causal masks never let an old character see a new one, so the content's keys and values of earlier steps
        stay valid and only the new token passes through the layers.

        Args:
            token: the token before position i (BOS for i = 0), [b].

        Returns:
            float32 logits [b, num_classes] and the grown cache.
        """
        position = jnp.where(i > 0, self.positions(jnp.maximum(i - 1, 0), 1), 0)
        content = self.embed(token[:, None, None], position)  # [b, 1, 1, d]
        query = jnp.broadcast_to(self.positions(i, 1), content.shape)
        visible = jnp.arange(self.max_positions) <= i
        grown = []
        for n, (layer, (keys, values)) in enumerate(zip(self.layers, cache, strict=True)):
            memory = [m[n] for m in memories]
            key, value = layer.key_value(content)
            keys = jax.lax.dynamic_update_slice_in_dim(keys, key, i, axis=3)
            values = jax.lax.dynamic_update_slice_in_dim(values, value, i, axis=3)
            grown.append((keys, values))
            query = layer.stream(query, layer.norm_q(query), (keys, values), memory, visible, False)
            if n + 1 < self.depth:
                content = layer.stream(content, layer.norm_c(content), (keys, values), memory, visible, False)
        return self.head(self.norm(query))[:, 0, 0].astype(jnp.float32), grown


def cloze_mask(t: int) -> jax.Array:
    """Bool [t, t]: query i sees every content position but i + 1, its own character."""
    at = jnp.arange(t)
    return at != at[:, None] + 1
