"""Dual predict-and-refine decoding of CLIP4STR as one compiled program.

The visual branch reads the image; its string becomes a caption; the cross branch reads image and caption; then both
are refined. Source: VL4STR.forward in strhub/models/vl_str/system.py of the original.
"""

from typing import Literal, NamedTuple

import jax
import jax.numpy as jnp

from tcm_jax.models.clip4str import CLIP4STR
from tcm_jax.models.decoder import cloze_mask
from tcm_jax.text.charset import CharsetTokenizer

EOS = CharsetTokenizer.eos_id
Stop = Literal["eos", "never", "visual"]


class Decoded(NamedTuple):
    """What every pass of `decode` computed; the first entry is the first pass, then one entry per refinement.

    visual, cross: logits, float32 [b, t, v] each; `cross` is empty without a language model.
    captions: text-encoder ids, int32 [b, context_length] each.
    lengths: positions that the first pass of the visual and of the cross branch decoded, scalars; later positions
        of its logits are zero.
    """

    visual: list[jax.Array]
    cross: list[jax.Array]
    captions: list[jax.Array]
    lengths: tuple[jax.Array, jax.Array]

    @property
    def logits(self) -> jax.Array:
        """The result: the last logits of the cross branch, or of the visual branch if it is alone."""
        return self.cross[-1] if self.cross else self.visual[-1]


def decode(
    model: CLIP4STR,
    variables,
    images: jax.Array,
    max_length: int | None = None,
    stop: Stop = "eos",
    mask: jax.Array | None = None,
) -> Decoded:
    """Reads a batch of images.

    Args:
        images: normalized, [b, h, w, 3].
        max_length: limit of the word length; at most `max_label_length`, its default.
        stop: when the first pass of a branch ends.
            "eos": as soon as every sample has its EOS in that branch. Nothing before an EOS depends on it, so a
            result does not depend on the batch. It equals the original called with an explicit max_length.
            "never": all positions are decoded, as the original does in validation.
            "visual": the original's rule in testing. The visual branch stops as "eos", then the cross branch gets
            just as many steps, so that strings depend on the slowest sample of the batch.
        mask: [v], added to the logits of every pass: 0, or minus infinity for a class that is not allowed. EOS has
            to be.
    """
    config = model.config
    limit = config.max_label_length if max_length is None else min(max_length, config.max_label_length)
    t, batch = limit + 1, images.shape[0]
    tokens = CharsetTokenizer(config.charset)

    def call(method, *args):
        return model.apply(variables, *args, method=method)

    def allowed(logits):
        return logits if mask is None else logits + mask

    def first_pass(branch, memories, steps, stop_at_eos: bool):
        """Left-to-right logits [b, t, v] and the number of steps taken (at most `steps`)."""

        def more(state):
            i, _, _, _, ended = state
            return (i < steps) & ~(ended.all() & stop_at_eos)

        def step(state):
            i, token, cache, logits, ended = state
            now, cache = call(CLIP4STR.decode_step, branch, token, i, cache, memories)
            now = allowed(now)
            token = now.argmax(-1)
            logits = jax.lax.dynamic_update_slice_in_dim(logits, now[:, None], i, axis=1)
            return i + 1, token, cache, logits, ended | (token == EOS)

        bos = jnp.full((batch,), tokens.bos_id)
        cache = call(CLIP4STR.empty_cache, branch, batch)
        logits = jnp.zeros((batch, t, tokens.num_classes), jnp.float32)
        state = (jnp.int32(0), bos, cache, logits, jnp.zeros((batch,), bool))
        steps_taken, _, _, logits, _ = jax.lax.while_loop(more, step, state)
        return logits, steps_taken

    def refine(branch, memories, logits, length):
        """Logits of all positions, each from its neighbours on both sides in the earlier prediction."""
        bos = jnp.full((batch, 1), tokens.bos_id)
        ids = jnp.concatenate([bos, logits[:, :-1].argmax(-1)], axis=1)  # [b, t]
        known = (jnp.cumsum(ids == EOS, axis=1) == 0) & (jnp.arange(t) < length)  # [b, t]
        # The original uses the cloze mask for the content stream too; with one layer that stream is never updated.
        seen = (known[:, None] & cloze_mask(t))[:, None]  # [b, 1, q, t]
        return allowed(call(CLIP4STR.decode, branch, ids[:, None], memories, seen, seen)[:, 0])

    def caption_memory(logits, length):
        ids = call(CLIP4STR.captions, logits.argmax(-1), length)
        return ids, call(CLIP4STR.project_memory, "cross", call(CLIP4STR.encode_caption, ids)[:, None])

    image_tokens = call(CLIP4STR.encode_image, images)
    visual_memory = [call(CLIP4STR.project_memory, "visual", image_tokens[:, None])]
    if config.decode_ar:
        visual, visual_length = first_pass("visual", visual_memory, t, stop != "never")
    else:
        bos = jnp.full((batch, 1, 1), tokens.bos_id)
        seen = jnp.ones((1, 1, t, 1), bool)
        visual = allowed(call(CLIP4STR.decode, "visual", bos, visual_memory, seen, seen)[:, 0])
        visual_length = jnp.int32(t)

    result = Decoded([visual], [], [], (visual_length, visual_length))
    if config.use_language_model:
        cross_image = call(CLIP4STR.cross_image_tokens, image_tokens)
        image_memory = call(CLIP4STR.project_memory, "cross", cross_image[:, None])
        caption, text_memory = caption_memory(visual, visual_length)
        steps = visual_length if stop == "visual" else t
        cross, cross_length = first_pass("cross", [image_memory, text_memory], steps, stop == "eos")
        result = Decoded([visual], [cross], [caption], (visual_length, cross_length))

    known = result.lengths  # positions of the latest logits that exist
    for _ in range(config.refine_iters):
        result.visual.append(refine("visual", visual_memory, result.visual[-1], known[0]))
        if config.use_language_model:
            caption, text_memory = caption_memory(result.visual[-1], t)
            result.captions.append(caption)
            result.cross.append(refine("cross", [image_memory, text_memory], result.cross[-1], known[1]))
        known = (jnp.int32(t), jnp.int32(t))
    return result
