"""Shapes of a model's leaves, without making them."""

import jax
import jax.numpy as jnp

from convert.engine import Shape
from tcm_jax import pretrained
from tcm_jax.models.clip import Clip, ClipConfig
from tcm_jax.models.clip4str import Clip4Str, Clip4StrConfig


def template(config: ClipConfig | Clip4StrConfig) -> dict[str, Shape]:
    """Shape of every leaf of the model by path, parameters and running statistics."""
    is_clip = isinstance(config, ClipConfig)
    sizes = config if isinstance(config, ClipConfig) else config.clip
    model = Clip(sizes) if isinstance(config, ClipConfig) else Clip4Str(config)
    images = jnp.zeros((1, *sizes.image_size, 3))
    inputs = (images, jnp.zeros((1, 2), jnp.int32)) if is_clip else (images,)
    variables = jax.eval_shape(model.init, jax.random.key(0), *inputs)
    return {
        p: s for p, s in pretrained.shapes(variables).items() if p.startswith(("params/", "batch_stats/"))
    }
