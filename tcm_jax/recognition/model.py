"""The recognition objective: CLIP4STR's permuted-sequence loss, decoding, and parameter groups."""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from tcm_jax.models.clip4str import CLIP4STR, CLIP4STRConfig
from tcm_jax.models.decoder import cloze_mask
from tcm_jax.models.decoding import Stop, decode
from tcm_jax.models.layers import Dtype
from tcm_jax.recognition.options import ReadingOptions
from tcm_jax.recognition.permutations import attention_masks, sample_permutations
from tcm_jax.recognition.views import SINGLE_VIEW, CropViews
from tcm_jax.text.charset import CharsetTokenizer
from tcm_jax.text.dictionary import DictionaryPrior

Variables = Mapping[str, Any]

_DEFAULTS = ReadingOptions()

_ALTERNATIVES = 3  # characters at each place of a word that the dictionary prior may prefer


class Prediction(NamedTuple):
    """Reading of b words: character ids and their probabilities.

    [b, t] each is the greedy reading of an image; [b, n, t, k] are the likeliest k characters, in falling order, of n
    hypotheses of a word.
    """

    ids: jax.Array
    probabilities: jax.Array


class BranchLoss(NamedTuple):
    """Intermediate results of the loss for g permutations; see `RecognitionModel.branch_losses`."""

    visual_logits: jax.Array  # [b, g, t, v]
    cross_logits: jax.Array | None
    captions: jax.Array | None  # text-encoder ids [b, g, context_length]
    visual: jax.Array  # mean loss over targets, [g]
    cross: jax.Array
    num_targets: jax.Array  # [g]


