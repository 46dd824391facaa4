"""How a detector finds text: one value for the Python API, the commands, the recipes and the stored model."""

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from tcm_jax.images.canvas import Canvases, Scale
from tcm_jax.models.layers import DtypeName
from tcm_jax.options import RENAMED, check_choices, from_keywords


@dataclass(frozen=True)
class DetectionOptions:
    """Options of a `Detector`.

    Where scale and coarse_scales are None, the model's own count (section `inference` of its recipe).

    Args:
        scale: resize images to this shorter side, or the longest side if that would be exceeded; without coarse_scales
            that scale alone counts.
        coarse_scales: multi-scale inference: the same for further, ever smaller copies, in which large words are found
            (`multi_scale`); the original has none.
        canvases: few pads resized images to one of a few canvases, each a program that is compiled when it first
            occurs; exact pads as the original does, and compiles a program for every new shape.
        upright: turn images as their EXIF orientation says, as viewers do; the original and its benchmarks don't.
        decoding: values of the family's `Decoding` in place of the model's, such as score_threshold.
        dtype: of the computation; auto is float32 on a CPU, else bfloat16.

    Raises:
        ValueError: a value outside its choices.
    """

    scale: Scale | None = field(default=None, metadata={"metavar": ("LONG", "SHORT")})
    coarse_scales: tuple[Scale, ...] | None = None
    canvases: Canvases = field(default="few", metadata={"flag": "--exact", "const": "exact"})
    upright: bool = field(default=True, metadata={"flag": "--ignore-exif", "const": False})
    decoding: Mapping[str, Any] = field(default_factory=dict)
    dtype: DtypeName = "auto"

    def __post_init__(self) -> None:
        check_choices(self)
        for scale in (*([] if self.scale is None else [self.scale]), *(self.coarse_scales or ())):
            checked_scale(scale)

    @property
    def scales(self) -> list[Scale]:
        """All scales, the longest side first; the first one is `scale`."""
        return [checked_scale(scale) for scale in (self.scale, *(self.coarse_scales or ()))]

    def over(self, own: "DetectionOptions") -> "DetectionOptions":
        """These options where they are given, else the model's `own`."""
        coarse = self.coarse_scales
        if coarse is None:
            coarse = () if self.scale else own.coarse_scales or ()
        return dataclasses.replace(self, scale=self.scale or own.scale, coarse_scales=coarse)

    def __str__(self) -> str:
        """What happens to images before text is detected; "" where the scale is the model's."""
        if self.scale is None:
            return ""
        (long, short), *coarse = self.scales
        also = "; for large words also " + " and ".join(f"{long} x {short}" for long, short in coarse) if coarse else ""
        return f"resized to a shorter side of {short}, at most {long} pixels long{also}"


def checked_scale(scale: Any) -> Scale:
    """The longest side first; ValueError if these are no two sides."""
    try:
        short, long = sorted(int(side) for side in scale)
    except (TypeError, ValueError):
        short = long = 0
    if short < 1:
        raise ValueError(
            f"scale is {scale!r}; expected the longest and the shorter side in pixels, such as (1280, 736)"
        )
    return long, short


def detection_options(options: DetectionOptions | None, keywords: Mapping[str, Any]) -> DetectionOptions:
    """As `from_keywords`; other names than those of fields are values of the decoding."""
    known = {*RENAMED, *(each.name for each in dataclasses.fields(DetectionOptions))}
    decoding = {name: value for name, value in keywords.items() if name not in known}
    given = from_keywords(DetectionOptions, options, {k: v for k, v in keywords.items() if k in known})
    return dataclasses.replace(given, decoding={**given.decoding, **decoding})
