"""CLIP: image towers (ViT, ModifiedResNet), text tower, and the resizing of position embeddings.

Source: openai/CLIP clip/model.py. Unlike there, both towers return all tokens, which text recognition needs.
"""

import math
from dataclasses import dataclass, replace
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax import Array

from tcm_jax.models.convolution import Conv
from tcm_jax.models.layers import Dense, Dtype, Embed, LayerNorm, Transformer, exact_gelu
from tcm_jax.models.resnet import ModifiedResNet

STEM_CELL = 4  # pixels of a side


@dataclass(frozen=True)
class CLIPConfig:
    """Sizes of a CLIP model.

    The image tower is a ModifiedResNet if `vision_layers` is a tuple of four numbers of blocks, else a ViT.
    `vision_stem`, widths of convolutions before the patch embedding of a ViT, is not part of CLIP. It is for small
    models that are trained from scratch.
    """

    embed_dim: int = 512
    image_size: tuple[int, int] = (224, 224)  # height, width in pixels
    patch_size: tuple[int, int] = (16, 16)
    vision_width: int = 768
    vision_layers: int | tuple[int, ...] = 12
    vision_heads: int = 12
    vision_stem: tuple[int, ...] = ()
    text_width: int = 512
    text_layers: int = 12
    text_heads: int = 8
    text_positions: int = 77
    vocab_size: int = 49_408
    activation: str = "quick_gelu"

    @property
    def is_resnet(self) -> bool:
        """Whether the image tower is a ModifiedResNet."""
        return not isinstance(self.vision_layers, int)

    @property
    def grid(self) -> tuple[int, int]:
        """Rows and columns of patches of a ViT.

        Raises:
            ValueError: the image is not divisible into patches, or a patch not into cells of the stem.
        """
        (h, w), (ph, pw) = self.image_size, self.patch_size
        if h % ph or w % pw:
            raise ValueError(f"image size {self.image_size} is not a multiple of the patch size {self.patch_size}")
        if self.vision_stem and (ph % STEM_CELL or pw % STEM_CELL):
            raise ValueError(f"patch size {self.patch_size} is not a multiple of the stem's cells of {STEM_CELL}")
        return h // ph, w // pw


_LARGE = CLIPConfig(
    embed_dim=768,
    patch_size=(14, 14),
    vision_width=1024,
    vision_layers=24,
    vision_heads=16,
    text_width=768,
    text_heads=12,
)
PRESETS = {
    "ViT-B/32": CLIPConfig(patch_size=(32, 32)),
    "ViT-B/16": CLIPConfig(),
    "ViT-L/14": _LARGE,
    "ViT-L/14@336": replace(_LARGE, image_size=(336, 336)),
    # OpenCLIP's own ViT-H/14: exact GELU, 16 heads of 80. CLIP4STR-H reads the same weights with quick GELU and
    # 20 heads of 64, and was fine-tuned that way.
    "ViT-H/14": CLIPConfig(
        embed_dim=1024,
        patch_size=(14, 14),
        vision_width=1280,
        vision_layers=32,
        vision_heads=16,
        text_width=1024,
        text_layers=24,
        text_heads=16,
        activation="gelu",
    ),
}