class RecognitionModel:
    """What the trainer, the evaluation and the Python API ask of a recognizer.

    Args:
        config: architecture.
        dtype: of the computation; parameters are float32.
        mean, std: of the image normalization, for pixel values in 0..1.
        remat: what blocks keep for the backward pass, one of `tcm_jax.models.layers.REMAT_POLICIES`.
        options: how crops are read.

    Raises:
        ValueError: options that the architecture does not allow.
    """

    def __init__(
        self,
        config: CLIP4STRConfig,
        mean: Sequence[float],
        std: Sequence[float],
        dtype: Dtype = jnp.float32,
        remat: str = "none",
        options: ReadingOptions = _DEFAULTS,
    ) -> None:
        self.config, self.options = config, options.over(_DEFAULTS)
        if self.options.branches == "both" and not config.use_language_model:
            raise ValueError('branches is "both", which needs use_language_model: there is but the visual branch')
        self.model = CLIP4STR(config, dtype, remat)
        self.tokenizer = CharsetTokenizer(config.charset)
        self.mean, self.std = tuple(mean), tuple(std)
        prior = self.options.dictionary_prior or 1.0
        self.dictionary_prior = DictionaryPrior(prior) if prior != 1 else None
        self.views = CropViews(config.clip.image_size, self.options.views or SINGLE_VIEW)

    def init(self, key: jax.Array) -> Variables:
        """Random parameters, {"params": tree}."""
        images = jnp.zeros((1, *self.config.clip.image_size, 3))
        return self.model.init(key, images)

    def normalize(self, images: jax.Array) -> jax.Array:
        """uint8 [b, h, w, 3] -> float32, zero mean and unit variance by the model's statistics."""
        scale = 255 * jnp.asarray(self.std, jnp.float32)
        return (images - 255 * jnp.asarray(self.mean, jnp.float32)) / scale

    def loss(
        self, variables: Variables, batch: Mapping[str, jax.Array], key: jax.Array
    ) -> tuple[jax.Array, dict[str, jax.Array], dict]:
        """Loss of a training batch with dropout and freshly drawn permutations.

        Args:
            batch: "image" uint8 [b, h, w, 3] and "label" int32 [b, max_label_length + 2].

        Returns:
            (loss, metrics, {}): scalars; there are no running statistics.
        """
        c = self.config
        label = batch["label"]
        perm_key, dropout_key = jax.random.split(key)
        length = (label != self.tokenizer.pad_id).sum(1).max() - 2
        perms, valid = sample_permutations(
            perm_key, length, c.max_label_length, c.perm_num, c.perm_forward, c.perm_mirrored
        )
        images = self.normalize(batch["image"])
        result = self.branch_losses(variables, images, label, perms, valid, dropout_key)
        total = jnp.maximum(result.num_targets.sum(), 1)

        def mean(losses: jax.Array) -> jax.Array:
            return (losses * result.num_targets).sum() / total

        visual, cross = mean(result.visual), mean(result.cross)
        loss = visual + c.cross_loss_weight * cross
        return loss, {"loss": loss, "visual_loss": visual, "cross_loss": cross}, {}

    def branch_losses(
        self,
        variables: Variables,
        images: jax.Array,
        label: jax.Array,
        perms: jax.Array,
        valid: jax.Array,
        dropout_key: jax.Array | None = None,
    ) -> BranchLoss:
        """Both branches under g permutations at once.

        The image is encoded once; its keys and values serve all permutations. Every permutation's visual prediction
        becomes its own caption, as in the original. Unlike there, the permutations of a step share the dropout mask
        of the content embedding.

        Args:
            images: normalized [b, h, w, 3].
            label: [BOS, characters, EOS, PAD...], int32 [b, t + 1].
            perms: [g, t + 1]; valid: [g], permutations that count.
            dropout_key: None switches dropout off.
        """
        c, tokens, train = self.config, self.tokenizer, dropout_key is not None
        rngs = {} if dropout_key is None else {"dropout": dropout_key}

        def bound() -> CLIP4STR:
            return self.model.bind(variables, rngs=rngs)

        b, t, groups = len(images), label.shape[1] - 1, len(perms)
        ids, targets = label[:, :-1], label[:, 1:]
        known = (ids != tokens.pad_id) & (ids != tokens.eos_id)  # [b, t]
        num_positions = (label != tokens.pad_id).sum(1).max() - 1
        content_mask, query_mask = attention_masks(perms)  # [g, t, t]

        def decode_branch(
            branch: str, ids: jax.Array, memories: list, query_mask: jax.Array, content_mask: jax.Array
        ) -> jax.Array:
            hidden = known[:, None, None]  # [b, 1, 1, t]
            return bound().decoder(branch)(ids, memories, query_mask & hidden, content_mask & hidden, train)

        image = bound().encode_image(images)
        memory = bound().decoder("visual").project_memory(image[:, None])
        visual_logits = decode_branch("visual", ids[:, None], [memory], query_mask, content_mask)

        # EOS is learned from the full and from the empty context only: the first two permutations.
        eos_counts = (jnp.arange(groups) < 2)[:, None]  # [g, 1]
        counts = (targets != tokens.pad_id)[:, None] & ((targets != tokens.eos_id)[:, None] | eos_counts)
        counts &= valid[:, None]  # [b, g, t]
        num_targets = counts.sum((0, 2))

        def mean_loss(logits: jax.Array) -> jax.Array:
            classes = jnp.minimum(targets, tokens.num_classes - 1)[:, None]  # PAD is no class
            losses = optax.softmax_cross_entropy_with_integer_labels(
                logits, jnp.broadcast_to(classes, logits.shape[:-1])
            )
            return jnp.where(counts, losses, 0).sum((0, 2)) / jnp.maximum(num_targets, 1)

        visual = mean_loss(visual_logits)
        if not c.use_language_model:
            return BranchLoss(visual_logits, None, None, visual, jnp.zeros_like(visual), num_targets)

        predicted = visual_logits.argmax(-1)  # [b, g, t]; integers carry no gradient
        captions = bound().captions(predicted.reshape(b * groups, t), num_positions)
        text = bound().encode_caption(captions)
        text = text.reshape(b, groups, *text.shape[1:])  # [b, g, m, d]
        image = bound().cross_image_tokens(image)[:, None]
        memories = [bound().decoder("cross").project_memory(m) for m in (image, text)]
        if c.cross_gt_context:
            context = ids[:, None]
        else:
            bos = jnp.full((b, groups, 1), tokens.bos_id)
            context = jnp.concatenate([bos, predicted[:, :, :-1]], axis=2)
        if c.cross_cloze_mask:
            content_mask = query_mask = jnp.broadcast_to(cloze_mask(t), query_mask.shape)
        cross_logits = decode_branch("cross", context, memories, query_mask, content_mask)
        captions = captions.reshape(b, groups, -1)
        return BranchLoss(visual_logits, cross_logits, captions, visual, mean_loss(cross_logits), num_targets)

    def predict(
        self,
        variables: Variables,
        images: jax.Array,
        mask: jax.Array | None = None,
        max_length: int | None = None,
        stop: Stop = "eos",
    ) -> Prediction:
        """Reads uint8 images [b, h, w, 3] greedily, or [b, v, h, w, 3], v views of each crop of which each branch
        that counts makes a hypothesis, with alternatives if there is a dictionary prior; see `decode` for the options.
        """
        pictures = self.normalize(images.reshape(-1, *images.shape[-3:]))
        decoded = decode(self.model, variables, pictures, max_length, stop, mask)
        if images.ndim == 4:
            return Prediction(decoded.logits.argmax(-1), jax.nn.softmax(decoded.logits).max(-1))
        branches = [decoded.logits, *([decoded.visual[-1]] if self.options.branches == "both" else [])]
        logits = jnp.stack(branches, axis=1).reshape(len(images), -1, *decoded.logits.shape[1:])  # [b, n, t, c]
        alternatives = 1 if self.dictionary_prior is None else min(_ALTERNATIVES, logits.shape[-1])
        probabilities, ids = jax.lax.top_k(jax.nn.softmax(logits), alternatives)
        return Prediction(ids, probabilities)
