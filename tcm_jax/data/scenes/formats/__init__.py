"""The annotation formats by name; see `base` for what a format is.

Modules of this package define one or several `AnnotationFormat` or `SetFormat`, which are listed here. Where a file
is of several formats, the first one that recognises it counts.
"""

from tcm_jax.data.scenes.formats import art, coco, ctw1500, jsonl, lines, synthtext, total_text
from tcm_jax.data.scenes.formats.base import Format

_LISTED: tuple[Format, ...] = (
    # One file for each image. A line of MLT, TD500 or CTW1500 is also one of ICDAR2015.
    lines.ICDAR2013,
    lines.MLT,
    lines.TD500,
    total_text.TOTAL_TEXT,
    ctw1500.CTW1500,
    lines.ICDAR2015,
    # One file for all images.
    jsonl.JSONL,
    art.ART,
    synthtext.SYNTHTEXT,
    coco.CURVED_SYNTHTEXT,
    coco.TEXTOCR,
    coco.COCO_TEXT,
)

FORMATS: dict[str, Format] = {format.name: format for format in _LISTED}
