"""The two-stream character decoder (PARSeq's), used once per branch by CLIP4STR.

Source: strhub/models/vl_str/modules.py of the original. The query stream asks which character stands at position i;
the content stream holds the characters known so far.

Arrays have a group axis g, for alternatives of one sample that share its image: the permutations of a label in
training, else 1.
"""

import functools
from collections.abc import Sequence

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax import Array

from tcm_jax.models.layers import Attention, Dense, Dtype, KeyValue, LayerNorm, decoder_init, exact_gelu, shard_batch

LayerMemories = Sequence[list[KeyValue]]  # by memory and layer, see `Decoder.project_memory`


class TwoStreamDecoderLayer(nn.Module):
    """Pre-norm layer with self-attention over the content and cross-attention over the memory."""

    width: int
    heads: int
    mlp_ratio: int = 4
    dropout: float = 0.1
    dtype: Dtype = jnp.float32

    def setup(self) -> None:
        """Creates the layers, with the names of the original."""
        attention = {"dtype": self.dtype, "kernel_init": decoder_init}
        self.self_attn = Attention(self.width, self.heads, **attention)
        self.cross_attn = Attention(self.width, self.heads, **attention)
        self.linear1 = Dense(self.mlp_ratio * self.width, dtype=self.dtype, kernel_init=decoder_init)
        self.linear2 = Dense(self.width, dtype=self.dtype, kernel_init=decoder_init)
        self.norm1, self.norm2 = LayerNorm(), LayerNorm()
        self.norm_q, self.norm_c = LayerNorm(), LayerNorm()
        self.drop = nn.Dropout(self.dropout)

    def key_value(self, content: Array) -> KeyValue:
        """Self-attention keys and values of the content stream [b, g, t, d]."""
        return self.self_attn.key_value(self.norm_c(content))

    def stream(
        self, x: Array, normed: Array, content: KeyValue, memories: Sequence[KeyValue], mask: Array, train: bool
    ) -> Array:
        """Passes one stream through the layer.

        Args:
            x: [b, g, q, d].
            normed: x, normalized by the stream's own norm.
            content: keys and values of the content.
            memories: keys and values of `cross_attn`.
            mask: True where a content key is visible, broadcasting to [b, g, q, t].
        """
        drop = functools.partial(self.drop, deterministic=not train)
        x = x + drop(self.self_attn(normed, [content], mask, drop))
        x = x + drop(self.cross_attn(self.norm1(x), memories, None, drop))
        y = drop(exact_gelu(self.linear1(self.norm2(x))))
        return x + drop(self.linear2(y))