class Stem(nn.Module):
    """Convolutions before the patch embedding of a ViT, which make it less sensitive to shifts of a letter.

    A linear embedding of cells of 4 x 4 pixels, and for each width a 3 x 3 convolution, GELU and LayerNorm. The idea is
    that of Xiao et al. 2021, "Early Convolutions Help Transformers See Better"; theirs are strided, with BatchNorm.
    """

    widths: tuple[int, ...]
    dtype: Dtype = jnp.float32

    @nn.compact
    def __call__(self, x: Array) -> Array:
        """x [b, h, w, c] -> [b, h / 4, w / 4, widths[-1]]."""
        b, h, w, c = x.shape
        n = STEM_CELL
        x = x.reshape(b, h // n, n, w // n, n, c).transpose(0, 1, 3, 2, 4, 5).reshape(b, h // n, w // n, n * n * c)
        x = Dense(self.widths[0], dtype=self.dtype, name="cells")(x)
        for i, width in enumerate(self.widths):
            y = LayerNorm(name=f"ln_{i}")(exact_gelu(Conv(width, dtype=self.dtype, name=f"conv_{i}")(x)))
            x = x + y if x.shape == y.shape else y
        return x


class VisionTransformer(nn.Module):
    """CLIP's ViT, which returns all tokens."""

    config: CLIPConfig
    dtype: Dtype = jnp.float32
    remat: str = "none"

    def setup(self) -> None:
        """Creates layers and parameters, with the names of the original."""
        c = self.config
        assert isinstance(c.vision_layers, int)  # a tuple is a ModifiedResNet
        scale = nn.initializers.normal(c.vision_width**-0.5)
        rows, columns = c.grid
        patch = c.patch_size
        if c.vision_stem:
            patch = patch[0] // STEM_CELL, patch[1] // STEM_CELL
            self.stem = Stem(c.vision_stem, self.dtype)
        self.conv1 = nn.Conv(c.vision_width, patch, patch, padding="VALID", use_bias=False, dtype=self.dtype)
        self.class_embedding = self.param("class_embedding", scale, (c.vision_width,))
        self.positional_embedding = self.param("positional_embedding", scale, (1 + rows * columns, c.vision_width))
        self.ln_pre = LayerNorm()
        self.transformer = Transformer(
            c.vision_width, c.vision_layers, c.vision_heads, c.activation, self.dtype, self.remat
        )
        self.ln_post = LayerNorm()
        self.proj = self.param("proj", scale, (c.vision_width, c.embed_dim))

    def __call__(self, images: Array, project: bool = True) -> Array:
        """All tokens of normalized `images` [b, h, w, 3], class token first.

        Returns:
            [b, 1 + n, embed_dim], or [b, 1 + n, vision_width] without the projection.

        Raises:
            ValueError: the images have another size than the config says.
        """
        c = self.config
        if images.shape[1:] != (*c.image_size, 3):
            raise ValueError(f"images have shape {images.shape}; expected [b, {c.image_size[0]}, {c.image_size[1]}, 3]")
        x = images.astype(self.dtype)
        x = self.conv1(self.stem(x) if c.vision_stem else x)
        x = x.reshape(x.shape[0], -1, c.vision_width)  # [b, n, d]
        first = jnp.broadcast_to(self.class_embedding.astype(self.dtype), (x.shape[0], 1, c.vision_width))
        x = jnp.concatenate([first, x], axis=1)  # [b, 1 + n, d]
        x = self.ln_pre(x + self.positional_embedding.astype(self.dtype))
        self.sow("intermediates", "ln_pre_out", x)
        x = self.ln_post(self.transformer(x))
        return self.project(x) if project else x

    def project(self, tokens: Array) -> Array:
        """Projects tokens [..., vision_width] to the space shared with text, [..., embed_dim]."""
        return tokens @ self.proj.astype(self.dtype)


class TextTower(nn.Module):
    """CLIP's text tower: its parameters, and its steps after the token embedding."""

    config: CLIPConfig
    dtype: Dtype = jnp.float32
    remat: str = "none"

    def setup(self) -> None:
        """Creates layers and parameters, with the names of the original."""
        c = self.config
        self.token_embedding = Embed(
            c.vocab_size, c.text_width, embedding_init=nn.initializers.normal(0.02), dtype=self.dtype
        )
        self.positional_embedding = self.param(
            "positional_embedding", nn.initializers.normal(0.01), (c.text_positions, c.text_width)
        )
        self.transformer = Transformer(c.text_width, c.text_layers, c.text_heads, c.activation, self.dtype, self.remat)
        self.ln_final = LayerNorm()
        self.text_projection = self.param(
            "text_projection", nn.initializers.normal(c.text_width**-0.5), (c.text_width, c.embed_dim)
        )

    def add_positions(self, x: Array) -> Array:
        """Embedded tokens [b, t, text_width], with the embedding of the first t positions added.

        Raises:
            ValueError: more tokens than positions.
        """
        t = x.shape[1]
        if t > self.config.text_positions:
            raise ValueError(f"{t} text tokens; the position embedding has {self.config.text_positions}")
        return x + self.positional_embedding[:t].astype(self.dtype)

    def transform(self, x: Array) -> Array:
        """The transformer, with a causal mask, and the last LayerNorm: x [b, t, text_width] -> the same shape."""
        return self.ln_final(self.transformer(x, jnp.tri(x.shape[1], dtype=bool)))

    def project_text(self, x: Array) -> Array:
        """Projects features [..., text_width] to the space shared with images, [..., embed_dim]."""
        return x @ self.text_projection.astype(self.dtype)


class CLIP(TextTower):
    """Both towers. The text tower's parameters are at the top level of the tree, as in PyTorch."""

    def setup(self) -> None:
        """Creates the image tower and the temperature, and what the text tower has."""
        super().setup()
        tower = ModifiedResNet if self.config.is_resnet else VisionTransformer
        self.visual = tower(self.config, self.dtype, self.remat)
        self.logit_scale = self.param("logit_scale", nn.initializers.constant(math.log(1 / 0.07)), ())

    def encode_image(self, images: Array, project: bool = True) -> Array:
        """All tokens of images [b, h, w, 3], see `VisionTransformer`; the pooled one of a ModifiedResNet, [b, 1, d].

        Raises:
            ValueError: `project` is False for a ModifiedResNet; its attention pooling and projection are one layer.
        """
        tower: Any = self.visual
        if not self.config.is_resnet:
            return tower(images, project)
        if not project:
            raise ValueError("a ModifiedResNet has no unprojected token output")
        return tower(images).tokens

    def encode_text(self, ids: Array, project: bool = True) -> Array:
        """Features at every position of token ids [b, t], t <= text_positions: [b, t, embed_dim or text_width].

        Positions after EOT have features too: CLIP has a causal mask, but no padding mask.
        """
        x = self.transform(self.add_positions(self.token_embedding(ids)))
        return self.project_text(x) if project else x

    def __call__(self, images: Array, ids: Array) -> Array:
        """Scaled cosine similarity of class tokens and EOT features, logits_per_image [number of images, of texts]."""
        features = self.encode_image(images)[:, 0], eot_feature(self.encode_text(ids), ids)
        image, text = (x / jnp.linalg.norm(x, axis=-1, keepdims=True) for x in features)
        return jnp.exp(self.logit_scale) * image @ text.T


def eot_feature(features: Array, ids: Array) -> Array:
    """Features [b, d] at the first end-of-text token, which has the highest id, of `features` [b, t, d]."""
    return jnp.take_along_axis(features, ids.argmax(-1)[:, None, None], axis=1)[:, 0]


def resize_positional_embedding(table: Array, old: tuple[int, int], new: tuple[int, int]) -> Array:
    """A ViT's position embedding, resized to another patch grid.

    Bicubic as PyTorch's `interpolate(mode="bicubic", antialias=False)`; JAX's "cubic" has another kernel.

    Args:
        table: [1 + rows * columns, d] of the grid `old`, class token first.
        old, new: (rows, columns).

    Returns:
        [1 + new rows * new columns, d].

    Raises:
        ValueError: the table has another number of rows than `old` asks for.
    """
    if old == new:
        return table
    if len(table) != (needed := 1 + math.prod(old)):
        raise ValueError(f"the position table has {len(table)} rows; a {old[0]}x{old[1]} grid needs {needed}")
    d = table.shape[1]
    method = jax.image.ResizeMethod.CUBIC_PYTORCH
    grid = jax.image.resize(table[1:].reshape(*old, d), (*new, d), method, antialias=False)
    return jnp.concatenate([table[:1], grid.reshape(-1, d)])
