"""Dual predict-and-refine decoding of CLIP4STR as one compiled program.

The visual branch reads the image; its string becomes a caption; the cross branch reads image and caption; then both
are refined. Source: VL4STR.forward in strhub/models/vl_str/system.py of the original.
"""

from collections.abc import Mapping
from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
from jax import Array

from tcm_jax.models.clip4str import CLIP4STR
from tcm_jax.models.decoder import LayerMemories, cloze_mask
from tcm_jax.models.layers import KeyValue
from tcm_jax.text.charset import CharsetTokenizer

EOS = CharsetTokenizer.eos_id
Stop = Literal["eos", "never", "visual"]
_State = tuple[Array, Array, list[KeyValue], Array, Array]  # position, last tokens, cache, logits, which have ended


class Decoded(NamedTuple):
    """Results of all passes of `decode`: the first entry is the first pass, the others are refinements.

    visual, cross: logits, float32 [b, t, v] each; `cross` is empty without a language model.
    captions: text-encoder ids, int32 [b, context_length] each.
    lengths: number of positions that the first pass of the visual and of the cross branch decoded, scalars; later
        positions of its logits are zero.
    """

    visual: list[Array]
    cross: list[Array]
    captions: list[Array]
    lengths: tuple[Array, Array]

    @property
    def logits(self) -> Array:
        """The result: the last logits of the cross branch, or of the visual branch if it is alone."""
        return self.cross[-1] if self.cross else self.visual[-1]


def decode(
    model: CLIP4STR,
    variables: Mapping[str, Any],
    images: Array,
    max_length: int | None = None,
    stop: Stop = "eos",
    mask: Array | None = None,
) -> Decoded:
    """Reads a batch of images.

    Args:
        images: normalized, [b, h, w, 3].
        max_length: maximum word length; at most `max_label_length`, its default.
        stop: when the first pass of a branch ends.
            "eos": as soon as every sample has its EOS in that branch. Nothing before an EOS depends on it, so a
            result does not depend on the batch. It equals the original called with an explicit max_length.
            "never": all positions are decoded, as the original does in validation.
            "visual": the original's rule in testing. The visual branch stops as "eos", then the cross branch gets
            just as many steps, so that strings depend on the slowest sample of the batch.
        mask: [v], added to the logits of every pass: 0, or minus infinity for a class that is not allowed. EOS must
            be allowed.
    """
    config = model.config
    limit = config.max_label_length if max_length is None else min(max_length, config.max_label_length)
    t, batch = limit + 1, images.shape[0]
    tokens = CharsetTokenizer(config.charset)
    bos = jnp.full((batch, 1), tokens.bos_id)

    def bound() -> CLIP4STR:
        return model.bind(variables)

    def masked(logits: Array) -> Array:
        return logits if mask is None else logits + mask

    def first_pass(
        branch: str, memories: LayerMemories, max_steps: Array | int, stop_at_eos: bool
    ) -> tuple[Array, Array]:
        """Left-to-right logits [b, t, v] and the number of steps taken."""

        def more(state: _State) -> Array:
            i, _, _, _, ended = state
            return (i < max_steps) & ~(ended.all() & stop_at_eos)

        def step(state: _State) -> _State:
            i, token, cache, logits, ended = state
            new, cache = bound().decoder(branch).decode_step(token, i, cache, memories)
            token = masked(new).argmax(-1)
            logits = jax.lax.dynamic_update_slice_in_dim(logits, masked(new)[:, None], i, axis=1)
            return i + 1, token, cache, logits, ended | (token == EOS)

        cache = bound().decoder(branch).empty_cache(batch)
        logits = jnp.zeros((batch, t, tokens.num_classes), jnp.float32)
        state = jnp.int32(0), bos[:, 0], cache, logits, jnp.zeros((batch,), bool)
        steps, _, _, logits, _ = jax.lax.while_loop(more, step, state)
        return logits, steps

    def all_positions(branch: str, ids: Array, memories: LayerMemories, visible: Array) -> Array:
        """Logits [b, t, v] of all positions at once, by content ids [b, n] of which some are `visible`."""
        # The original has the same mask for the content stream, which a decoder of one layer never updates.
        return masked(bound().decoder(branch)(ids[:, None], memories, visible, visible)[:, 0])

    def refine(branch: str, memories: LayerMemories, logits: Array, length: Array) -> Array:
        """Logits of all positions, each from its neighbours on both sides in the earlier prediction."""
        ids = jnp.concatenate([bos, logits[:, :-1].argmax(-1)], axis=1)  # [b, t]
        known = (jnp.cumsum(ids == EOS, axis=1) == 0) & (jnp.arange(t) < length)  # [b, t]
        return all_positions(branch, ids, memories, (known[:, None] & cloze_mask(t))[:, None])

    def project(branch: str, tokens: Array) -> list[KeyValue]:
        return bound().decoder(branch).project_memory(tokens[:, None])

    def caption_memory(logits: Array, length: Array | int) -> tuple[Array, list[KeyValue]]:
        ids = bound().captions(logits.argmax(-1), length)
        return ids, project("cross", bound().encode_caption(ids))

    image_tokens = bound().encode_image(images)
    visual_memory = [project("visual", image_tokens)]
    if config.decode_ar:
        visual, visual_length = first_pass("visual", visual_memory, t, stop != "never")
    else:
        visual = all_positions("visual", bos, visual_memory, jnp.ones((1, 1, t, 1), bool))
        visual_length = jnp.int32(t)

    result = Decoded([visual], [], [], (visual_length, visual_length))
    if config.use_language_model:
        image_memory = project("cross", bound().cross_image_tokens(image_tokens))
        caption, text_memory = caption_memory(visual, visual_length)
        max_steps = visual_length if stop == "visual" else t
        cross, cross_length = first_pass("cross", [image_memory, text_memory], max_steps, stop == "eos")
        result = Decoded([visual], [cross], [caption], (visual_length, cross_length))

    lengths = result.lengths  # number of positions that the latest logits have
    for _ in range(config.refine_iters):
        result.visual.append(refine("visual", visual_memory, result.visual[-1], lengths[0]))
        if config.use_language_model:
            caption, text_memory = caption_memory(result.visual[-1], t)
            result.captions.append(caption)
            result.cross.append(refine("cross", [image_memory, text_memory], result.cross[-1], lengths[1]))
        lengths = (jnp.int32(t), jnp.int32(t))
    return result