class Decoder(nn.Module):
    """Character embedding, position queries, layers, classifier.

    Args:
        num_tokens: size of the embedding: characters, EOS, BOS, PAD.
        num_classes: outputs of the classifier: characters and EOS.
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

    def setup(self) -> None:
        """Creates layers and parameters, with the names of the original."""
        self.layers = [
            TwoStreamDecoderLayer(self.width, self.heads, self.mlp_ratio, self.dropout, self.dtype)
            for _ in range(self.depth)
        ]
        self.text_embed = nn.Embed(self.num_tokens, self.width, embedding_init=decoder_init, dtype=self.dtype)
        self.pos_queries = self.param("pos_queries", decoder_init, (1, self.max_positions, self.width))
        self.norm = LayerNorm()
        self.head = Dense(self.num_classes, dtype=self.dtype, kernel_init=decoder_init)
        self.drop = nn.Dropout(self.dropout)

    def positions(self, start: Array | int, length: int) -> Array:
        """Position queries start .. start + length - 1, [1, 1, length, d]."""
        return jax.lax.dynamic_slice_in_dim(self.pos_queries, start, length, axis=1)[None].astype(self.dtype)

    def embed(self, ids: Array, positions: Array) -> Array:
        """Input of the content stream: embedded `ids` [b, g, t] with `positions` added, [b, g, t, d]."""
        return self.text_embed(ids) * jnp.asarray(self.width**0.5, self.dtype) + positions

    def project_memory(self, memory: Array) -> list[KeyValue]:
        """Keys and values of `memory` [b, g, m, d], one pair per layer."""
        return [layer.cross_attn.key_value(memory) for layer in self.layers]

    def __call__(
        self, ids: Array, memories: LayerMemories, query_mask: Array, content_mask: Array, train: bool = False
    ) -> Array:
        """Logits of all positions at once.

        Args:
            ids: content ids [b, 1 or g, t], BOS first.
            memories: results of `project_memory`; attention runs over all of their keys.
            query_mask: True where query i may see content j, broadcasting to [b, g, q, t] for q positions.
            content_mask: the same for the content stream, to [b, g, t, t]; unused by a decoder of one layer.

        Returns:
            float32 [b, g, q, num_classes].
        """
        b, _, t = ids.shape
        groups, num_queries = query_mask.shape[1:3]
        bos_position = jnp.zeros_like(self.positions(0, 1))  # BOS has no position, character k has query k
        content = self.embed(ids, jnp.concatenate([bos_position, self.positions(0, t - 1)], axis=2))
        query = jnp.broadcast_to(self.positions(0, num_queries), (b, groups, num_queries, self.width))
        content, query = (self.drop(shard_batch(x), deterministic=not train) for x in (content, query))
        for n, layer in enumerate(self.layers):
            memory = [m[n] for m in memories]
            key_value = layer.key_value(content)
            query = shard_batch(layer.stream(query, layer.norm_q(query), key_value, memory, query_mask, train))
            if n + 1 < self.depth:
                content = jnp.broadcast_to(content, (b, groups, t, self.width))
                content = layer.stream(content, layer.norm_c(content), key_value, memory, content_mask, train)
        return self.head(self.norm(query)).astype(jnp.float32)

    def empty_cache(self, batch: int) -> list[KeyValue]:
        """Zero keys and values for `decode_step`, [b, k, 1, max_positions, e] per layer."""
        zeros = jnp.zeros((batch, self.heads, 1, self.max_positions, self.width // self.heads), self.dtype)
        return [(zeros, zeros)] * self.depth

    def decode_step(
        self, token: Array, i: Array, cache: list[KeyValue], memories: LayerMemories
    ) -> tuple[Array, list[KeyValue]]:
        """Logits of position i, left to right.

        A causal mask hides new characters from earlier ones. So the content's keys and values of earlier steps stay
        valid, and only the new token passes through the layers.

        Args:
            token: the token before position i (BOS for i = 0), [b].
            cache: `empty_cache`, then the one that the step before returned.
            memories: results of `project_memory`.

        Returns:
            (float32 logits [b, num_classes], the new cache).
        """
        position = jnp.where(i > 0, self.positions(jnp.maximum(i - 1, 0), 1), 0)
        content = self.embed(token[:, None, None], position)  # [b, 1, 1, d]
        query = jnp.broadcast_to(self.positions(i, 1), content.shape)
        visible = jnp.arange(self.max_positions) <= i
        new_cache = []
        for n, (layer, cached) in enumerate(zip(self.layers, cache, strict=True)):
            memory = [m[n] for m in memories]
            keys, values = (
                jax.lax.dynamic_update_slice_in_dim(old, new, i, axis=3)
                for old, new in zip(cached, layer.key_value(content), strict=True)
            )
            new_cache.append((keys, values))
            query = layer.stream(query, layer.norm_q(query), (keys, values), memory, visible, False)
            if n + 1 < self.depth:
                content = layer.stream(content, layer.norm_c(content), (keys, values), memory, visible, False)
        return self.head(self.norm(query))[:, 0, 0].astype(jnp.float32), new_cache


def cloze_mask(t: int) -> Array:
    """Bool [t, t]: query i sees all content positions except i + 1, its own character."""
    position = jnp.arange(t)
    return position != position[:, None] + 1
