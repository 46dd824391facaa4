"""Images on larger canvases: layers that look at neighbours see at an image's border what they see at a canvas's."""

import contextlib
from collections.abc import Sequence
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp


def hide_padding(size: jax.Array, canvas: Sequence[int]) -> contextlib.AbstractContextManager:
    """A context in which the maps of a detector don't depend on what surrounds the images on their canvas.

    Which layers look at neighbours, and what they are to see there, they say themselves by an attribute `border`:
    "zeros" for convolutions, "edge" for bilinear enlargement, which repeats the last values. XLA fuses both with what
    comes before; they cost no time that can be measured.

    Args:
        size: height and width of the images on the canvas, int [b, 2], multiples of the coarsest stride.
        canvas: its height and width.
    """

    def places(x: jax.Array, axis: int) -> tuple[jax.Array, jax.Array]:
        """Rows (axis 0) or columns (1) of a map x [b, h, w, d], and how many belong to each image, [b, 1]."""
        length = x.shape[1 + axis]
        return jnp.arange(length), size[:, axis, None] * length // canvas[axis]

    def zeroed(x: jax.Array) -> jax.Array:
        rows, columns = (at < inside for at, inside in (places(x, 0), places(x, 1)))  # [b, h], [b, w]
        return jnp.where((rows[:, :, None] & columns[:, None])[..., None], x, 0)

    def repeated(x: jax.Array) -> jax.Array:
        for axis in (0, 1):
            at, inside = places(x, axis)
            nearest = jnp.expand_dims(jnp.minimum(at, inside - 1), (2 - axis, 3))  # [b, h, 1, 1] or [b, 1, w, 1]
            x = jnp.take_along_axis(x, nearest, 1 + axis)
        return x

    def interceptor(call: Any, arguments: Any, options: Any, context: nn.module.InterceptorContext) -> Any:
        border = getattr(context.module, "border", None) if context.method_name == "__call__" else None
        if border:
            hide = zeroed if border == "zeros" else repeated
            arguments = (jax.tree.map(hide, arguments[0]), *arguments[1:])  # a map or a list of levels
        return call(*arguments, **options)

    return nn.intercept_methods(interceptor)
